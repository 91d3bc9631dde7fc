"""Evaluation of an experiment: table, summary, figures and run folder."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.data import Task
from analogmed.evaluation.costs import cost_of
from analogmed.evaluation.examples import FOLDER as EXAMPLES
from analogmed.evaluation.examples import write_examples
from analogmed.evaluation.preparation import prepare, warn_on_placement_mismatch
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.statistics.intervals import LEVEL, N_BOOT
from analogmed.evaluation.studies.robustness.failures import failure_table
from analogmed.evaluation.studies.robustness.strips import write_strips
from analogmed.evaluation.studies.robustness.units import Plan
from analogmed.evaluation.studies.robustness.worker import Worker
from analogmed.evaluation.summaries.chip_losses import chip_losses
from analogmed.evaluation.summaries.class_scores import class_scores, time_of_classes
from analogmed.evaluation.summaries.comparison import compare_models
from analogmed.evaluation.summaries.expected import warn_on_unexpected_score
from analogmed.evaluation.summaries.failure_time import time_to_failure
from analogmed.evaluation.summaries.runs import notes_of
from analogmed.evaluation.summaries.sequential import first_chips, more_chips
from analogmed.evaluation.summaries.summary import over_time, summarise
from analogmed.evaluation.unit_runs import describe_reuse, open_store, run_units
from analogmed.execution.compute import Outcome
from analogmed.execution.plans import Finished, Rounds
from analogmed.execution.run_folder import RunFolder, in_run_folder
from analogmed.execution.store import Store, UnitResult
from analogmed.foundation.errors import DataError
from analogmed.foundation.progress import announce
from analogmed.foundation.settings.forms import takes_keywords
from analogmed.foundation.text import Rendered, shortened
from analogmed.foundation.time_constants import DAY_S, time_label
from analogmed.metrics.notes import RESULT_NOTES
from analogmed.metrics.properties import chance_of, is_lower_better
from analogmed.report import drop_per_model, metric_over_time
from analogmed.report.figures.over_time import measured_drops
from analogmed.tables.estimates import KEPT_START, changed_chip, metrics_of, of_metric
from analogmed.tables.results import COLUMNS, RESULTS
from analogmed.tables.robustness import (
    CHIP_LOSSES,
    CLASS_SCORES,
    COMPARISON,
    CURVES,
    STRIP_IMAGES,
    STRIP_SIGNALS,
    SUMMARY,
    TIME_TO_FAILURE,
)
from analogmed.tables.table import Table
from analogmed.training import Checkpoint, CheckpointInfo

KEPT_SHARE = 0.95


_EXAMPLES = f"{EXAMPLES}/*.npz"
_NOT_ALWAYS: tuple[Table | str, ...] = (
    CHIP_LOSSES,
    CLASS_SCORES,
    COMPARISON,
    STRIP_IMAGES,
    STRIP_SIGNALS,
    TIME_TO_FAILURE,
    "figures/drop_per_model.png",
)
"""Files that are written only if a run has values for them."""


@dataclass(frozen=True, repr=False)
class Results(Rendered):
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
        kept_starts: model and training of the networks whose training kept its start.
    """

    experiment: Experiment
    table: pd.DataFrame
    costs: pd.DataFrame
    units: int = 0
    reused: int = 0
    failures: tuple[str, ...] = ()
    computed: tuple[datetime, datetime] | None = None
    kept_starts: frozenset[tuple[str, str]] = frozenset()

    def facts(self) -> dict[str, object]:
        """Return networks, metrics, numbers of patients, chips and times, and the run folder."""
        networks = self.table[["model", "training"]].drop_duplicates().itertuples(index=False)
        return {
            "networks": shortened(tuple(", ".join(map(str, pair)) for pair in networks)),
            "chips": f"{self.table['chip'].nunique()} of {self.experiment.hardware.preset}",
            "patients": self.table["patient"].nunique(),
            "times": shortened(tuple(map(time_label, self.experiment.sweep.times_s))),
            "metrics": shortened(self.metrics),
            "failed units": len(self.failures),
            "folder": self.experiment.folder,
        }

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, the primary one first."""
        return self.experiment.metrics or (self.experiment.primary_metric,)

    @property
    def _bootstrap(self) -> dict[str, Any]:
        return {"n_boot": N_BOOT, "level": LEVEL, "seed": self.experiment.seed}

    @property
    def reuse(self) -> str:
        """Sentence about units that are reused from an earlier run; empty if all are new."""
        return describe_reuse(self, self.experiment, "digital runs and chips")

    def summary(self) -> pd.DataFrame:
        """Return all metrics on the chip, their drops, and the cost of each model and training."""
        robustness = summarise(self.table, metrics=self.metrics, **self._bootstrap)
        networks = zip(robustness["model"], robustness["training"], strict=True)
        changed = changed_chip(self.experiment.hardware.changes)
        robustness["note"] = [
            "; ".join(
                filter(None, (note, KEPT_START if network in self.kept_starts else "", changed))
            )
            for note, network in zip(robustness["note"], networks, strict=True)
        ]
        return robustness.merge(self.costs, on=["model", "training"], how="left")

    def curves(self) -> pd.DataFrame:
        """Return all metrics of each network at each time, with intervals."""
        parts = (over_time(self.table, name, **self._bootstrap) for name in self.metrics)
        return pd.concat(parts, ignore_index=True)

    def chip_losses(self) -> pd.DataFrame:
        """Return by how much each chip is worse than the digital run, in each metric and time."""
        parts = [chip_losses(self.table, name) for name in self.metrics]
        known = [part for part in parts if not part.empty]
        return pd.concat(known, ignore_index=True) if known else pd.DataFrame()

    def class_scores(self) -> pd.DataFrame:
        """Return all metrics of each class, digitally and after one day, with intervals.

        Empty for a single class. Without one day in the sweep, its last time is taken.
        """
        time_s = time_of_classes(self.experiment.sweep.times_s)
        parts = [class_scores(self.table, name, time_s, **self._bootstrap) for name in self.metrics]
        known = [part for part in parts if not part.empty]
        return pd.concat(known, ignore_index=True) if known else pd.DataFrame()

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
            value, above chance where the metric has a chance level, or a 0.95th of it where lower
            is better; NaN if no digital run has a value.
        """
        metric = metric or self.metrics[0]
        if self.experiment.limit is not None and metric == self.metrics[0]:
            return self.experiment.limit
        rows = curves[(curves["metric"] == metric) & (curves["hardware"] == "digital")]
        if is_lower_better(metric):
            return round(float(rows["estimate"].min()) / KEPT_SHARE, 3)
        chance = chance_of(metric)
        return round(chance + KEPT_SHARE * (float(rows["estimate"].max()) - chance), 3)

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
        run = _run_folder(folder, self.experiment)
        run.renew(self.experiment)
        summary = self.summary()
        run.write(RESULTS, self.table)
        run.write(SUMMARY, summary)
        curves = self.curves()
        run.write(CURVES, curves)
        _draw(summary, curves, folder / "figures")
        run.write(CLASS_SCORES, self.class_scores())
        run.write(CHIP_LOSSES, self.chip_losses())
        run.write(TIME_TO_FAILURE, self.failures_over_time(curves))
        run.write(COMPARISON, self.comparison())
        run.files.settle()


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
        if measured_drops(of_metric(summary, metric)):
            drop_per_model(summary, folder / name, metric=metric)


def _run_folder(folder: Path, experiment: Experiment) -> RunFolder:
    names = experiment.metrics
    drops = [f"figures/{name}_drop_per_model.png" for name in names[1:]]
    figures = [f"figures/{name}_over_time.png" for name in names]
    optional = (*_NOT_ALWAYS, *figures, *drops, _EXAMPLES)
    return RunFolder(folder, [RESULTS, SUMMARY, CURVES], optional)


@takes_keywords
@in_run_folder
def evaluate(experiment: Experiment) -> Results:
    """Evaluate trained networks, digitally and on chips, and write the run folder.

    Units (one network run digitally, or one chip) that a stopped run has finished are taken from
    the store. Failed units are rows with their error and are listed in ``Results.failures``; the
    next run computes them again.

    Args:
        experiment: networks, data, hardware and further settings. Its fields can be given as
            keywords instead.

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
    folder = experiment.folder
    store = open_store(experiment)
    prepared = prepare(experiment, networks="distinct")
    task, checkpoints = prepared.task, prepared.checkpoints
    experiment = prepared.config
    _run_folder(folder, experiment).begin()
    warn_on_placement_mismatch(checkpoints, experiment)
    announce("counting tiles and costs")
    costs = [cost_of(checkpoint, experiment, task) for checkpoint in checkpoints]
    found = run_sweep(experiment, task, checkpoints, store)
    results = Results(
        experiment,
        found.value,
        pd.DataFrame(costs),
        found.units,
        found.reused,
        found.failures,
        found.computed,
        frozenset((c.info.model, c.info.training) for c in checkpoints if c.info.keeps_start),
    )
    results.write(folder)
    if experiment.examples and notes_of(found.value).isin(RESULT_NOTES).all():
        if task.kind.has_masks:
            n_cases = experiment.examples
            write_examples(experiment, task, checkpoints, found.value, folder, n_cases=n_cases)
        elif task.strip is not None:
            write_strips(experiment, task, checkpoints, found.value, folder)
    return results


def run_sweep(
    experiment: Experiment, task: Task, checkpoints: Sequence[Checkpoint], store: Store
) -> Finished[pd.DataFrame]:
    """Compute the units of a sweep that are missing from the store.

    Args:
        experiment: all settings.
        task: data of the experiment.
        checkpoints: networks of the experiment.
        store: store of finished units.

    Returns:
        The long results table in the order of the plan, with rows for failed units.

    Raises:
        AnalogmedError: an error concerns all units, or all units have failed.
        KeyboardInterrupt: the sweep was interrupted; the message reports the number of stored
            units and how to resume.
    """
    infos = {checkpoint.path: checkpoint.info for checkpoint in checkpoints}

    def failed(outcome: Outcome) -> UnitResult:
        info = infos[outcome.unit.checkpoint]
        return UnitResult(failure_table(outcome, info, experiment, task))

    plan = _rounds(Plan(experiment, task, checkpoints), experiment, task, infos)
    cases = len(task.test)
    return run_units(plan, Worker, experiment, task, store, cases=cases, failed=failed)


def _rounds(
    plan: Plan, experiment: Experiment, task: Task, infos: Mapping[Path, CheckpointInfo]
) -> Rounds[pd.DataFrame]:
    """Yield all units, again with more chips while an interval is too wide; return the table."""
    yield from _digital_scores(plan, task)
    chips = first_chips(experiment, list(infos))
    while True:
        units = plan.units(chips)
        results = yield units
        tables = [results[unit.key].table for unit in units]
        table = pd.concat(tables, ignore_index=True).astype(COLUMNS)
        more = more_chips(experiment, infos, chips, table)
        if more is None:
            return table
        chips = more


def _digital_scores(plan: Plan, task: Task) -> Rounds[None]:
    """Compare digital scores with those that the checkpoints expect, before any chip runs."""
    known = [one for one in plan.checkpoints if one.info.expected_score is not None]
    if not known:
        return
    units = [plan.digital(checkpoint) for checkpoint in known]
    results = yield units
    for checkpoint, unit in zip(known, units, strict=True):
        warn_on_unexpected_score(results[unit.key].table, checkpoint, task)
