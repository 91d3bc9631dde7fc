"""What is left of a network on a chip: the summary and the curve over time of a results table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analogmed.errors import DataError
from analogmed.evaluation.metrics import BOTH_EMPTY, MISSED, SPURIOUS
from analogmed.evaluation.statistics import (
    ChipMeans,
    Interval,
    mean_over_chips,
    two_way_bootstrap,
)
from analogmed.seeds import derive_seed

T0_S = 0.0
ONE_SECOND_S = 1.0
ONE_DAY_S = 86_400.0
ONE_MONTH_S = 2_592_000.0

COLUMNS = (
    "task", "model", "training", "hardware", "chip", "time_s", "read", "case", "patient",
    "class", "metric", "value", "unit", "note",
)  # fmt: skip
ESTIMATES = (
    "dice_digital", "dice_own_digital", "dice_t0", "dice_1d", "dice_1d_std", "dice_1mo",
    "noise_drop", "avm", "normalised_dice_1d", "drop_1d", "drop_1mo",
)  # fmt: skip
RUN = ["task", "model", "training", "hardware"]
RESULT_NOTES = ("", MISSED, SPURIOUS, BOTH_EMPTY)


def summarise(
    table: pd.DataFrame, *, n_boot: int = 2000, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """One row per task, model and training on the chip: the content of ``summary.csv``.

    The Dice of a case is the mean over its classes, then over the reads of a chip. Every estimate
    stands beside its two-way bootstrap interval (``_low``, ``_high``):

    - ``dice_digital``: the digital-trained network of the same model run digitally, the
      iso-accuracy reference; where the table has none, the row's own network run digitally.
    - ``dice_own_digital``: the row's own network run digitally.
    - ``dice_t0``, ``dice_1d``, ``dice_1mo``: on the chip right after programming, and after
      86,400 s and 2,592,000 s; NaN where the sweep has no such time.
    - ``dice_1d_std``: standard deviation over chips of the mean over cases.
    - ``noise_drop``: ``dice_digital - dice_t0``.
    - ``avm``: ``dice_1mo`` minus Dice at 1 s, signed.
    - ``normalised_dice_1d``: ``dice_1d / dice_digital``.
    - ``drop_1d``, ``drop_1mo``: ``dice_digital`` minus Dice at that time.

    Args:
        table: long results table, columns ``COLUMNS``.
        n_boot: bootstrap samples per interval.
        level: confidence level in (0, 1).
        seed: root seed of the bootstrap; all rows of a task share one draw of patients.

    Returns:
        The summary; further columns are ``n_patients``, ``n_chips``, ``missed`` of ``missed_of``
        structures at one day (over classes, cases, chips and reads), ``level`` and ``note``.

    Raises:
        DataError: the table lacks a column.

    Source: AnalogNAS, arXiv:2305.10459, for 1-day accuracy and AVM.
    """
    _check_columns(table)
    rows = [
        _summary_row(run, n_boot=n_boot, level=level, seed=seed) for run in _runs(table, "dice")
    ]
    columns = [*RUN]
    for name in ESTIMATES:
        columns += [name, f"{name}_low", f"{name}_high"]
    columns += ["n_patients", "n_chips", "missed", "missed_of", "level", "note"]
    return pd.DataFrame(rows, columns=columns).astype({"missed": "Int64", "missed_of": "Int64"})


def over_time(
    table: pd.DataFrame,
    metric: str = "dice",
    *,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """A metric over the age of the chip, with its loss against the digital reference.

    Args:
        table: long results table, columns ``COLUMNS``.
        metric: name in the ``metric`` column.
        n_boot: bootstrap samples per interval.
        level: confidence level in (0, 1).
        seed: root seed of the bootstrap.

    Returns:
        One row per run and time with ``estimate``, ``low``, ``high`` and, against the same
        reference as in :func:`summarise`, ``drift_drop`` (reference minus chip) with its
        interval. Digital runs are rows with hardware ``"digital"`` and a NaN time.

    Raises:
        DataError: the table lacks a column, or has no row of this metric.
    """
    _check_columns(table)
    if not (table["metric"] == metric).any():
        known = ", ".join(sorted(table["metric"].unique()))
        raise DataError(f"the results table has no metric '{metric}'; it has: {known or 'none'}")
    settings = {"n_boot": n_boot, "level": level}
    rows = [*_digital_rows(table, metric, seed, settings)]
    for run in _runs(table, metric):
        rows += [_time_row(run, time_s, seed, settings) for time_s in sorted(run.on_chip)]
    columns = [*RUN, "time_s", "metric", "unit", "estimate", "low", "high"]
    columns += ["drift_drop", "drift_drop_low", "drift_drop_high", "n_patients", "n_chips"]
    return pd.DataFrame(rows, columns=[*columns, "level", "note"])


@dataclass(frozen=True)
class _Run:
    """One network on one kind of chip, beside its digital references, on the same cases."""

    key: dict[str, str]
    metric: str
    unit: str
    patients: list[str]
    reference: np.ndarray
    own_digital: np.ndarray
    on_chip: dict[float, np.ndarray]
    rows: pd.DataFrame
    note: str

    def at(self, time_s: float) -> np.ndarray:
        """Values (cases, chips) at a time; all NaN where the sweep does not have it."""
        for known_s, values in self.on_chip.items():
            if np.isclose(known_s, time_s, rtol=1e-9, atol=1e-9):
                return values
        return np.full_like(next(iter(self.on_chip.values())), np.nan)


def _check_columns(table: pd.DataFrame) -> None:
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(
            f"the results table lacks the columns {', '.join(missing)}; "
            "pass the long table of an evaluation (results.parquet)"
        )


def _runs(table: pd.DataFrame, metric: str) -> Iterator[_Run]:
    rows = table[table["metric"] == metric]
    digital = rows[rows["hardware"] == "digital"]
    chips = rows[(rows["hardware"] != "digital") & rows["time_s"].notna()]
    for key, on_chip in chips.groupby(RUN, sort=False):
        names = {column: str(name) for column, name in zip(RUN, key, strict=True)}
        notes = _failures(table[(table[RUN] == pd.Series(names)).all(axis=1)])
        yield _run(names, metric, on_chip, digital, notes)


def _run(
    key: dict[str, str],
    metric: str,
    on_chip: pd.DataFrame,
    digital: pd.DataFrame,
    notes: list[str],
) -> _Run:
    same_model = digital[(digital["task"] == key["task"]) & (digital["model"] == key["model"])]
    own = _digital_values(same_model[same_model["training"] == key["training"]])
    reference = _digital_values(same_model[same_model["training"] == "digital"])
    if reference.empty:
        reference = own
        notes.append("no digital-trained baseline: own digital run" if len(own) else "no baseline")
    times_s = [float(time_s) for time_s in on_chip["time_s"].unique()]
    chips = {time_s: _chip_values(on_chip[on_chip["time_s"] == time_s]) for time_s in times_s}
    evaluated = [set(values.index) for values in chips.values()]
    evaluated += [set(values.index) for values in (reference, own) if len(values)]
    cases = sorted(set.intersection(*evaluated))
    if len(cases) < max(map(len, evaluated)):
        notes.append(f"{len(cases)} of {max(map(len, evaluated))} cases are in every run")
    patient_of = on_chip.drop_duplicates("case").set_index("case")["patient"]
    chip_ids = sorted({chip for values in chips.values() for chip in values.columns})
    return _Run(
        key=key,
        metric=metric,
        unit=str(on_chip["unit"].iloc[0]),
        patients=[str(patient_of[case]) for case in cases],
        reference=reference.reindex(cases).to_numpy(dtype=np.float64),
        own_digital=own.reindex(cases).to_numpy(dtype=np.float64),
        on_chip={
            time_s: values.reindex(index=cases, columns=chip_ids).to_numpy(dtype=np.float64)
            for time_s, values in chips.items()
        },
        rows=on_chip,
        note="; ".join(notes),
    )


def _digital_values(rows: pd.DataFrame) -> pd.Series:
    """Class mean of each case."""
    return rows.groupby("case")["value"].mean()


def _chip_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Class mean, then mean over reads: one row per case, one column per chip."""
    class_mean = rows.groupby(["case", "chip", "read"], dropna=False)["value"].mean().reset_index()
    return class_mean.pivot_table("value", "case", "chip", "mean", dropna=False)


def _failures(rows: pd.DataFrame) -> list[str]:
    failed = rows[~_notes(rows).isin(RESULT_NOTES)]
    units = failed[["chip", "time_s", "read", "case"]].drop_duplicates()
    return [f"{len(units)} failed evaluations left out"] if len(units) else []


def _summary_row(run: _Run, *, n_boot: int, level: float, seed: int) -> dict[str, object]:
    row: dict[str, object] = {**run.key, "level": level}
    notes = [run.note] if run.note else []
    n_patients = n_chips = 0
    for name, (arrays, statistic) in _quantities(run).items():
        interval = two_way_bootstrap(
            *arrays,
            patients=run.patients,
            statistic=statistic,
            n_boot=n_boot,
            level=level,
            seed=_bootstrap_seed(seed, run.key["task"]),
        )
        row |= {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
        n_patients, n_chips = max(n_patients, interval.n_patients), max(n_chips, interval.n_chips)
        if np.isfinite(interval.estimate) and interval.note and interval.note not in notes:
            notes.append(interval.note)
    missed, missed_of = _missed(run.rows)
    row |= {"n_patients": n_patients, "n_chips": n_chips, "missed": missed, "missed_of": missed_of}
    return row | {"note": "; ".join(notes)}


def _bootstrap_seed(seed: int, task: str) -> int:
    """One draw of patients for a whole task: equal numbers get equal intervals everywhere."""
    return derive_seed(seed, "bootstrap", task)


def _quantities(run: _Run) -> dict[str, tuple[list[np.ndarray], Callable[..., np.ndarray]]]:
    """Arrays and statistic of each estimate, in the order of ``ESTIMATES``."""
    reference, t0, day = run.reference, run.at(T0_S), run.at(ONE_DAY_S)
    month, second = run.at(ONE_MONTH_S), run.at(ONE_SECOND_S)
    return {
        "dice_digital": ([reference], mean_over_chips),
        "dice_own_digital": ([run.own_digital], mean_over_chips),
        "dice_t0": ([t0], mean_over_chips),
        "dice_1d": ([day], mean_over_chips),
        "dice_1d_std": ([day], ChipMeans.std),
        "dice_1mo": ([month], mean_over_chips),
        "noise_drop": ([reference, t0], _difference),
        "avm": ([month, second], _difference),
        "normalised_dice_1d": ([day, reference], _ratio),
        "drop_1d": ([reference, day], _difference),
        "drop_1mo": ([reference, month], _difference),
    }


def _difference(first: ChipMeans, second: ChipMeans) -> np.ndarray:
    return first.mean() - second.mean()


def _ratio(first: ChipMeans, second: ChipMeans) -> np.ndarray:
    return first.mean() / second.mean()


def _missed(rows: pd.DataFrame) -> tuple[int | None, int | None]:
    """Missed structures at one day, and structures in the reference; None without that time."""
    at_one_day = rows[np.isclose(rows["time_s"], ONE_DAY_S, rtol=1e-9)]
    if at_one_day.empty:
        return None, None
    notes = _notes(at_one_day)
    missed = int((notes == MISSED).sum())
    return missed, missed + int((notes == "").sum())


def _notes(rows: pd.DataFrame) -> pd.Series:
    """Notes as text; a table read from CSV has NaN where a note is empty."""
    return rows["note"].astype("string").fillna("")


def _digital_rows(
    table: pd.DataFrame, metric: str, seed: int, settings: dict[str, Any]
) -> Iterator[dict[str, object]]:
    rows = table[(table["metric"] == metric) & (table["hardware"] == "digital")]
    for key, run in rows.groupby(RUN, sort=False):
        names = dict(zip(RUN, key, strict=True))
        values = _digital_values(run)
        patient_of = run.drop_duplicates("case").set_index("case")["patient"]
        interval = two_way_bootstrap(
            values.to_numpy(dtype=np.float64),
            patients=[str(patient_of[case]) for case in values.index],
            seed=_bootstrap_seed(seed, str(names["task"])),
            **settings,
        )
        place = {"time_s": float("nan"), "metric": metric, "unit": str(run["unit"].iloc[0])}
        nothing = Interval(np.nan, np.nan, np.nan, interval.n_patients, 0)
        yield (
            dict(zip(RUN, key, strict=True)) | place | _interval_cells(interval, nothing, settings)
        )


def _time_row(run: _Run, time_s: float, seed: int, settings: dict[str, Any]) -> dict[str, object]:
    shared = {
        "patients": run.patients,
        "seed": _bootstrap_seed(seed, run.key["task"]),
        **settings,
    }
    values = run.on_chip[time_s]
    interval = two_way_bootstrap(values, **shared)
    drop = two_way_bootstrap(run.reference, values, statistic=_difference, **shared)
    place = {"time_s": time_s, "metric": run.metric, "unit": run.unit}
    return run.key | place | _interval_cells(interval, drop, settings, run.note)


def _interval_cells(
    interval: Interval, drop: Interval, settings: dict[str, Any], note: str = ""
) -> dict[str, object]:
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "drift_drop": drop.estimate,
        "drift_drop_low": drop.low,
        "drift_drop_high": drop.high,
        "n_patients": interval.n_patients,
        "n_chips": interval.n_chips,
        "level": settings["level"],
        "note": "; ".join(part for part in (note, interval.note) if part),
    }
