"""Evaluation of an experiment: table, summary, figures and run folder."""

import math
import warnings
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.resources import files
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analogmed.analog import left_digital, to_aihwkit
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.analog.description.device_models import check_times
from analogmed.data import Task
from analogmed.evaluation.costs import cost_of
from analogmed.evaluation.deploy import to_tiles
from analogmed.evaluation.examples import FOLDER as EXAMPLES
from analogmed.evaluation.examples import write_examples
from analogmed.evaluation.network_check import check_network
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.studies.robustness.campaign import SweepRunner
from analogmed.evaluation.summaries.comparison import compare_models
from analogmed.evaluation.summaries.failure_time import time_to_failure
from analogmed.evaluation.summaries.runs import notes_of
from analogmed.evaluation.summaries.summary import over_time, summarise
from analogmed.execution.run_folder import WrittenFiles, in_run_folder, write_environment
from analogmed.execution.store import Store
from analogmed.foundation.credentials import masked
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import ensure_writable, write_text_atomically
from analogmed.foundation.settings.plain import to_yaml
from analogmed.foundation.time_constants import DAY_S
from analogmed.hardware import load_profile
from analogmed.metrics.notes import RESULT_NOTES
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import metric as metric_of
from analogmed.report import drop_per_model, metric_over_time
from analogmed.report.figures.over_time import measured_losses
from analogmed.tables.estimates import metrics_of, of_metric
from analogmed.tables.robustness import COMPARISON, CURVES, RESULTS, SUMMARY, TIME_TO_FAILURE
from analogmed.training import Checkpoint, CheckpointInfo, load_checkpoint

N_BOOT = 2000
LEVEL = 0.95
KEPT_SHARE = 0.95


_ALWAYS = (
    "curves.csv",
    "environment.json",
    "experiment.yaml",
    "results.csv",
    "results.parquet",
    "summary.csv",
)
_EXAMPLES = f"{EXAMPLES}/*.npz"
_NOT_ALWAYS = (
    "comparison.csv",
    "time_to_failure.csv",
    "figures/drop_per_model.png",
)
"""Files that are written only if a run has values for them."""


@dataclass(frozen=True)
class Results:
    """Results of an evaluation.

    Attributes:
        experiment: settings of the evaluation.
        table: long results table.
        costs: tiles, utilisation, reuse, parameters and coverage of each model and training; with
            a profile, also estimates of time and energy.
        units: number of units in the table, digital runs and chips.
        reused: number of units reused from an earlier run.
        failures: title and cause of each failed unit.
        computed: times at which the first and the last reused unit were computed; ``None`` if
            unknown.
    """

    experiment: Experiment
    table: pd.DataFrame
    costs: pd.DataFrame
    units: int = 0
    reused: int = 0
    failures: tuple[str, ...] = ()
    computed: tuple[datetime, datetime] | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, the primary one first."""
        return self.experiment.metrics or (self.experiment.primary_metric,)

    @property
    def _bootstrap(self) -> dict[str, Any]:
        return {"n_boot": N_BOOT, "level": LEVEL, "seed": self.experiment.seed}

    def reuse(self) -> str:
        """Return a sentence about the reused results; empty if all are new."""
        if not self.reused:
            return ""
        store = masked(str(self.experiment.store or self.experiment.folder))
        times = [time.astimezone().strftime("%Y-%m-%d %H:%M") for time in self.computed or ()]
        when = f", computed {' to '.join(dict.fromkeys(times))}" if times else ""
        return (
            f"{self.reused} of {self.units} digital runs and chips are reused from {store}{when}; "
            "--restart true computes them again"
        )

    def summary(self) -> pd.DataFrame:
        """Return all metrics on the chip, their drops, and the cost of each model and training."""
        robustness = summarise(self.table, metrics=self.metrics, **self._bootstrap)
        return robustness.merge(self.costs, on=["model", "training"], how="left")

    def curves(self) -> pd.DataFrame:
        """Return all metrics of each network at each time, with intervals."""
        parts = (over_time(self.table, name, **self._bootstrap) for name in self.metrics)
        return pd.concat(parts, ignore_index=True)

    def comparison(self) -> pd.DataFrame:
        """Compare each pair of networks on the chip after one day, with Holm's correction.

        The correction covers the pairs of one metric. Empty if the sweep lacks this time. A metric
        is left out, with a warning, if the networks have different cases because of failures.
        """
        if DAY_S not in self.experiment.sweep.times_s:
            return pd.DataFrame()
        parts = []
        for name in self.metrics:
            try:
                parts.append(compare_models(self.table, metric=name, **self._bootstrap))
            except DataError as error:
                warnings.warn(f"networks are not compared: {error}", stacklevel=2)
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def limit(self, curves: pd.DataFrame, metric: str = "") -> float:
        """Return the worst acceptable value of a metric on a chip.

        Args:
            curves: result of :meth:`curves`.
            metric: name of the metric; by default the primary one.

        Returns:
            Of the primary metric ``limit`` of the experiment. By default 0.95 of the best digital
            value, or a 0.95th of it where lower is better; NaN if no digital run has a value.
        """
        metric = metric or self.metrics[0]
        if self.experiment.limit is not None and metric == self.metrics[0]:
            return self.experiment.limit
        rows = curves[(curves["metric"] == metric) & (curves["hardware"] == "digital")]
        if is_lower_better(metric):
            return round(float(rows["estimate"].min()) / KEPT_SHARE, 3)
        return round(KEPT_SHARE * float(rows["estimate"].max()), 3)

    def failures_over_time(self, curves: pd.DataFrame) -> pd.DataFrame:
        """Return the time to failure of each network by each metric that has a limit."""
        limits = {metric: self.limit(curves, metric) for metric in self.metrics}
        parts = [
            time_to_failure(curves[curves["metric"] == metric], limit)
            for metric, limit in limits.items()
            if math.isfinite(limit)
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and figures into a run folder.

        Files of an earlier run that this one does not write are removed.

        Raises:
            ConfigError: a file of this name exists that no run has written.
        """
        written = _claimed(folder, self.experiment)
        optional = (*_NOT_ALWAYS, *_figures(self.experiment))
        written.remove(*optional, _EXAMPLES)
        written.record(*optional)
        summary = self.summary()
        write_text_atomically(folder / "experiment.yaml", to_yaml(self.experiment))
        write_environment(folder)
        RESULTS.write(self.table, folder)
        SUMMARY.write(summary, folder)
        curves = self.curves()
        CURVES.write(curves, folder)
        _draw(summary, curves, folder / "figures")
        failures = self.failures_over_time(curves)
        if not failures.empty:
            TIME_TO_FAILURE.write(failures, folder)
        comparison = self.comparison()
        if not comparison.empty:
            COMPARISON.write(comparison, folder)
        written.settle()


def _draw(summary: pd.DataFrame, curves: pd.DataFrame, folder: Path) -> None:
    """Draw the figures that have values; chips or digital runs can have failed."""
    for name, part in curves.groupby("metric", sort=False):
        if part.loc[part["time_s"].notna(), "estimate"].notna().any():
            metric_over_time(part, folder / f"{name}_over_time.png")
    primary, *others = metrics_of(summary.columns)
    names = {
        primary: "drop_per_model.png",
        **{name: f"{name}_drop_per_model.png" for name in others},
    }
    for metric, name in names.items():
        if measured_losses(of_metric(summary, metric)):
            drop_per_model(summary, folder / name, metric=metric)


def _claimed(folder: Path, experiment: Experiment) -> WrittenFiles:
    """Reserve the names of all files that a run may write."""
    written = WrittenFiles(folder)
    written.claim(*_ALWAYS, *_NOT_ALWAYS, *_figures(experiment), _EXAMPLES)
    return written


def _figures(experiment: Experiment) -> list[str]:
    names = experiment.metrics
    drops = [f"figures/{name}_drop_per_model.png" for name in names[1:]]
    return [*(f"figures/{name}_over_time.png" for name in names), *drops]


@in_run_folder
def evaluate(experiment: Experiment) -> Results:
    """Evaluate trained networks, digitally and on chips, and write the run folder.

    Units (one network run digitally, or one chip) that a stopped run has finished are taken from
    the store. Failed units are rows with their error and are listed in ``Results.failures``; the
    next run computes them again.

    Args:
        experiment: networks, data, hardware and further settings.

    Returns:
        The results, as written into the run folder.

    Raises:
        ConfigError: settings conflict, another run is writing to the run folder, the run folder
            contains files of other origin, or a folder or store cannot be written.
        DataError: a case cannot be read. CheckpointError: a network cannot be read.
        LeakageError: a network has been trained on a test patient.
        AnalogmedError: every unit failed.
        KeyboardInterrupt: the run was interrupted; the message reports the number of stored units.
    """
    check_settings(experiment)
    folder = ensure_writable(experiment.folder)
    task = experiment.task.load()
    experiment = experiment.for_task(task)
    _claimed(folder, experiment)
    store = Store(experiment.store or folder)
    store.ensure_writable()
    checkpoints = [
        load_checkpoint(path, factories=experiment.factories)
        for path in checkpoint_paths(experiment)
    ]
    for checkpoint in checkpoints:
        checkpoint.info.check_fits(task, checkpoint.path)
        checkpoint.info.refuse_leakage(task, checkpoint.path)
        check_network(checkpoint, task, experiment)
        tell_differences(checkpoint, task, experiment)
    _refuse_twins(checkpoints)
    _tell_other_tiles(checkpoints, experiment)
    experiment = replace(experiment, checkpoints=tuple(c.path for c in checkpoints))
    costs = [cost_of(checkpoint, experiment, task) for checkpoint in checkpoints]
    found = SweepRunner(experiment, task, checkpoints, store).run()
    results = Results(
        experiment,
        found.table,
        pd.DataFrame(costs),
        found.units,
        found.reused,
        found.failures,
        found.computed,
    )
    results.write(folder)
    if experiment.examples and notes_of(found.table).isin(RESULT_NOTES).all():
        n_cases = experiment.examples
        write_examples(experiment, task, checkpoints, found.table, folder, n_cases=n_cases)
    return results


def checkpoint_paths(experiment: Experiment) -> tuple[Path, ...]:
    """Return the experiment's checkpoints, or the shipped ones of its task.

    Raises:
        ConfigError: no checkpoints are given, and none are shipped for the task.
    """
    if experiment.checkpoints:
        return experiment.checkpoints
    shipped = Path(str(files("analogmed") / "checkpoints" / experiment.task.name))
    found = tuple(sorted(shipped.glob("*.safetensors")))
    if not found:
        raise ConfigError(
            f"no network is shipped for task '{experiment.task.name}'; train one with "
            "python -m analogmed.train and give its file with --checkpoints"
        )
    return found


def check_settings(experiment: Experiment) -> None:
    """Raise a ConfigError for settings that would fail only after the first network has run."""
    if experiment.profile is not None:
        load_profile(experiment.profile).figures(experiment.level)
    for metric in experiment.metrics:
        metric_of(metric)
    hardware = experiment.hardware
    check_times(hardware.noise_model, experiment.sweep.times_s, hardware.preset)
    try:
        torch.empty(0, device=experiment.device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device '{experiment.device}' is not there: {error}") from error


def tell_differences(checkpoint: Checkpoint, task: Task, experiment: Experiment) -> None:
    """Warn if a network is used on data or hardware other than in its training."""
    info = checkpoint.info
    differences = []
    if info.task != task.name:
        differences.append(f"on {info.task}, not on {task.name}")
    if info.window and info.window != task.window:
        differences.append(f"on images of {info.window}, not of {task.window} (task.size)")
    if info.hardware and not info.is_for(experiment.hardware, info.row_split):
        differences.append(f"for another chip ({info.hardware['preset']} and its arguments)")
    hardware = rpu_config_of(experiment.hardware)
    if checkpoint.scaled_layers and not info.has_tiles(hardware, experiment.row_split):
        differences.append(_with_other_scales(info))
    newly_on_tiles, newly_digital = _moved_layers(checkpoint, experiment)
    for then, now, names in (
        ("digital", "on tiles", newly_on_tiles),
        ("on tiles", "digital", newly_digital),
    ):
        if names:
            listed = ", ".join(sorted(names))
            differences.append(f"with {listed} {then}, here {now} (digital_layers, backend)")
    fits = not newly_on_tiles and info.has_input_converters(hardware, experiment.row_split)
    if checkpoint.input_ranges and hardware.pre_post.input_range.enable and not fits:
        differences.append("with input ranges that do not fit here, and are set anew")
    if differences:
        warnings.warn(f"{checkpoint.path} was trained {'; '.join(differences)}", stacklevel=3)


def _with_other_scales(info: CheckpointInfo) -> str:
    trained = {name: info.hardware[name] for name in ("learned_out_scale", "tile_size")}
    return (
        "with learned output scales of other tiles, which are multiplied into its weights here "
        f"(its own are hardware {trained}, row_split {info.row_split})"
    )


def _moved_layers(checkpoint: Checkpoint, experiment: Experiment) -> tuple[set[str], set[str]]:
    """Return the layers on tiles here that were digital in training, and vice versa."""
    if checkpoint.info.digital_layers is None:
        return set(), set()
    trained, here = set(checkpoint.info.digital_layers), _left_digital(checkpoint, experiment)
    return trained - here, here - trained


def _tell_other_tiles(checkpoints: list[Checkpoint], experiment: Experiment) -> None:
    """Warn if the trainings of one model have different digital layers."""
    if experiment.digital_layers is not None or not any(c.info.digital_layers for c in checkpoints):
        return
    left = {checkpoint.path: _left_digital(checkpoint, experiment) for checkpoint in checkpoints}
    for pair in combinations(checkpoints, 2):
        most, least = sorted(pair, key=lambda c: len(left[c.path]), reverse=True)
        if most.info.model == least.info.model and left[most.path] != left[least.path]:
            names, others = (sorted(left[c.path]) for c in (most, least))
            warnings.warn(
                f"{most.path} has {', '.join(names)} digital, {least.path} "
                f"{', '.join(others) or 'no layer'}, each as in its training; to compare them on "
                f"the same, give --digital_layers {' '.join(names)}",
                stacklevel=3,
            )


def _left_digital(checkpoint: Checkpoint, experiment: Experiment) -> set[str]:
    analog = to_tiles(checkpoint, experiment)
    return set(left_digital(to_aihwkit(analog) if experiment.backend == "aihwkit" else analog))


def _refuse_twins(checkpoints: list[Checkpoint]) -> None:
    seen: dict[tuple[str, str], Path] = {}
    for checkpoint in checkpoints:
        key = (checkpoint.info.model, checkpoint.info.training)
        if key in seen:
            raise ConfigError(
                f"{checkpoint.path} and {seen[key]} are both {key[0]} with {key[1]} training; the "
                "results table tells networks apart by these two: evaluate them in two runs"
            )
        seen[key] = checkpoint.path
