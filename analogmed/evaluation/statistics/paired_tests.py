"""Paired tests of two networks on the same patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analogmed.evaluation.statistics.bounded_means import CHUNK_VALUES
from analogmed.evaluation.statistics.intervals import TOO_SMALL
from analogmed.foundation.errors import DataError


@dataclass(frozen=True)
class PairedTest:
    """Result of :func:`paired_test`.

    Attributes:
        difference: mean of first minus second over cases.
        p_value: two-sided p-value; NaN with too few pairs.
        n_patients: number of patients in the test.
        note: limitation of the result; empty if there is none.
    """

    difference: float
    p_value: float
    n_patients: int
    note: str = ""


def paired_test(
    first: Mapping[str, float],
    second: Mapping[str, float],
    *,
    patients: Mapping[str, str] | None = None,
    n_resamples: int = 9999,
    seed: int = 0,
) -> PairedTest:
    """Compare two models on the same cases with a sign-flip permutation test.

    Args:
        first: value of each case for the first model (a dict or a pandas Series).
        second: value of each case for the second model, same cases.
        patients: patient of each case; the cases of one patient change sign together, since they
            are not independent. Default: every case is its own patient.
        n_resamples: number of permutations; with few patients all of them are enumerated instead.
        seed: seed of the permutations.

    Returns:
        Mean difference and two-sided p-value. If all differences are 0, p = 1.

    Raises:
        DataError: the two models were not evaluated on the same cases.

    Source: Good 2005, Permutation, Parametric and Bootstrap Tests; scipy.stats.permutation_test.

    Examples:
        >>> paired_test({"a": 0.9, "b": 0.8}, {"a": 0.9, "b": 0.8}).p_value
        1.0
    """
    differences = _differences(pd.Series(first), pd.Series(second))
    undefined = int(differences.isna().sum())
    note = f"{undefined} undefined pairs left out" if undefined else ""
    values = _shares_of_patients(differences.dropna(), patients)
    if len(values) < 2:
        difference = float(values.mean()) if len(values) else float("nan")
        return PairedTest(difference, float("nan"), len(values), TOO_SMALL)
    if not values.any():
        return PairedTest(0.0, 1.0, len(values), note)
    result = stats.permutation_test(
        (values,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(1, CHUNK_VALUES // len(values)),
        rng=np.random.default_rng(seed),
    )
    return PairedTest(float(values.mean()), float(result.pvalue), len(values), note)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of tests by Holm's step-down method.

    Args:
        p_values: p-values of all tests of one family; NaN marks a test that was not possible.

    Returns:
        Adjusted p-values in the same order; NaN stays NaN and is not counted.

    Source: Holm 1979, A simple sequentially rejective multiple test procedure, Scandinavian
    Journal of Statistics 6(2).

    Examples:
        >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)[: np.count_nonzero(~np.isnan(values))]
    steps = values[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(values.shape, np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(p) for p in adjusted]


def _differences(first: pd.Series, second: pd.Series) -> pd.Series:
    odd = sorted(set(first.index) ^ set(second.index))
    if odd:
        raise DataError(
            f"a paired test needs the same cases under both models, but {len(odd)} cases are in "
            f"one only (first: '{odd[0]}'): evaluate both models on one case list"
        )
    return first - second.reindex(first.index)


def _shares_of_patients(differences: pd.Series, patients: Mapping[str, str] | None) -> np.ndarray:
    """Return the contribution of each patient; their mean equals the mean over cases."""
    if patients is None:
        return differences.to_numpy(dtype=np.float64)
    missing = [case for case in differences.index if case not in patients]
    if missing:
        raise DataError(f"case '{missing[0]}' has no patient ({len(missing)} such cases)")
    sums = differences.groupby([patients[case] for case in differences.index]).sum()
    return sums.to_numpy(dtype=np.float64) * (len(sums) / max(len(differences), 1))
