"""Summary and curves over time of a results table: the accuracy of networks on chips."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analogmed.evaluation.statistics.intervals import (
    Interval,
    Statistic,
    difference,
    mean_over_chips,
    ratio,
    two_way_bootstrap,
)
from analogmed.evaluation.statistics.spread import std_between_chips
from analogmed.evaluation.summaries.runs import (
    COLUMNS,
    NetworkRun,
    align_runs,
    check_columns,
    digital_values,
    network_runs,
    notes_of,
    unit_of_rows,
)
from analogmed.foundation.errors import DataError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.notes import ABSENT, MISSED, SPURIOUS, UNDEFINED
from analogmed.metrics.properties import (
    bounds_of,
    chance_of,
    difference_bounds,
    is_lower_better,
    is_of_masks,
)
from analogmed.metrics.registry import metric_unit
from analogmed.tables.estimates import ENDS, Estimate, summary_estimates
from analogmed.tables.results import RUN
from analogmed.tables.robustness import CURVES

__all__ = ["COLUMNS", "over_time", "summarise"]

DIGITAL = "digital"
_OF_MEANS: dict[str, Statistic] = {
    "mean": mean_over_chips,
    "difference": difference,
    "drop": difference,
    "ratio": ratio,
}
"""Statistic of each formula that is a function of means over patients and chips."""
_UNDEFINED = Interval(np.nan, np.nan, np.nan, 0, 0)


def summarise(
    table: pd.DataFrame,
    *,
    metrics: Sequence[str] = ("dice",),
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Summarise each task, model and training on the chip: the content of ``summary.csv``.

    The Dice of a case is the mean over the classes of its reference, then over the reads of a
    chip. The note counts predictions of other classes after one day. Every estimate of
    :data:`analogmed.tables.estimates.ESTIMATES` has its two-way bootstrap interval (``_low``,
    ``_high``). For Dice as the primary metric they are:

    - ``dice_digital``: Dice of the digitally trained network of the same model run digitally, the
      iso-accuracy reference; if the table lacks it, that of the row's own network.
    - ``dice_own_digital``: Dice of the row's own network run digitally.
    - ``dice_t0``, ``dice_1d``, ``dice_1mo``: Dice on the chip right after programming, and after
      86,400 s and 2,592,000 s; NaN if the sweep lacks this time.
    - ``dice_1d_std``: standard deviation over chips of the mean over cases.
    - ``noise_drop``: ``dice_digital - dice_t0``.
    - ``avm``: ``dice_1mo`` minus Dice at 1 s, signed.
    - ``normalised_dice_1d``: ``dice_1d / dice_digital``; of a metric with another chance level than
      0, such as AUROC, both minus this level.
    - ``drop_1d``, ``drop_1mo``: ``dice_digital`` minus Dice at that time.
    - ``gain_1d``: ``dice_1d`` minus that of the digitally trained network of the same model on the
      chip, over their common cases; NaN for the digitally trained network itself. Patients
      and chips are paired: all trainings of a model are programmed on the same chips.

    Columns of another primary metric have its name in place of ``dice``. Those of further metrics
    all have it: ``hd95_1d``, ``hd95_drop_1d``; ``hd95_unit`` is the unit of a metric that has one.
    Of a metric where lower is better, drops are by how much it is worse, and gains by how much it
    is better.

    Args:
        table: long results table, columns ``COLUMNS``.
        metrics: names in the ``metric`` column, the primary one first.
        n_boot: bootstrap samples per interval.
        level: confidence level in (0, 1).
        seed: root seed of the bootstrap; all rows of a task share one draw of patients.

    Returns:
        The summary, one row per task, model and training; further columns are ``n_patients``,
        ``n_chips``, ``missed`` of ``missed_of`` structures at one day (over classes, cases, chips
        and reads), ``level`` and ``note``.

    Raises:
        DataError: the table lacks a column.

    Source: AnalogNAS, arXiv:2305.10459, for 1-day accuracy and AVM.
    """
    settings = {"n_boot": n_boot, "level": level}
    primary, *others = metrics
    runs = list(network_runs(table, primary))
    rows = [_summary_row(run, _digital_trained(run, runs), seed, settings) for run in runs]
    names = [e.column(primary) + end for e in summary_estimates() for end in ENDS]
    columns = [*RUN, *names, "n_patients", "n_chips", "missed", "missed_of", "level", "note"]
    summary = pd.DataFrame(rows, columns=columns)
    summary = summary.astype({"missed": "Int64", "missed_of": "Int64"})
    if metric_unit(primary) != "1":
        summary[f"{primary}_unit"] = [run.unit for run in runs]
    for metric in others:
        summary = summary.merge(_further(table, metric, seed, settings), on=list(RUN), how="left")
    return summary


def over_time(
    table: pd.DataFrame,
    metric: str = "dice",
    *,
    lower_is_better: bool | None = None,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Compute a metric over the age of the chip, and by how much it is worse than digitally.

    Args:
        table: long results table, columns ``COLUMNS``.
        metric: name in the ``metric`` column.
        lower_is_better: whether lower values are better; by default, as the metric of this name
            declares, and false for an unknown name.
        n_boot: bootstrap samples per interval.
        level: confidence level in (0, 1).
        seed: root seed of the bootstrap.

    Returns:
        One row per run and time with ``estimate``, ``low``, ``high`` and, against the same
        reference as in :func:`summarise`, ``drift_drop`` with its interval: reference minus chip,
        or chip minus reference for a metric where lower is better. Digital runs are rows with
        hardware ``"digital"`` and a NaN time.

    Raises:
        DataError: the table lacks a column, or has no row of this metric.
    """
    check_columns(table)
    if not (table["metric"] == metric).any():
        known = ", ".join(sorted(table["metric"].unique()))
        raise DataError(f"the results table has no metric '{metric}'; it has: {known or 'none'}")
    settings = {"n_boot": n_boot, "level": level}
    lower = is_lower_better(metric, lower_is_better)
    rows = [*_digital_rows(table, metric, seed, settings)]
    for run in network_runs(table, metric):
        rows += [_time_row(run, time_s, lower, seed, settings) for time_s in sorted(run.on_chip)]
    return CURVES.frame(rows)


def _digital_trained(run: NetworkRun, runs: Sequence[NetworkRun]) -> NetworkRun | None:
    """Return the digitally trained network of the same model on the same kind of chip."""
    if run.key["training"] == DIGITAL:
        return None
    key = {**run.key, "training": DIGITAL}
    return next((other for other in runs if other.key == key), None)


def _summary_row(
    run: NetworkRun, digital_trained: NetworkRun | None, seed: int, settings: dict[str, Any]
) -> dict[str, object]:
    row: dict[str, object] = {**run.key, "level": settings["level"]}
    notes = [run.note] if run.note else []
    shared = {"seed": _bootstrap_seed(seed, run.key["task"]), **settings}
    intervals = {
        estimate: _interval(estimate, run, digital_trained, shared)
        for estimate in summary_estimates()
    }
    of_means = [interval for e, interval in intervals.items() if e.formula in _OF_MEANS]
    row["n_patients"] = max(interval.n_patients for interval in of_means)
    row["n_chips"] = max(map(_chips_with_values, of_means))
    for estimate, interval in intervals.items():
        row |= interval.cells(estimate.column(run.metric))
        if np.isfinite(interval.estimate) and interval.note and interval.note not in notes:
            notes.append(interval.note)
    counted = notes_of(run.rows[np.isclose(run.rows["time_s"], DAY_S, rtol=1e-9)])
    missed, missed_of = _missed(counted) if is_of_masks(run.metric) else (None, None)
    notes += _spurious(counted) + _undefined(run.rows)
    row |= {"missed": missed, "missed_of": missed_of, "note": "; ".join(notes)}
    return row


def _further(table: pd.DataFrame, metric: str, seed: int, settings: dict[str, Any]) -> pd.DataFrame:
    """Return the estimates of a metric that is not the primary one, a row per network."""
    runs = list(network_runs(table, metric))
    rows = []
    for run in runs:
        row: dict[str, object] = dict(run.key)
        shared = {"seed": _bootstrap_seed(seed, run.key["task"]), **settings}
        if metric_unit(metric) != "1":
            row[f"{metric}_unit"] = run.unit
        for estimate in summary_estimates():
            found = _interval(estimate, run, _digital_trained(run, runs), shared)
            row |= found.cells(estimate.column(metric, primary=False))
        rows.append(row)
    return pd.DataFrame(rows, columns=None if rows else [*RUN])


def _interval(
    estimate: Estimate,
    run: NetworkRun,
    digital_trained: NetworkRun | None,
    shared: dict[str, Any],
) -> Interval:
    """Compute an estimate of a network with its interval."""
    bounds = estimate.bounds(run.metric)
    if estimate.formula == "gain":
        return _gain(estimate, run, digital_trained, shared)
    arrays = [run.term(term) for term in estimate.terms]
    if estimate.formula == "spread":
        return std_between_chips(
            *arrays, patients=run.patients, bounds=bounds, level=shared["level"]
        )
    if estimate.formula == "drop" and is_lower_better(run.metric):
        arrays.reverse()
    if estimate.formula == "ratio" and (chance := chance_of(run.metric)):
        arrays = [values - chance for values in arrays]
    return two_way_bootstrap(
        *arrays,
        patients=run.patients,
        statistic=_OF_MEANS[estimate.formula],
        bounds=bounds,
        **shared,
    )


def _chips_with_values(interval: Interval) -> int:
    """Return the number of chips of an estimate; 0 where no chip has a value."""
    return interval.n_chips if np.isfinite(interval.estimate) else 0


def _gain(
    estimate: Estimate,
    run: NetworkRun,
    digital_trained: NetworkRun | None,
    shared: dict[str, Any],
) -> Interval:
    """Compute the gain of the training on the same chips, over common cases."""
    if digital_trained is None:
        return _UNDEFINED
    (time_s,) = estimate.terms
    pair = [run, digital_trained]
    if is_lower_better(run.metric):
        pair.reverse()
    both = align_runs(pair, float(time_s))
    return two_way_bootstrap(
        *both.arrays,
        patients=both.patients,
        statistic=difference,
        chip_sets=both.chip_sets,
        bounds=estimate.bounds(run.metric),
        **shared,
    )


def _bootstrap_seed(seed: int, task: str) -> int:
    """Return one seed per task, so that equal values have equal intervals in all tables."""
    return derive_seed(seed, "bootstrap", task)


def _missed(notes: pd.Series) -> tuple[int | None, int | None]:
    """Count missed structures and structures of the reference; None without notes."""
    if notes.empty:
        return None, None
    missed = int((notes == MISSED).sum())
    return missed, missed + int((notes == "").sum())


def _spurious(notes: pd.Series) -> list[str]:
    """Describe the number of spurious structures, if the reference lacks any structure."""
    found = int((notes == SPURIOUS).sum())
    absent = int(notes.isin(ABSENT).sum())
    if not absent:
        return []
    return [f"{found} of {absent} predictions of structures that the reference lacks; in no mean"]


def _undefined(rows: pd.DataFrame) -> list[str]:
    """Name the classes whose score is undefined on the cases of the task."""
    notes = notes_of(rows)
    found = rows.assign(note=notes)[notes.isin(UNDEFINED)].drop_duplicates("class")
    if found.empty:
        return []
    listed = ", ".join(f"{row['class']} ({row['note']})" for _, row in found.iterrows())
    total = rows["class"].nunique()
    return [f"{len(found)} of {total} classes are undefined, and in no mean: {listed}"]


def _digital_rows(
    table: pd.DataFrame, metric: str, seed: int, settings: dict[str, Any]
) -> Iterator[dict[str, object]]:
    rows = table[(table["metric"] == metric) & (table["hardware"] == "digital")]
    for key, run in rows.groupby(list(RUN), sort=False):
        names = dict(zip(RUN, key, strict=True))
        values = digital_values(run)
        patient_of = run.drop_duplicates("case").set_index("case")["patient"]
        interval = two_way_bootstrap(
            values.to_numpy(dtype=np.float64),
            patients=[str(patient_of[case]) for case in values.index],
            bounds=bounds_of(metric),
            seed=_bootstrap_seed(seed, str(names["task"])),
            **settings,
        )
        place = {"time_s": float("nan"), "metric": metric, "unit": unit_of_rows(run)}
        nothing = Interval(np.nan, np.nan, np.nan, interval.n_patients, 0)
        yield (
            dict(zip(RUN, key, strict=True)) | place | _interval_cells(interval, nothing, settings)
        )


def _time_row(
    run: NetworkRun, time_s: float, lower_is_better: bool, seed: int, settings: dict[str, Any]
) -> dict[str, object]:
    shared = {
        "patients": run.patients,
        "seed": _bootstrap_seed(seed, run.key["task"]),
        **settings,
    }
    values = run.on_chip[time_s]
    interval = two_way_bootstrap(values, bounds=bounds_of(run.metric), **shared)
    pair = (values, run.reference) if lower_is_better else (run.reference, values)
    drop = two_way_bootstrap(
        *pair,
        statistic=difference,
        bounds=difference_bounds(run.metric),
        **shared,
    )
    place = {"time_s": time_s, "metric": run.metric, "unit": run.unit}
    return run.key | place | _interval_cells(interval, drop, settings, run.note)


def _interval_cells(
    interval: Interval, drop: Interval, settings: dict[str, Any], note: str = ""
) -> dict[str, object]:
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        **drop.cells("drift_drop"),
        "n_patients": interval.n_patients,
        "n_chips": _chips_with_values(interval),
        "level": settings["level"],
        "note": "; ".join(part for part in (note, interval.note) if part),
    }
