"""Values of cases on chips, summed by patient, for the resampling of patients and chips."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analogmed.foundation.errors import DataError, NonFiniteError, ShapeError

DETERMINISTIC = object()
"""Placeholder for the set of chips of an array without chips."""


def by_patient(array: np.ndarray, patients: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Return sum and number of the defined values of each patient, shape (patients, chips) each.

    Raises:
        DataError: a case has no patient.
    """
    columns = np.asarray(array, dtype=np.float64).reshape(
        len(array), 1 if array.ndim == 1 else array.shape[1]
    )
    codes, names = pd.factorize(pd.Series(list(patients), dtype=object))
    if (codes < 0).any():
        missing = np.flatnonzero(codes < 0)
        raise DataError(
            f"patients: {len(missing)} of {len(codes)} cases have no patient; expected an "
            f"identifier for each case, got {patients[missing[0]]} for case number {missing[0]}. "
            "Give each case its patient."
        )
    total = np.zeros((len(names), columns.shape[1]))
    count = np.zeros_like(total)
    np.add.at(total, codes, np.nan_to_num(columns))
    np.add.at(count, codes, ~np.isnan(columns))
    return total, count


@dataclass(frozen=True)
class CrossedValues:
    """Sums and counts of the values of each array, shape (patients, chips), and its chip set."""

    sums: list[np.ndarray]
    counts: list[np.ndarray]
    sets: list[Hashable]
    chips: dict[Hashable, int]

    @classmethod
    def of(
        cls,
        arrays: Sequence[np.ndarray],
        patients: Sequence[object],
        chip_sets: Sequence[Hashable] | None,
    ) -> "CrossedValues":
        """Sum the arrays by patient; exclude patients and chips without any value.

        Raises:
            ShapeError: the arrays, or the patients, do not share their axes, or an array has no set
                of chips.
            NonFiniteError: an array contains Inf.
            DataError: a case has no patient.
        """
        sets = list(chip_sets) if chip_sets is not None else [None] * len(arrays)
        _check_arrays(arrays, patients, sets)
        pairs = [by_patient(array, patients) for array in arrays]
        kept = np.any([count.any(axis=1) for _, count in pairs], axis=0)
        sums, counts = [total[kept] for total, _ in pairs], [count[kept] for _, count in pairs]
        chips: dict[Hashable, int] = {}
        for name in dict.fromkeys(s for s, a in zip(sets, arrays, strict=True) if a.ndim == 2):
            of_set = [k for k, s in enumerate(sets) if s == name and arrays[k].ndim == 2]
            ran = np.any([counts[k].any(axis=0) for k in of_set], axis=0)
            ran = ran if ran.any() else np.ones_like(ran)
            for k in of_set:
                sums[k], counts[k] = sums[k][:, ran], counts[k][:, ran]
            chips[name] = int(ran.sum())
        sets = [s if a.ndim == 2 else DETERMINISTIC for s, a in zip(sets, arrays, strict=True)]
        return cls(sums, counts, sets, chips)

    @property
    def n_patients(self) -> int:
        """Number of patients with at least one value."""
        return len(self.counts[0])

    @property
    def largest(self) -> float:
        """Largest absolute mean of a patient on a chip."""
        pairs = zip(self.sums, self.counts, strict=True)
        return max(float(np.nanmax(np.abs(divide(*pair)), initial=0.0)) for pair in pairs)


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient; NaN where the denominator is 0."""
    result = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)


def _check_arrays(
    arrays: Sequence[np.ndarray], patients: Sequence[object], sets: Sequence[Hashable]
) -> None:
    if not arrays:
        raise ShapeError("no array given: pass at least one array of values per case")
    if len(sets) != len(arrays):
        raise ShapeError(f"chip_sets names {len(sets)} sets of chips for {len(arrays)} arrays")
    chips: dict[Hashable, set[int]] = {}
    for array, name in zip(arrays, sets, strict=True):
        if array.ndim not in (1, 2) or len(array) != len(patients):
            raise ShapeError(
                f"expected shape ({len(patients)},) or ({len(patients)}, chips) for "
                f"{len(patients)} cases, but an array has shape {array.shape}"
            )
        if np.isinf(array).any():
            raise NonFiniteError("an array of values holds Inf; undefined values must be NaN")
        if array.ndim == 2:
            chips.setdefault(name, set()).add(array.shape[1])
    for found in chips.values():
        if len(found) > 1 or 0 in found:
            raise ShapeError(
                f"arrays on one set of chips must have the same chips, but have {sorted(found)}: "
                "name the set of each array in chip_sets if they ran on different chips"
            )
