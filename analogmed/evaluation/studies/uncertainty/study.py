"""Uncertainty measurement: from its settings to its tables, figures and run folder."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from analogmed.data import Case, Task
from analogmed.evaluation.preparation import prepare
from analogmed.evaluation.studies.uncertainty.compute import UncertaintyCompute, UncertaintyPlan
from analogmed.evaluation.studies.uncertainty.conformal import needed
from analogmed.evaluation.studies.uncertainty.conformal_table import summarise_conformal
from analogmed.evaluation.studies.uncertainty.examples import Examples
from analogmed.evaluation.studies.uncertainty.images.scores import check_class_names
from analogmed.evaluation.studies.uncertainty.passes import has_source
from analogmed.evaluation.studies.uncertainty.scores import Scores
from analogmed.evaluation.studies.uncertainty.settings import UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.storage import SourceResult
from analogmed.evaluation.studies.uncertainty.summary import (
    compare_trainings,
    summarise_uncertainty,
)
from analogmed.evaluation.unit_runs import describe_reuse, open_store, run_units
from analogmed.execution.plans import Rounds
from analogmed.execution.run_folder import RunFolder, in_run_folder
from analogmed.foundation.settings.forms import takes_keywords
from analogmed.report.figures.maps import figures_of_examples
from analogmed.report.figures.uncertainty import draw_uncertainty
from analogmed.tables import uncertainty as tables
from analogmed.tables.table import Table
from analogmed.training import Checkpoint, CheckpointInfo

_FIGURES = ("density", "reliability", "risk_coverage", "conformal", "maps_*")
_OPTIONAL: tuple[Table | str, ...] = (
    tables.SUMMARY,
    tables.COMPARISON,
    tables.DENSITY,
    tables.RELIABILITY,
    tables.RISK_COVERAGE,
    tables.TEMPERATURES,
    tables.CONFORMAL,
    tables.CONFORMAL_SUMMARY,
    tables.EXAMPLES,
    "examples.npz",
    *(f"figures/{name}.png" for name in _FIGURES),
)
"""Files that are written only if a run has values for them."""


@dataclass
class UncertaintyResult:
    """Results of the uncertainty measurement.

    Attributes:
        config: settings of the measurement.
        scores: metrics of all cases.
        examples: example slices.
        conformal: missed shares of conformal masks, one row per network, calibration of the
            threshold, time, chip, class and patient.
        temperatures: fitted temperature of each network, source and time.
        reuse: sentence about units that are reused from an earlier run; empty if all are new.
    """

    config: UncertaintyConfig
    scores: Scores
    examples: Examples
    conformal: list[dict[str, Any]] = field(default_factory=list)
    temperatures: list[dict[str, Any]] = field(default_factory=list)
    reuse: str = ""

    def add(self, source: SourceResult, info: CheckpointInfo, task: Task) -> None:
        """Add the results of all sources of a network, and evaluate its conformal masks.

        Args:
            source: merged results of the sources.
            info: metadata of the network.
            task: data of the measurement.
        """
        config = self.config
        self.scores.merge(source.scores)
        self.examples.merge(source.examples)
        self.temperatures += source.temperatures
        run = {"task": task.name, "model": info.model, "training": info.training}
        rows = source.masks.evaluate(
            _patients(task.validation),
            _patients(task.test),
            config.alpha,
            leave_one_out=config.conformal_cases == "leave_one_out",
        )
        self.conformal += [run | row for row in rows]

    def summary(self) -> pd.DataFrame:
        """Return means with intervals; see ``summarise_uncertainty``."""
        return summarise_uncertainty(self.scores, seed=self.config.seed)

    def comparison(self) -> pd.DataFrame:
        """Compare hardware-aware with digital training; see ``compare_trainings``."""
        return compare_trainings(self.scores.table(), seed=self.config.seed)

    def conformal_summary(self) -> pd.DataFrame:
        """Return the mean missed shares of conformal masks; see ``summarise_conformal``."""
        table = pd.DataFrame(self.conformal)
        return summarise_conformal(table, self.config.alpha, seed=self.config.seed)

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and figures into a run folder.

        Files of an earlier run that this one does not write are removed.

        Raises:
            ConfigError: a file of such a name exists that no run has written.
        """
        run = _run_folder(folder)
        run.renew(self.config)
        run.write(tables.VALUES, self.scores.table())
        contents = {
            tables.SUMMARY: self.summary(),
            tables.COMPARISON: self.comparison(),
            tables.DENSITY: self.scores.density_table(),
            tables.RELIABILITY: self.scores.reliability_table(),
            tables.RISK_COVERAGE: self.scores.risk_table(),
            tables.TEMPERATURES: pd.DataFrame(self.temperatures),
            tables.CONFORMAL: pd.DataFrame(self.conformal),
            tables.CONFORMAL_SUMMARY: self.conformal_summary(),
        }
        for table, content in contents.items():
            run.write(table, content)
        self.examples.write(folder)
        if self.examples.rows:
            run.files.record(*figures_of_examples(pd.DataFrame(self.examples.rows)))
        draw_uncertainty(folder)


def _run_folder(folder: Path) -> RunFolder:
    return RunFolder(folder, [tables.VALUES], _OPTIONAL)


@takes_keywords
@in_run_folder
def measure_uncertainty(config: UncertaintyConfig) -> UncertaintyResult:
    """Measure predictive uncertainty and calibration of networks, digitally and on chips.

    Finished units (one source of passes of one network) of an interrupted run are taken from the
    store.

    Args:
        config: networks, data, hardware and passes. Its fields can be given as keywords instead.

    Returns:
        The results, as written into the run folder.

    Raises:
        ConfigError: settings conflict, or the run folder cannot be written or contains files of
            other origin.
        DataError: a case cannot be read. CheckpointError: a network cannot be read.
        LeakageError: a network has been trained on a test patient.
        NonFiniteError: a network returns NaN or Inf; the message names the case.
        KeyboardInterrupt: the run was interrupted; the message reports the number of stored units.
    """
    _run_folder(config.folder).begin()
    store = open_store(config)
    prepared = prepare(config, networks="ensembles")
    task, networks = prepared.task, _ensembles(prepared.checkpoints)
    paths = tuple(member.path for members in networks for member in members)
    config = replace(prepared.config, checkpoints=paths)
    check_class_names(task)
    _warn_too_few_patients(config, task)
    cases = len(task.test) + len(task.validation)
    rounds = _rounds(config, task, networks)
    done = run_units(rounds, UncertaintyCompute, config, task, store, cases=cases)
    found = replace(done.value, reuse=describe_reuse(done, config))
    found.write(config.folder)
    return found


def _rounds(
    config: UncertaintyConfig, task: Task, networks: list[list[Checkpoint]]
) -> Rounds[UncertaintyResult]:
    """Yield the unit that selects example cases, then those of all sources; return the results."""
    sources = [
        (members, [source for source in config.sources if has_source(source, members, config)])
        for members in networks
    ]
    plan = UncertaintyPlan(config, task, [member for members in networks for member in members])
    ranks = (yield from _example_ranks(plan, networks[0][0])) if task.kind.has_masks else {}
    units = [
        [plan.source(source, members, ranks) for source in present] for members, present in sources
    ]
    results = yield [unit for of_network in units for unit in of_network]
    found = UncertaintyResult(config, Scores(config.bins, config.margin), Examples(ranks))
    for members, of_network in zip(networks, units, strict=True):
        total = SourceResult.empty(config, task, ranks)
        for unit in of_network:
            total.merge(SourceResult.from_tables(results[unit.key], config, task, ranks))
        found.add(total, members[0].info, task)
    return found


def _example_ranks(plan: UncertaintyPlan, network: Checkpoint) -> Rounds[dict[str, str]]:
    """Yield the unit of the Dice of each case; return the rank of the cases to show."""
    unit = plan.dice(network)
    results = yield [unit]
    dice = results[unit.key].table
    return Examples.chosen(dict(zip(dice["case"], dice["dice"], strict=True))).ranks


def _warn_too_few_patients(config: UncertaintyConfig, task: Task) -> None:
    """Warn if there is no case for a temperature, or too few patients for a threshold."""
    if not task.validation:
        warnings.warn(f"{task.name} has no validation case: no temperature is fitted", stacklevel=3)
    units = len(_patients(task.validation))
    if config.conformal_cases == "leave_one_out":
        units += len(_patients(task.test)) - 1
    if units < needed(config.alpha):
        warnings.warn(
            f"{units} patients set the threshold of the conformal predictions, but alpha "
            f"{config.alpha:g} needs {needed(config.alpha)}: every voxel or image is marked; give "
            "--conformal_cases leave_one_out, a larger --alpha, or more validation patients",
            stacklevel=3,
        )


def _ensembles(checkpoints: Iterable[Checkpoint]) -> list[list[Checkpoint]]:
    """Return the networks grouped by model and training."""
    networks: dict[tuple[str, str], list[Checkpoint]] = {}
    for checkpoint in checkpoints:
        key = (checkpoint.info.model, checkpoint.info.training)
        networks.setdefault(key, []).append(checkpoint)
    return list(networks.values())


def _patients(cases: Iterable[Case]) -> list[str]:
    return list(dict.fromkeys(case.patient_id for case in cases))
