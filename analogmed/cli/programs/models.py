"""Programs of ``analogmed models``: weights from elsewhere, and for other programs."""

from analogmed.cli.settings import ExportConfig, ImportConfig
from analogmed.cli.study import next_command
from analogmed.data import Task
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import ConfigError
from analogmed.training import load_checkpoint
from analogmed.training.checkpoint.exchange import PROGRAM, export_weights, import_checkpoint


def run_import(settings: ImportConfig) -> None:
    """Write the checkpoint, and print what it contains and how to evaluate it."""
    task = settings.task.load()
    patients = _patients(settings, task)
    info = import_checkpoint(
        settings.out,
        settings.weights,
        task=task,
        model=settings.model,
        patients=patients,
        expected_score=settings.expected_score,
    )
    print(
        f"{settings.out}: {info.model}; channels {', '.join(info.channels)}; classes "
        f"{', '.join(info.classes)}; window {' x '.join(map(str, info.window))}; patients of its "
        f"training: {len(patients)}"
    )
    experiment = Experiment(
        task=settings.task,
        checkpoints=(settings.out,),
        factories=(info.model,) if ":" in info.model else (),
    )
    print("evaluate it with")
    print(next_command("eval", experiment))


def run_export(settings: ExportConfig) -> None:
    """Write the weights or the network of a checkpoint, and print how to read the file."""
    checkpoint = load_checkpoint(settings.checkpoint, factories=settings.factories)
    export_weights(settings.out, checkpoint)
    what = "network" if settings.out.suffix == PROGRAM else "state dict"
    print(f"{settings.out}: {what} of {type(checkpoint.network).__name__}; read it with")
    print(_READ_WITH.get(settings.out.suffix, _LOAD).format(settings.out))


_LOAD = "torch.load('{}', weights_only=True)"
_READ_WITH = {
    PROGRAM: "torch.export.load('{}').module()",
    ".safetensors": "safetensors.torch.load_file('{}')",
}


def _patients(settings: ImportConfig, task: Task) -> tuple[str, ...]:
    """Return the patients that the training has seen.

    Raises:
        ConfigError: they are not given, and the split has none under train and validation.
    """
    if settings.patients is not None:
        return settings.patients
    seen = {case.patient_id for case in (*task.train, *task.validation)}
    if not seen:
        raise ConfigError(
            "--patients: expected the patients that training or selection has seen, because the "
            "split has none under train and validation. Write --patients alone for none."
        )
    return tuple(sorted(seen))
