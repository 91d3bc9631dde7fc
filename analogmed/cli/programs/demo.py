"""Program of ``analogmed demo``: two trainings of a U-Net on two kinds of chip."""

import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analogmed.analog.description.device_models import device_model
from analogmed.analog.description.hardware import Hardware
from analogmed.cli.evaluation import DemoConfig
from analogmed.cli.programs.evaluate import refuse_failures
from analogmed.data.settings import TaskConfig
from analogmed.evaluation import evaluate
from analogmed.evaluation.preparation import checkpoint_paths
from analogmed.evaluation.settings import Experiment, SweepConfig
from analogmed.foundation.files import removed_if_refused, write_text_atomically
from analogmed.foundation.strict_yaml import dump_yaml
from analogmed.foundation.time_constants import DAY_S, MONTH_S, T0_S
from analogmed.report import render_evaluation, write_report
from analogmed.report.findings import findings
from analogmed.report.names import hardware_name, network_name
from analogmed.report.run import Run
from analogmed.report.runs import read_run
from analogmed.report.tables.terminal import WIDTH
from analogmed.report.text import in_lines
from analogmed.training import load_checkpoint

NETWORKS = ("unet-digital", "unet-hwa")
_TIMES_S = (T0_S, DAY_S, MONTH_S)
_SPLIT = "split.yaml"
_OTHER_CHIP = r".* was trained for another chip \([\w-]+ and its arguments\)$"


def run(settings: DemoConfig) -> None:
    """Evaluate on each kind of chip; print tables and findings; write the page.

    The page and the text start with the kind of chip on which the Dice drops most.

    Raises:
        AnalogmedError: a unit of work failed.
    """
    start = time.monotonic()
    with warnings.catch_warnings(), removed_if_refused(settings.out, _SPLIT):
        planned = experiments(settings)
        warnings.filterwarnings("ignore", _OTHER_CHIP)  # printed below
        results = [evaluate(experiment) for experiment in planned]
    for found in results:
        if found.reuse:
            print(found.reuse)
    folders = [found.experiment.folder for found in results]
    runs = {folder: read_run(folder) for folder in folders}
    folders.sort(key=lambda folder: runs[folder].tables["summary"]["drop_1d"].max(), reverse=True)
    page, *_ = write_report(folders, settings.out)
    print("A U-Net, trained digitally and hardware-aware, on synthetic heads with a glioma.\n")
    print(_tables([runs[folder] for folder in folders]))
    sentences = [text for folder in folders for text in findings(runs[folder])[:1]]
    for sentence in [*sentences, *_trained_for(planned[0].checkpoints)]:
        print(in_lines(sentence, WIDTH))
    print("Your own network: README.md, section 'Your own network in six lines'.")
    print(f"{time.monotonic() - start:.0f} s; page with figures and example cases: {page}")
    for found in results:
        refuse_failures(found)


def experiments(settings: DemoConfig) -> list[Experiment]:
    """Return one evaluation per kind of chip, and write the split of the patients."""
    paths = [path for path in checkpoint_paths(Experiment()) if path.stem in NETWORKS]
    task = _task(paths, settings)
    return [
        Experiment(
            task=task,
            checkpoints=tuple(paths),
            hardware=Hardware(preset),
            sweep=SweepConfig(settings.chips, _times_s(Hardware(preset))),
            engine=settings.engine,
            out=settings.out / preset,
            restart=settings.restart,
        )
        for preset in settings.presets
    ]


def _task(paths: Sequence[Path], settings: DemoConfig) -> TaskConfig:
    """Return the brain phantom with test patients that no network was trained on."""
    trained = {name for path in paths for name in load_checkpoint(path).info.patients}
    options = {"phantom_patients": len(trained) + settings.patients}
    task = TaskConfig(options=options).load()
    patients = sorted({case.patient_id for case in (*task.train, *task.validation, *task.test)})
    split = {
        "train": [name for name in patients if name in trained],
        "test": [name for name in patients if name not in trained][: settings.patients],
    }
    file = settings.out / _SPLIT
    return TaskConfig(split_file=write_text_atomically(file, dump_yaml(split)), options=options)


def _times_s(hardware: Hardware) -> tuple[float, ...]:
    """Return t0, one day and one month, or the times that the devices are defined at."""
    return device_model(hardware.noise_model).known_times() or _TIMES_S


def _tables(runs: Sequence[Run]) -> str:
    summary, curves = (
        pd.concat([run.tables[name] for run in runs], ignore_index=True)
        for name in ("summary", "curves")
    )
    return render_evaluation(summary, curves)


def _trained_for(paths: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence on the chip that each hardware-aware network was trained for."""
    for path in paths:
        info = load_checkpoint(path).info
        if info.hardware:
            network, chips = network_name(info.model, info.training), info.hardware["preset"]
            yield f"The {network} was trained for {hardware_name(chips)} chips."
