"""Number of chips of a sweep: fixed, or as required by the target width of an interval."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.statistics.planning import VarianceComponents, variance_components
from analogmed.evaluation.statistics.stopping import Decision, enough
from analogmed.evaluation.summaries.runs import network_runs, present_structures
from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.properties import bounds_of
from analogmed.metrics.registry import label_of
from analogmed.tables.results import RUN
from analogmed.training import CheckpointInfo

GROWTH = 4
"""Inverse growth of a round without an expected number of chips: a quarter more chips."""

Name = tuple[str, str]
"""Model and training of a network."""


def first_chips(experiment: Experiment, networks: Sequence[Path]) -> dict[Path, int]:
    """Return the number of chips of each network in the first round."""
    sweep = experiment.sweep
    first = sweep.chips if sweep.width is None else sweep.first_chips
    return dict.fromkeys(networks, first)


def more_chips(
    experiment: Experiment,
    networks: Mapping[Path, CheckpointInfo],
    chips: Mapping[Path, int],
    table: pd.DataFrame,
) -> dict[Path, int] | None:
    """Return the number of chips of each network in the next round, the same for all engines.

    A network gets the number of chips that is expected to be sufficient, at most twice its present
    number. All trainings of a model get the same number, since they are compared chip by chip.

    Args:
        experiment: settings with the target width and the maximum number of chips.
        networks: networks by file.
        chips: present number of chips by file.
        table: results so far.

    Returns:
        Number of chips by file; ``None`` if no network needs, or may get, more chips. Warns about
        networks whose interval is wider than the target.
    """
    sweep = experiment.sweep
    if sweep.width is None:
        return None
    decisions = _decide(table, experiment, sweep.width)
    wanted: dict[str, int] = {}
    for path, n in chips.items():
        info = networks[path]
        more = _next(n, sweep.chips, decisions.get((info.model, info.training)))
        wanted[info.model] = max(more, wanted.get(info.model, 0))
    following = {path: wanted[networks[path].model] for path in chips}
    if following != chips:
        return following
    for (model, training), decision in decisions.items():
        if not decision.reached:
            low, high = decision.interval.low, decision.interval.high
            label = label_of(experiment.primary_metric)
            warnings.warn(
                f"{model} {training}: {decision.reason}; the interval of {label} after one "
                f"day is {high - low:.3f} wide, not {sweep.width:g}",
                stacklevel=2,
            )
    return None


def _decide(table: pd.DataFrame, experiment: Experiment, width: float) -> dict[Name, Decision]:
    return {
        (run.key["model"], run.key["training"]): enough(
            run.at(DAY_S),
            width,
            patients=run.patients,
            min_chips=experiment.sweep.first_chips,
            max_chips=experiment.sweep.chips,
            bounds=bounds_of(run.metric),
            seed=experiment.seed,
        )
        for run in network_runs(table, experiment.primary_metric)
    }


def _next(chips: int, most: int, decision: Decision | None) -> int:
    if decision is None or decision.stop:
        return chips
    wanted = decision.expected_chips or chips + -(-chips // GROWTH)
    return min(most, max(chips + 1, min(wanted, 2 * chips)))


def pilot_components(
    table: pd.DataFrame, *, metric: str = "dice", time_s: float = DAY_S
) -> pd.DataFrame:
    """Estimate the variance components of each network of a pilot evaluation.

    Args:
        table: long results table, columns ``COLUMNS``.
        metric: name in the ``metric`` column.
        time_s: age of the chips in s.

    Returns:
        One row per task, model, training and hardware with the fields of
        :class:`VarianceComponents`.

    Raises:
        DataError: the table lacks a column, the metric or the time, or the pilot is too small.
    """
    rows = []
    for run in network_runs(table, metric):
        values = run.at(time_s)
        if np.isnan(values).all():
            raise DataError(f"the pilot has no {metric} at {time_s:g} s: plan from a time it has")
        at_time = run.rows[np.isclose(run.rows["time_s"], time_s, rtol=1e-9, atol=1e-9)]
        read_std, n_reads = _reads(present_structures(at_time), run.cases)
        found = variance_components(
            values, patients=run.patients, read_std=read_std, n_reads=n_reads
        )
        rows.append(run.key | vars(found))
    if not rows:
        raise DataError(f"the results table has no {metric} on a chip")
    return pd.DataFrame(rows, columns=[*RUN, *VarianceComponents.__dataclass_fields__])


def _reads(rows: pd.DataFrame, cases: Sequence[str]) -> tuple[float, int]:
    """Return the standard deviation between reads of a patient's mean, and the number of reads."""
    rows = rows[rows["case"].isin(cases)]
    of_case = rows.groupby(["patient", "case", "chip", "read"], dropna=False)["value"].mean()
    of_patient = of_case.groupby(level=["patient", "chip", "read"])
    cells = of_patient.mean().groupby(level=["patient", "chip"])
    n_reads = int(cells.size().min())
    if n_reads < 2:
        return 0.0, n_reads
    n_cases = of_patient.size().groupby(level="patient").max()
    relative = (n_cases / n_cases.mean()).reindex(cells.size().index, level="patient")
    return float(np.sqrt((relative**2 * cells.var(ddof=1)).mean())), n_reads
