"""Confidence intervals over patients and chips.

A result on analog hardware is one draw of patients and one draw of chips. Resampling only one of
them yields intervals that are too narrow (Owen 2007, The pigeonhole bootstrap, Annals of Applied
Statistics 1(2)). Percentiles of a bootstrap over few chips are also too narrow.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from scipy import stats

from analogmed.evaluation.statistics.bounded_means import CHUNK_VALUES, limit_distances
from analogmed.evaluation.statistics.crossed_values import CrossedValues, divide
from analogmed.foundation.settings.checks import require_at_least_one, require_number

N_BOOT = 2000
LEVEL = 0.95
"""Bootstrap samples and confidence level of the tables of studies."""
TOO_SMALL = "too few patients or chips for an interval"
UNDEFINED = "undefined"
UNBOUNDED = (-np.inf, np.inf)
FEW = 8
"""Minimum sample size for bootstrap-t quantiles; smaller samples use Student's t."""
STEP = 1e-5
"""Step of the numerical derivative of a statistic, relative to the largest value."""
NEGLIGIBLE = 1e-10
"""Standard error, relative to the largest value, below which it is a rounding error."""
LEAST_ERROR = 0.2
"""Smallest standard error of a bootstrap sample, relative to that of the data."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval.

    Attributes:
        estimate: the statistic on all patients and chips.
        low: lower end of the interval; NaN where there are too few patients or chips.
        high: upper end, as ``low``.
        n_patients: number of patients with at least one value.
        n_chips: number of chips of the smallest set; 0 where every array is deterministic.
        note: reason for a missing interval; empty otherwise.
    """

    estimate: float
    low: float
    high: float
    n_patients: int
    n_chips: int
    note: str = ""

    def cells(self, name: str) -> dict[str, float]:
        """Return the estimate and its limits as cells ``NAME``, ``NAME_low`` and ``NAME_high``."""
        return {name: self.estimate, f"{name}_low": self.low, f"{name}_high": self.high}


@dataclass(frozen=True)
class ChipMeans:
    """Mean over the cases of each chip, in each of R bootstrap samples.

    Attributes:
        values: float64, shape (R, chips) or (1, chips); NaN where a chip has no value.
        weights: number of draws of each chip, shape (R, chips) or (1, chips).
    """

    values: np.ndarray
    weights: np.ndarray

    def mean(self) -> np.ndarray:
        """Return the mean over chips, shape (R,)."""
        weights = np.where(np.isnan(self.values), 0.0, self.weights)
        return divide((weights * np.nan_to_num(self.values)).sum(axis=1), weights.sum(axis=1))


Statistic: TypeAlias = Callable[..., np.ndarray]


def mean_over_chips(means: ChipMeans) -> np.ndarray:
    """Return the mean over chips, the default statistic of :func:`two_way_bootstrap`."""
    return means.mean()


def difference(first: ChipMeans, second: ChipMeans) -> np.ndarray:
    """Return first minus second."""
    return first.mean() - second.mean()


def ratio(first: ChipMeans, second: ChipMeans) -> np.ndarray:
    """Return first divided by second; undefined where the second is 0."""
    return first.mean() / second.mean()


def two_way_bootstrap(
    *arrays: np.ndarray,
    patients: Sequence[object],
    statistic: Statistic = mean_over_chips,
    chip_sets: Sequence[Hashable] | None = None,
    bounds: tuple[float, float] = UNBOUNDED,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Compute the interval of a function of the means of arrays on the same patients and chips.

    Patients (with all their cases) and chips are drawn with replacement. All arrays use the same
    draw, so differences and ratios are paired. Each resampling axis (patients, each set of chips)
    has its bootstrap-t interval, or Student's t interval with fewer than eight units. Where the
    statistic is bounded, neither end is farther from the estimate than the confidence limit for the
    mean of bounded values. Below and above the estimate, the distances to the ends of all axes are
    combined as the root of the sum of their squares. A value that is undefined in one array is
    excluded from that array only. docs/explanation/statistics.md lists the measured interval
    coverage.

    Args:
        *arrays: values per case, shape (cases,) for a deterministic run, or per case and chip,
            shape (cases, chips); NaN marks an undefined value, which is excluded from the means.
        patients: patient of each case.
        statistic: smooth function of the ``mean()`` of one :class:`ChipMeans` per array; returns
            shape (R,).
        chip_sets: set of chips of each array. Arrays of one set share its draw, so that their
            comparison is paired over chips; different sets are drawn independently, such as the
            chips of two models. Default: one set for all arrays.
        bounds: smallest and largest possible value of the statistic; they limit the interval.
        n_boot: number of bootstrap samples of each resampling axis.
        level: confidence level in (0, 1).
        seed: seed of the draws; one seed draws the same patients for any number of chips.

    Returns:
        The statistic and its interval. With fewer than two patients, or a single chip, there is no
        interval and the note is ``"too few patients or chips for an interval"``.

    Raises:
        ShapeError: the arrays, or the patients, do not share their axes, or an array has no set of
            chips.
        NonFiniteError: an array contains Inf.
        DataError: a case has no patient.
        ConfigError: ``n_boot`` or ``level`` is out of its range.

    Source: Efron 1981, Canadian Journal of Statistics 9(2), for the bootstrap-t; Learned-Miller and
    Thomas 2019, arXiv:1905.06208, for the limits of a bounded mean; Zou and Donner 2008, Statistics
    in Medicine 27(10), for the sum of squared distances.

    Example:
        >>> digital = np.array([0.90, 0.80, 0.85])
        >>> analog = digital[:, None] - np.array([0.10, 0.11, 0.12])
        >>> drop = two_way_bootstrap(digital, analog, patients="abc", statistic=difference)
        >>> round(drop.estimate, 3), round(drop.low, 3), round(drop.high, 3)
        (0.11, 0.085, 0.135)
    """
    check_settings(n_boot, level)
    values = CrossedValues.of(arrays, patients, chip_sets)
    n_patients, n_chips = values.n_patients, min(values.chips.values(), default=0)
    estimate = float(_evaluate(statistic, values)[0])
    if n_patients < 2 or n_chips == 1:
        return Interval(estimate, np.nan, np.nan, n_patients, n_chips, TOO_SMALL)
    if not np.isfinite(estimate):
        return Interval(estimate, np.nan, np.nan, n_patients, n_chips, UNDEFINED)
    axes: list[_ResamplingAxis] = [_Patients(values, statistic)]
    axes += [_Chips(values, statistic, name) for name in values.chips]
    generators = np.random.default_rng(seed).spawn(len(axes))
    room = (estimate - bounds[0], bounds[1] - estimate)
    half_widths = [
        axis.half_widths(estimate, room, n_boot, level, draws)
        for axis, draws in zip(axes, generators, strict=True)
    ]
    below, above = np.sqrt(np.square(half_widths).sum(axis=0))
    low, high = np.clip([estimate - below, estimate + above], *bounds)
    return Interval(estimate, float(low), float(high), n_patients, n_chips)


def check_settings(n_boot: int, level: float) -> None:
    """Raise a ConfigError for settings out of their range."""
    require_at_least_one("n_boot", n_boot)
    require_number("level", level, above=0, below=1)


def _means(
    values: CrossedValues,
    patient_weights: np.ndarray | None = None,
    chip_weights: Mapping[Hashable, np.ndarray] | None = None,
) -> list[ChipMeans]:
    """Compute the chip means of each array, with weights (R, patients) and (R, chips)."""
    if patient_weights is None:
        patient_weights = np.ones((1, values.n_patients))
    means = []
    for total, count, name in zip(values.sums, values.counts, values.sets, strict=True):
        per_chip = divide(patient_weights @ total, patient_weights @ count)
        weights = (chip_weights or {}).get(name, np.ones((1, total.shape[1])))
        means.append(ChipMeans(per_chip, weights))
    return means


def _evaluate(statistic: Statistic, values: CrossedValues) -> np.ndarray:
    return _defined(statistic, _means(values))


def _defined(statistic: Statistic, means: Sequence[ChipMeans]) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.asarray(statistic(*means), dtype=np.float64)
    return np.where(np.isfinite(result), result, np.nan)


def _with_slopes(
    statistic: Statistic, means: Sequence[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the statistic and its derivative by the mean of each array, shape (R,) each."""
    at = [ChipMeans(mean[:, None], np.ones((1, 1))) for mean in means]
    slopes = []
    for k, mean in enumerate(means):
        step = STEP * (float(np.nanmax(np.abs(mean), initial=0.0)) or 1.0)
        ends = []
        for sign in (1.0, -1.0):
            moved = ChipMeans(at[k].values + sign * step, at[k].weights)
            ends.append(_defined(statistic, [*at[:k], moved, *at[k + 1 :]]))
        slopes.append((ends[0] - ends[1]) / (2.0 * step))
    return _defined(statistic, at), slopes


@dataclass(frozen=True)
class _ResamplingAxis:
    """Resampling axis: its units are resampled, everything else is fixed."""

    values: CrossedValues
    statistic: Statistic

    @property
    def n_units(self) -> int:
        raise NotImplementedError

    def influence(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the statistic, shape (R,), and its change with each unit, shape (R, units)."""
        raise NotImplementedError

    def half_widths(
        self,
        estimate: float,
        room: tuple[float, float],
        n_boot: int,
        level: float,
        draws: np.random.Generator,
    ) -> tuple[float, float]:
        """Return the distances from the estimate to the lower and the upper end.

        ``room`` contains the distances to the smallest and the largest possible value.
        """
        error = float(self._studentised(np.ones((1, self.n_units)))[1][0])
        if error <= NEGLIGIBLE * self.values.largest:
            return 0.0, 0.0
        below, above = self._bootstrap_t(estimate, error, n_boot, level, draws)
        deviations = np.nan_to_num(self.influence(np.ones((1, self.n_units)))[1][0])
        limits = limit_distances(deviations, room, level=level, n_draws=n_boot, generator=draws)
        return min(below, limits[0]), min(above, limits[1])

    def _bootstrap_t(
        self, estimate: float, error: float, n_boot: int, level: float, draws: np.random.Generator
    ) -> tuple[float, float]:
        """Return the distances of the bootstrap-t interval, or of Student's t for few units.

        The standard error of each sample has a lower limit: where only one unit differs from the
        others, a sample without it has almost no error and its quotient would be arbitrarily large.
        """
        ratios = [np.empty(0)]
        step = max(1, CHUNK_VALUES // self.n_units)
        for start in range(0, n_boot if self.n_units >= FEW else 0, step):
            weights = _resample(draws, self.n_units, min(step, n_boot - start))
            drawn, errors = self._studentised(weights)
            quotients = (drawn - estimate) / np.maximum(errors, LEAST_ERROR * error)
            ratios.append(quotients[np.isfinite(drawn)])
        usable = np.concatenate(ratios)
        if not len(usable):
            t = float(stats.t.ppf(0.5 * (1.0 + level), self.n_units - 1))
            return t * error, t * error
        ends = np.percentile(usable, [50 * (1 + level), 50 * (1 - level)])
        return max(float(ends[0]), 0.0) * error, max(-float(ends[1]), 0.0) * error

    def _studentised(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the statistic and its standard error over the units, shape (R,) each."""
        statistic, influence = self.influence(weights)
        n = self.n_units
        squares = (weights * np.nan_to_num(influence) ** 2).sum(axis=1)
        return statistic, np.sqrt(squares / (n * (n - 1)))


class _Patients(_ResamplingAxis):
    @property
    def n_units(self) -> int:
        return self.values.n_patients

    def influence(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means = _means(self.values, patient_weights=weights)
        result, slopes = _with_slopes(self.statistic, [mean.mean() for mean in means])
        total = np.zeros(weights.shape)
        for k, (mean, slope) in enumerate(zip(means, slopes, strict=True)):
            defined = ~np.isnan(mean.values)
            n_chips = np.maximum(defined.sum(axis=1, keepdims=True), 1)
            per_value = self.n_units * slope[:, None] / n_chips
            share = divide(np.where(defined, per_value, 0.0), weights @ self.values.counts[k])
            share, centre = np.nan_to_num(share), np.nan_to_num(mean.values)
            total += share @ self.values.sums[k].T
            total -= (share * centre) @ self.values.counts[k].T
        return result, total


@dataclass(frozen=True)
class _Chips(_ResamplingAxis):
    name: Hashable = field(default=None)

    @property
    def n_units(self) -> int:
        return self.values.chips[self.name]

    def influence(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means = _means(self.values, chip_weights={self.name: weights})
        centres = [mean.mean() for mean in means]
        result, slopes = _with_slopes(self.statistic, centres)
        total = np.zeros(weights.shape)
        for mean, centre, slope, name in zip(means, centres, slopes, self.values.sets, strict=True):
            if name == self.name:
                drawn = np.where(np.isnan(mean.values), 0.0, weights).sum(axis=1)
                share = divide(self.n_units * slope, drawn)
                total += share[:, None] * np.nan_to_num(mean.values - centre[:, None])
        return result, total


def _resample(generator: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Return how often each of n items is drawn in ``size`` samples, shape (size, n)."""
    return generator.multinomial(n, np.full(n, 1.0 / n), size=size).astype(np.float64)
