"""Intervals and tests where patients and chips both vary.

A result on analog hardware is one draw of patients and one draw of chips. Resampling only one of
them gives intervals that are too narrow; the two-way bootstrap resamples both (Owen 2007, The
pigeonhole bootstrap, Annals of Applied Statistics 1(2)).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analogmed.errors import ConfigError, NonFiniteError, ShapeError

TOO_SMALL = "n too small"
CHUNK_VALUES = 4_000_000


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: the statistic on all patients and chips.
        low, high: ends of the interval; NaN where there are too few patients or chips.
        n_patients: patients that carry at least one value.
        n_chips: chips, of the smallest set; 0 where every array is deterministic.
        note: empty, or why there is no interval.
    """

    estimate: float
    low: float
    high: float
    n_patients: int
    n_chips: int
    note: str = ""


@dataclass(frozen=True)
class ChipMeans:
    """Mean over the cases of each chip, in each of R bootstrap samples.

    Attributes:
        values: float64, shape (R, chips); NaN where a chip has no value.
        weights: how often each chip was drawn, shape (R, chips).
    """

    values: np.ndarray
    weights: np.ndarray

    def mean(self) -> np.ndarray:
        """Mean over chips, shape (R,)."""
        weights = np.where(np.isnan(self.values), 0.0, self.weights)
        return _divide((weights * np.nan_to_num(self.values)).sum(axis=1), weights.sum(axis=1))

    def std(self) -> np.ndarray:
        """Standard deviation over chips (n - 1 in the denominator), shape (R,)."""
        weights = np.where(np.isnan(self.values), 0.0, self.weights)
        squares = (np.nan_to_num(self.values) - np.nan_to_num(self.mean())[:, None]) ** 2
        variance = _divide((weights * squares).sum(axis=1), weights.sum(axis=1) - 1.0)
        return np.sqrt(variance)


def mean_over_chips(means: ChipMeans) -> np.ndarray:
    """The default statistic of :func:`two_way_bootstrap`."""
    return means.mean()


def two_way_bootstrap(
    *arrays: np.ndarray,
    patients: Sequence[object],
    statistic: Callable[..., np.ndarray] = mean_over_chips,
    chip_sets: Sequence[Hashable] | None = None,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic of several arrays on the same patients and chips.

    Patients (with all their cases) and chips are drawn with replacement, independently of each
    other; all arrays see the same draw, so a difference or a ratio of them is paired. A value that
    is undefined in one array only is left out of that array alone. With few patients or chips the
    interval is too narrow: in simulation the nominal 0.95 covered 0.92 with 20 patients and 10
    chips, 0.89 with 20 and 5, 0.80 with 100 and 5.

    Args:
        *arrays: values per case, shape (cases,) for a deterministic run, or per case and chip,
            shape (cases, chips); NaN marks an undefined value and is left out of the means.
        patients: the patient of each case.
        chip_sets: the set of chips of each array. Arrays of one set share its draw, so that their
            comparison is paired over chips; sets are drawn independently of each other, as chips
            of two networks are. Default: all arrays ran on one set.
        statistic: called with one :class:`ChipMeans` per array; returns shape (R,).
        n_boot: number of bootstrap samples.
        level: confidence level in (0, 1).
        seed: seed of the draws; one seed draws the same patients for any number of chips.

    Returns:
        The statistic and its interval. Fewer than two patients, or a single chip, give no
        interval and the note ``"n too small"``.

    Raises:
        ShapeError: the arrays, or the patients, do not share their axes, or not every array has its
            set of chips.
        NonFiniteError: an array holds Inf.
        ConfigError: ``n_boot`` or ``level`` is out of its range.

    Example:
        >>> digital = np.array([0.90, 0.80, 0.85])
        >>> analog = digital[:, None] - np.array([0.1, 0.2])
        >>> drop = two_way_bootstrap(
        ...     digital, analog, patients="abc", statistic=lambda d, a: d.mean() - a.mean()
        ... )
        >>> round(drop.estimate, 3), round(drop.low, 3), round(drop.high, 3)
        (0.15, 0.1, 0.2)
    """
    _check_settings(n_boot, level)
    sets = _chips_of_sets(arrays, patients, chip_sets)
    names = list(chip_sets) if chip_sets is not None else [None] * len(arrays)
    sums, counts = _per_patient(arrays, patients)
    n_patients, n_chips = counts[0].shape[0], min(sets.values(), default=0)
    once = {name: np.ones((1, chips)) for name, chips in sets.items()}
    everything = _statistic(statistic, sums, counts, names, np.ones((1, n_patients)), once)
    estimate = float(everything[0])
    if n_patients < 2 or n_chips == 1:
        return Interval(estimate, np.nan, np.nan, n_patients, n_chips, TOO_SMALL)
    patient_draws, *chip_draws = np.random.default_rng(seed).spawn(1 + len(sets))
    samples = []
    step = max(1, CHUNK_VALUES // n_patients)
    for start in range(0, n_boot, step):
        size = min(step, n_boot - start)
        patient_weights = _resample(patient_draws, n_patients, size)
        chip_weights = {
            name: _resample(draws, chips, size)
            for (name, chips), draws in zip(sets.items(), chip_draws, strict=True)
        }
        samples.append(_statistic(statistic, sums, counts, names, patient_weights, chip_weights))
    low, high = _percentile_interval(np.concatenate(samples), level)
    note = "" if np.isfinite(estimate) else "undefined"
    return Interval(estimate, low, high, n_patients, n_chips, note)


def _check_settings(n_boot: int, level: float) -> None:
    if n_boot < 1:
        raise ConfigError(f"n_boot must be at least 1, but is {n_boot}")
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level must lie between 0 and 1, but is {level}")


def _chips_of_sets(
    arrays: Sequence[np.ndarray],
    patients: Sequence[object],
    chip_sets: Sequence[Hashable] | None,
) -> dict[Hashable, int]:
    """Number of chips of each set; no set where every array is deterministic."""
    if not arrays:
        raise ShapeError("no array given: pass at least one array of values per case")
    names = list(chip_sets) if chip_sets is not None else [None] * len(arrays)
    if len(names) != len(arrays):
        raise ShapeError(f"chip_sets names {len(names)} sets of chips for {len(arrays)} arrays")
    chips: dict[Hashable, set[int]] = {}
    for array, name in zip(arrays, names, strict=True):
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
    return {name: found.pop() for name, found in chips.items()}


def _per_patient(
    arrays: Sequence[np.ndarray], patients: Sequence[object]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Sum and number of defined values of each patient and chip; patients without any go."""
    columns = [np.asarray(array, dtype=np.float64).reshape(len(array), -1) for array in arrays]
    codes, names = pd.factorize(pd.Series(list(patients), dtype=object))
    sums = [np.zeros((len(names), column.shape[1])) for column in columns]
    counts = [np.zeros_like(total) for total in sums]
    for column, total, count in zip(columns, sums, counts, strict=True):
        np.add.at(total, codes, np.nan_to_num(column))
        np.add.at(count, codes, ~np.isnan(column))
    kept = np.any([count.any(axis=1) for count in counts], axis=0)
    return [total[kept] for total in sums], [count[kept] for count in counts]


def _resample(generator: np.random.Generator, n: int, size: int) -> np.ndarray:
    """How often each of n items is drawn in each of ``size`` samples, shape (size, n)."""
    return generator.multinomial(n, np.full(n, 1.0 / n), size=size).astype(np.float64)


def _statistic(
    statistic: Callable[..., np.ndarray],
    sums: Sequence[np.ndarray],
    counts: Sequence[np.ndarray],
    names: Sequence[Hashable],
    patient_weights: np.ndarray,
    chip_weights: Mapping[Hashable, np.ndarray],
) -> np.ndarray:
    means = []
    for total, count, name in zip(sums, counts, names, strict=True):
        values = _divide(patient_weights @ total, patient_weights @ count)
        deterministic = total.shape[1] == 1
        weights = np.ones_like(values) if deterministic else chip_weights[name]
        means.append(ChipMeans(values, weights))
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.asarray(statistic(*means), dtype=np.float64)
    return np.where(np.isfinite(result), result, np.nan)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; NaN where nothing is left to divide by."""
    result = np.full(np.broadcast(numerator, denominator).shape, np.nan)
    return np.divide(numerator, denominator, out=result, where=denominator > 0)


def _percentile_interval(samples: np.ndarray, level: float) -> tuple[float, float]:
    defined = samples[np.isfinite(samples)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, [50.0 * (1.0 - level), 50.0 * (1.0 + level)])
    return float(low), float(high)
