"""Standard deviation between chips, with its confidence interval."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from analogmed.evaluation.statistics.crossed_values import by_patient
from analogmed.evaluation.statistics.intervals import TOO_SMALL, UNBOUNDED, Interval, check_settings

FEWEST_FOR_KURTOSIS = 4
FEWEST_FOR_SLOPES = 3
LEAST_DEGREES = 2.0
"""Minimum degrees of freedom of the upper end; with fewer it would be arbitrarily large."""
_ROUNDING = 1e-12
"""Relative difference between means of chips below which they are equal but for rounding."""


def std_between_chips(
    values: np.ndarray,
    *,
    patients: Sequence[object],
    bounds: tuple[float, float] = UNBOUNDED,
    level: float = 0.95,
) -> Interval:
    """Compute the standard deviation over chips of the mean over cases, with its interval.

    The standard deviation applies to a test set of this size. The interval is that of a normal
    variance (chi-square). Heavy tails between chips, and patients that are affected unequally by
    the difference between chips, increase the uncertainty of the variance and reduce the degrees of
    freedom. The upper end has at least two degrees of freedom (one with two chips) and is at most
    half the range of the values, the largest possible standard deviation.

    Args:
        values: value of each case and chip, shape (cases, chips); NaN marks an undefined value.
        patients: patient of each case.
        bounds: smallest and largest possible value.
        level: confidence level in (0, 1).

    Returns:
        The standard deviation (n - 1 in the denominator) and its interval. With fewer than two
        patients or chips, there is no interval and the note is ``"too few patients or chips for an
        interval"``.

    Raises:
        ConfigError: ``level`` is out of its range.
        DataError: a case has no patient.

    Source: Shoemaker 2003, Fixing the F test for equal variances, American Statistician 57(2), for
    the degrees of freedom under heavy tails.

    Example:
        >>> chips = np.array([0.70, 0.72, 0.74])
        >>> found = std_between_chips(np.stack([chips, chips + 0.1]), patients="ab")
        >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3)
        (0.02, 0.01, 0.126)
    """
    check_settings(1, level)
    sums, counts = by_patient(values, patients)
    kept = counts.any(axis=1)
    sums, counts = sums[kept], counts[kept]
    ran = counts.any(axis=0) if counts.any() else np.ones(counts.shape[1], dtype=bool)
    sums, counts = sums[:, ran], counts[:, ran]
    n_patients, n_chips = counts.shape
    if n_patients == 0 or n_chips < 2:
        return Interval(np.nan, np.nan, np.nan, n_patients, n_chips, TOO_SMALL)
    means = sums.sum(axis=0) / counts.sum(axis=0)
    deviations = means - means.mean()
    if np.abs(deviations).max() <= _ROUNDING * np.abs(means).max():
        deviations[:] = 0.0
    variance = float(deviations @ deviations) / (n_chips - 1)
    if n_patients < 2:
        return Interval(np.sqrt(variance), np.nan, np.nan, n_patients, n_chips, TOO_SMALL)
    if variance == 0.0:
        return Interval(0.0, 0.0, 0.0, n_patients, n_chips)
    per_patient = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
    of_log = 2.0 / (n_chips - 1) + _from_tails(deviations) + _from_patients(per_patient, deviations)
    degrees = 2.0 / of_log
    of_upper = max(degrees, min(n_chips - 1.0, LEAST_DEGREES))
    low = np.sqrt(degrees * variance / stats.chi2.ppf(0.5 * (1.0 + level), degrees))
    high = np.sqrt(of_upper * variance / stats.chi2.ppf(0.5 * (1.0 - level), of_upper))
    high = max(min(high, 0.5 * (bounds[1] - bounds[0])), np.sqrt(variance))
    return Interval(float(np.sqrt(variance)), float(low), float(high), n_patients, n_chips)


def _from_tails(deviations: np.ndarray) -> float:
    """Return the variance of the log variance that is due to heavy tails of the chips."""
    m = len(deviations)
    if m < FEWEST_FOR_KURTOSIS:
        return 0.0
    excess = float(stats.kurtosis(deviations, bias=False))
    return max(excess, 0.0) / m


def _from_patients(per_patient: np.ndarray, deviations: np.ndarray) -> float:
    """Return the variance of the log variance that is due to unequal effects on patients.

    Each patient's values are regressed on the deviations of the chips. The slopes are 1 on average;
    their scatter beyond the noise of a regression is due to the choice of patients.
    """
    if len(deviations) < FEWEST_FOR_SLOPES:
        return 0.0
    defined = ~np.isnan(per_patient)
    enough = defined.sum(axis=1) >= FEWEST_FOR_SLOPES
    values, defined = per_patient[enough], defined[enough]
    if len(values) < 2:
        return 0.0
    centred = np.nan_to_num(values - np.nanmean(values, axis=1, keepdims=True))
    on = np.where(defined, deviations, 0.0)
    on = np.where(defined, on - on.sum(axis=1, keepdims=True) / defined.sum(axis=1)[:, None], 0.0)
    squares = (on**2).sum(axis=1)
    usable = squares > 0.0
    slopes = (centred * on).sum(axis=1)[usable] / squares[usable]
    left = centred[usable] - slopes[:, None] * on[usable]
    degrees = (defined[usable].sum() - 2 * usable.sum()) * (usable.sum() - 1) / usable.sum()
    noise = (left**2).sum() / max(degrees, 1.0) * float((1.0 / squares[usable]).mean())
    return 4.0 * max(float(slopes.var(ddof=1)) - noise, 0.0) / len(slopes)
