"""Effect and cost of each mitigation on the chip at each time."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analogmed.data import Task
from analogmed.evaluation.preparation import prepare
from analogmed.evaluation.statistics.intervals import LEVEL, difference, two_way_bootstrap
from analogmed.evaluation.studies.mitigation.compute import (
    ALL,
    COMPENSATED,
    NONE,
    MitigationCompute,
    MitigationUnit,
    inputs_of_units,
    units_of_network,
)
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig
from analogmed.evaluation.unit_runs import describe_reuse, open_store, run_units
from analogmed.execution.plans import Rounds
from analogmed.execution.run_folder import RunFolder, in_run_folder
from analogmed.foundation.settings.forms import takes_keywords
from analogmed.metrics.metric import Bounds
from analogmed.metrics.properties import bounds_of, difference_bounds
from analogmed.report.figures.mitigation import mitigation_gains
from analogmed.tables.mitigation import SUMMARY, VALUES
from analogmed.tables.results import NETWORK
from analogmed.training import Checkpoint

_FIGURE = "figures/mitigation.png"


@dataclass(frozen=True)
class MitigationResult:
    """Results of the mitigation study.

    Attributes:
        config: settings of the study.
        table: one row per network, option, chip, time, read, case and metric.
        costs: one row per network and option: unlabelled and labelled images required at each time,
            passes through the chip, and digital parameters that change.
        reuse: sentence about units that are reused from an earlier run; empty if all are new.
    """

    config: MitigationConfig
    table: pd.DataFrame
    costs: pd.DataFrame
    reuse: str = ""

    def summary(self) -> pd.DataFrame:
        """Compute mean and gain, with intervals, per network, option, time and metric.

        For drift compensation and for all options together, the gain is relative to ``none``, the
        chip without drift compensation. For the other options, it is relative to drift compensation
        alone. Chips and patients are resampled; both settings use the same draw.
        """
        keys = [*NETWORK, "time_s", "metric"]
        rows = []
        for key, part in self.table.groupby(keys, sort=False):
            by_option = {name: _wide(rows_) for name, rows_ in part.groupby("option", sort=False)}
            for option, values in by_option.items():
                base = NONE if option in (COMPENSATED, ALL) else COMPENSATED
                where = dict(zip(keys, key, strict=True)) | {"option": option}
                bounds = bounds_of(str(where["metric"])), difference_bounds(str(where["metric"]))
                before = None if option == NONE else by_option[base]
                rows.append(where | _gain(values, before, bounds, self.config.seed))
        return pd.DataFrame(rows).merge(self.costs, on=[*NETWORK, "option"], how="left")

    def write(self, folder: Path) -> None:
        """Write settings, environment, tables and the figure into a run folder.

        Raises:
            ConfigError: a file of such a name exists that no run has written.
        """
        run = _run_folder(folder)
        run.renew(self.config)
        run.write(VALUES, self.table)
        summary = self.summary()
        run.write(SUMMARY, summary)
        mitigation_gains(summary, folder / _FIGURE)


def _run_folder(folder: Path) -> RunFolder:
    return RunFolder(folder, [VALUES, SUMMARY, _FIGURE])


@takes_keywords
@in_run_folder
def measure_mitigation(config: MitigationConfig) -> MitigationResult:
    """Run networks on chips with each mitigation, and with all of them.

    Finished units (the costs of a network's options, or one of its chips) of an interrupted run are
    taken from the store.

    Args:
        config: networks, mitigations, data and hardware. Its fields can be given as keywords
            instead.

    Returns:
        The results, as written into the run folder. An option that is not applicable to a network
        or a chip, such as BatchNorm statistics of a network without BatchNorm, is skipped with a
        warning.

    Raises:
        ConfigError: settings conflict, or the run folder cannot be written or contains files of
            other origin.
        DataError: a case cannot be read. CheckpointError: a network cannot be read.
        LeakageError: a network has been trained on a test patient.
        KeyboardInterrupt: the run was interrupted; the message reports the number of stored units.
    """
    _run_folder(config.folder).begin()
    store = open_store(config)
    prepared = prepare(config, networks="distinct")
    config, task = prepared.config, prepared.task
    plan = _plan(config, task, prepared.checkpoints)
    done = run_units(plan, MitigationCompute, config, task, store, cases=len(task.test))
    found = MitigationResult(config, *done.value, describe_reuse(done, config))
    found.write(config.folder)
    return found


def _plan(
    config: MitigationConfig, task: Task, checkpoints: Sequence[Checkpoint]
) -> Rounds[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield the units of all networks; return the table of the chips and that of the costs."""
    inputs = inputs_of_units(config, task)
    units = [unit for each in checkpoints for unit in units_of_network(each, config, inputs)]
    results = yield units

    def joined(chosen: Iterable[MitigationUnit]) -> pd.DataFrame:
        return pd.concat([results[unit.key].table for unit in chosen], ignore_index=True)

    return (
        joined(unit for unit in units if unit.chip is not None),
        joined(unit for unit in units if unit.chip is None),
    )


def _wide(part: pd.DataFrame) -> pd.DataFrame:
    """Return the values indexed by (case, patient) and chip, averaged over reads."""
    return part.groupby(["case", "patient", "chip"])["value"].mean().unstack("chip")


def _gain(
    values: pd.DataFrame, base: pd.DataFrame | None, bounds: tuple[Bounds, Bounds], seed: int
) -> dict[str, Any]:
    """Return the mean and the gain over a base, each with its interval.

    Args:
        values: values indexed by (case, patient) and chip.
        base: values without the mitigation, in the same form; None without a base.
        bounds: bounds of the mean and of the gain.
        seed: seed of the bootstrap.
    """
    shared: dict[str, Any] = {
        "patients": list(values.index.get_level_values("patient")),
        "level": LEVEL,
        "seed": seed,
    }
    array = values.to_numpy(float)
    mean = two_way_bootstrap(array, bounds=bounds[0], **shared)
    row: dict[str, Any] = {**mean.cells("value")}
    row |= dict.fromkeys(("gain", "gain_low", "gain_high"), np.nan)
    if base is not None:
        before = base.reindex(index=values.index, columns=values.columns).to_numpy(float)
        gain = two_way_bootstrap(array, before, statistic=difference, bounds=bounds[1], **shared)
        row |= gain.cells("gain")
    return row | {"n_patients": mean.n_patients, "n_chips": mean.n_chips, "level": LEVEL}
