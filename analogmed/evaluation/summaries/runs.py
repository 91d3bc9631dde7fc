"""Values of each network of a results table as arrays of cases and chips."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analogmed.foundation.errors import DataError
from analogmed.metrics.notes import ABSENT, APART, RESULT_NOTES, SMALLER_BATCH
from analogmed.metrics.registry import is_metric, metric
from analogmed.tables.estimates import OWN_DIGITAL, OWN_REFERENCE, REFERENCE, Term
from analogmed.tables.results import COLUMNS as RESULTS_COLUMNS
from analogmed.tables.results import NETWORK, RUN
from analogmed.tables.table import require_columns

COLUMNS = tuple(RESULTS_COLUMNS)
_NAMES = (*RUN, "case", "patient")


@dataclass(frozen=True)
class NetworkRun:
    """One network on one kind of chip and its digital references, on the same cases.

    Attributes:
        key: task, model, training and hardware.
        metric, unit: metric of the values, and its unit.
        cases: cases that are in every run of the network and have a structure in their reference,
            sorted.
        patients: patient of each case.
        chips: numbers of the chips.
        reference: values of the digitally trained network run digitally, shape (cases,); NaN
            without such a run.
        own_digital: values of the network itself run digitally, shape (cases,); NaN without such a
            run.
        on_chip: values at each time in s, shape (cases, chips), averaged over classes and reads.
        rows: rows of the results table on the chip.
        note: limitation of the comparison; empty if there is none.
    """

    key: dict[str, str]
    metric: str
    unit: str
    cases: list[str]
    patients: list[str]
    chips: list[int]
    reference: np.ndarray
    own_digital: np.ndarray
    on_chip: dict[float, np.ndarray]
    rows: pd.DataFrame
    note: str

    def at(self, time_s: float) -> np.ndarray:
        """Return the values (cases, chips) at a time; all NaN if the sweep lacks this time."""
        for known_s, values in self.on_chip.items():
            if np.isclose(known_s, time_s, rtol=1e-9, atol=1e-9):
                return values
        return np.full_like(next(iter(self.on_chip.values())), np.nan)

    def term(self, term: Term) -> np.ndarray:
        """Return the values of a term of an estimate: a digital run, or chips at an age in s."""
        if term == REFERENCE:
            return self.reference
        return self.own_digital if term == OWN_DIGITAL else self.at(float(term))


def network_runs(table: pd.DataFrame, metric: str) -> Iterator[NetworkRun]:
    """Yield each network of a results table that ran on a chip.

    Args:
        table: long results table, columns ``COLUMNS``.
        metric: name in the ``metric`` column.

    Returns:
        One run for each task, model, training and hardware, in the order of the table.

    Raises:
        DataError: the table lacks a column, or a row has no patient, case or network.
    """
    check_columns(table)
    rows = table[table["metric"] == metric]
    digital = rows[rows["hardware"] == "digital"]
    chips = rows[(rows["hardware"] != "digital") & rows["time_s"].notna()]
    for key, on_chip in chips.groupby(list(RUN), sort=False):
        names = {column: str(name) for column, name in zip(RUN, key, strict=True)}
        of_network = (table[list(NETWORK)] == pd.Series(names)[list(NETWORK)]).all(axis=1)
        notes = _limits(table[of_network & table["hardware"].isin([names["hardware"], "digital"])])
        yield _run(names, metric, on_chip, digital, notes)


@dataclass(frozen=True)
class AlignedValues:
    """Values of several networks on the same cases, in the form of ``two_way_bootstrap``.

    Attributes:
        arrays: values of each network, shape (cases, chips).
        patients: patient of each case.
        chip_sets: set of chips of each network; all trainings of a model share one.
    """

    arrays: list[np.ndarray]
    patients: list[str]
    chip_sets: list[str]


def align_runs(runs: Sequence[NetworkRun], time_s: float) -> AlignedValues:
    """Return the values of several networks at a time, on their common cases.

    Args:
        runs: networks of one task.
        time_s: age of the chips in s; all values are NaN if the sweep lacks this time.
    """
    cases = sorted(set.intersection(*(set(run.cases) for run in runs)))
    sets = [run.key["model"] for run in runs]
    arrays = []
    for run, name in zip(runs, sets, strict=True):
        of_set = [other.chips for other, same in zip(runs, sets, strict=True) if same == name]
        values = pd.DataFrame(run.at(time_s), index=run.cases, columns=run.chips)
        arrays.append(values.reindex(index=cases, columns=sorted(set().union(*of_set))).to_numpy())
    patient_of = dict(zip(runs[0].cases, runs[0].patients, strict=True))
    return AlignedValues(arrays, [patient_of[case] for case in cases], sets)


def present_structures(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose structure is in the reference, and all rows of a specificity.

    Classes that a task scores on their own are in no mean, and left out.

    A structure that the reference lacks has a Dice only in some runs (0 where it is predicted), so
    that means over such structures would compare different cases in each run. The structures of the
    reference are a property of the whole case, independent of runs and of single images.
    """
    names = rows["metric"].unique()
    counted = [name for name in names if is_metric(name) and metric(name).counts_absent]
    notes = notes_of(rows)
    absent = notes.isin(ABSENT) & ~rows["metric"].isin(counted)
    return rows[~absent & (notes != APART)]


def digital_values(rows: pd.DataFrame) -> pd.Series:
    """Return the class mean of each case, over the structures of its reference."""
    return present_structures(rows).groupby("case")["value"].mean()


def chip_values(rows: pd.DataFrame) -> pd.DataFrame:
    """Average over classes of the reference, then over reads; rows are cases, columns chips."""
    return _averaged(present_structures(rows), ["case", "chip"])


def _chip_values_over_time(rows: pd.DataFrame) -> dict[float, pd.DataFrame]:
    """Return ``chip_values`` of the rows of each time, in the order of the times."""
    values = _averaged(present_structures(rows), ["time_s", "case", "chip"])
    at_time = {time_s: one.droplevel("time_s") for time_s, one in values.groupby(level="time_s")}
    nothing = values.iloc[:0].droplevel("time_s")
    return {float(time_s): at_time.get(time_s, nothing) for time_s in rows["time_s"].unique()}


def _averaged(rows: pd.DataFrame, address: list[str]) -> pd.DataFrame:
    """Average values with the same address over classes, then over reads; columns are chips."""
    class_mean = rows.groupby([*address, "read"], dropna=False)["value"].mean().reset_index()
    return class_mean.groupby(address, dropna=False)["value"].mean().unstack("chip")


def notes_of(rows: pd.DataFrame) -> pd.Series:
    """Return the notes as text, without the mark of a smaller batch.

    A table read from CSV has NaN where a note is empty.
    """
    return _all_notes(rows).str.replace(SMALLER_BATCH, "", regex=True)


def _all_notes(rows: pd.DataFrame) -> pd.Series:
    return rows["note"].astype("string").fillna("")


def unit_of_rows(rows: pd.DataFrame) -> str:
    """Return the unit of the rows of one metric; rows of failed evaluations can lack it."""
    known = rows["unit"].dropna()
    return str(known.iloc[0]) if len(known) else ""


def check_columns(table: pd.DataFrame) -> None:
    """Raise a DataError for a missing column of ``COLUMNS`` or a row without a name of ``_NAMES``.

    A row without a patient cannot be resampled with the other rows of its patient, and grouping
    drops a row without another name.
    """
    advice = "; pass the long table of an evaluation (results.parquet)"
    require_columns(table, COLUMNS, "the results table", advice=advice)
    for column in _NAMES:
        rows = np.flatnonzero((table[column].isna() | (table[column] == "")).to_numpy(dtype=bool))
        if len(rows):
            raise DataError(
                f"results table, row {rows[0]} (counted from 0), column '{column}': expected a "
                f"name, got {table[column].iloc[rows[0]]!r} ({len(rows)} of {len(table)} rows). "
                "Complete the table, or run the evaluation again"
            )


def _run(
    key: dict[str, str],
    metric: str,
    on_chip: pd.DataFrame,
    digital: pd.DataFrame,
    notes: list[str],
) -> NetworkRun:
    same_model = digital[(digital["task"] == key["task"]) & (digital["model"] == key["model"])]
    own = digital_values(same_model[same_model["training"] == key["training"]])
    reference = digital_values(same_model[same_model["training"] == "digital"])
    if reference.empty:
        reference = own
        notes.append(OWN_REFERENCE if len(own) else "no baseline")
    chips = _chip_values_over_time(on_chip)
    evaluated = [set(values.index) for values in chips.values()]
    evaluated += [set(values.index) for values in (reference, own) if len(values)]
    cases = sorted(set.intersection(*evaluated))
    if len(cases) < max(map(len, evaluated)):
        notes.append(f"{len(cases)} of {max(map(len, evaluated))} cases are in every run")
    if not cases:
        raise DataError(
            f"{key['model']}, {key['training']}: no case has a {metric} in every run; is any "
            "structure of the test cases in their references?"
        )
    patient_of = on_chip.drop_duplicates("case").set_index("case")["patient"]
    chip_ids = sorted({chip for values in chips.values() for chip in values.columns})
    return NetworkRun(
        key=key,
        metric=metric,
        unit=unit_of_rows(on_chip),
        cases=cases,
        patients=[str(patient_of[case]) for case in cases],
        chips=[int(chip) for chip in chip_ids],
        reference=reference.reindex(cases).to_numpy(dtype=np.float64),
        own_digital=own.reindex(cases).to_numpy(dtype=np.float64),
        on_chip={
            time_s: values.reindex(index=cases, columns=chip_ids).to_numpy(dtype=np.float64)
            for time_s, values in chips.items()
        },
        rows=on_chip,
        note="; ".join(notes),
    )


def _limits(rows: pd.DataFrame) -> list[str]:
    """Return the notes on evaluations that failed or ran with a smaller batch."""
    chosen = {
        "failed evaluations left out": ~notes_of(rows).isin(RESULT_NOTES),
        "evaluations with a smaller batch_size, after running out of memory": _all_notes(
            rows
        ).str.contains(SMALLER_BATCH),
    }
    address = ["chip", "time_s", "read", "case"]
    counts = {
        what: len(rows.loc[where, address].drop_duplicates()) for what, where in chosen.items()
    }
    return [f"{count} {what}" for what, count in counts.items() if count]
