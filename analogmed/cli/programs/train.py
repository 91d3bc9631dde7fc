"""Program of ``analogmed train``: digital or hardware-aware training of a network."""

from analogmed.cli.study import is_first_process, logged_training, next_command
from analogmed.evaluation.settings import Experiment
from analogmed.training import load_checkpoint, train
from analogmed.training.log import logged_metric
from analogmed.training.outcome import outcome_of
from analogmed.training.preparation import digital_stage
from analogmed.training.settings import TrainConfig


def run(config: TrainConfig) -> None:
    """Train the network and print a summary of the result."""
    with logged_training(config.folder):
        path = train(config)
    if is_first_process():
        info = load_checkpoint(path, factories=(config.model.name,)).info
        where = "on chips after a day" if info.training == "hwa" else "digital"
        label = logged_metric(config.folder).label
        print(f"{path}: {info.model}, validation {label} {info.score:.3f} ({where})")
        if config.training == "hwa":
            print(f"{label} on validation cases: {outcome_of(config.folder)}")
        print(f"log and curves: {config.folder}/; evaluate it with")
        print(_evaluation(config, info.model))


def _evaluation(config: TrainConfig, model: str) -> str:
    """Return the command that evaluates a run with the same data, split and chip."""
    stage = digital_stage(config)
    experiment = Experiment(
        task=config.task,
        checkpoints=(config.folder,) if stage is None else (stage.folder, config.folder),
        factories=(model,) if ":" in model else (),
        hardware=config.hardware,
        digital_layers=config.digital_layers or None,
    )
    return next_command("eval", experiment)
