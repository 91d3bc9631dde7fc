"""Agreement of two rankings of the same networks: Kendall's tau, top lists, and intervals."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analogmed.foundation.errors import ConfigError, NonFiniteError, ShapeError

LEVEL = 0.95
N_BOOT = 1000
_FEWEST = 3

Agreement = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Estimate:
    """Agreement of two rankings, with its confidence interval over networks.

    Attributes:
        value: agreement; NaN where it is undefined, because all scores of one ranking are equal.
        low, high: limits of the bootstrap interval.
        n: number of networks with both scores.
        level: confidence level of the interval.
    """

    value: float
    low: float
    high: float
    n: int
    level: float = LEVEL

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def kendall_tau(one: ArrayLike, other: ArrayLike) -> float:
    """Return Kendall's tau-b of two scores; tied pairs are neither concordant nor discordant.

    Args:
        one, other: scores, shape (networks,).

    Returns:
        -1 (reversed) to 1 (the same order); NaN where all scores of one are equal.

    Raises:
        ShapeError: they are not of the same networks, or of fewer than two.
        NonFiniteError: a score is NaN or infinite.

    Source: Kendall 1945, doi:10.1093/biomet/33.3.239; computed by scipy.stats.kendalltau.
    """
    return _tau(*_pair(one, other))


def top_tau(one: ArrayLike, other: ArrayLike, *, k: int) -> float:
    """Return Kendall's tau-b among the networks in the best k of either score.

    The union includes networks that only one of the two scores ranks highly, which would mislead a
    search; the tau among the best k of one score alone would ignore them.

    Args:
        one, other: scores, higher is better, shape (networks,).
        k: length of the lists; networks as good as the last one of a list are in it too.

    Raises:
        ConfigError: k is below 1 or above the number of networks.
        ShapeError, NonFiniteError: as :func:`kendall_tau`.
    """
    first, second = _pair(one, other)
    return _top_tau(first, second, _checked(k, len(first)))


def top_overlap(one: ArrayLike, other: ArrayLike, *, k: int) -> float:
    """Return the Jaccard index of the best k by each score.

    It is the number of shared networks over the number of networks in either list.

    Args:
        one, other: scores, higher is better, shape (networks,).
        k: length of the lists; networks as good as the last one of a list are in it too.

    Returns:
        0 (nothing shared) to 1 (the same networks).

    Raises:
        ConfigError: k is below 1 or above the number of networks.
        ShapeError, NonFiniteError: as :func:`kendall_tau`.
    """
    first, second = _pair(one, other)
    return _top_overlap(first, second, _checked(k, len(first)))


def rank_agreement(
    one: ArrayLike,
    other: ArrayLike,
    *,
    k: int | None = None,
    overlap: bool = False,
    n_boot: int = N_BOOT,
    level: float = LEVEL,
    seed: int = 0,
) -> Estimate:
    """Return the agreement of two scores with a bootstrap interval over networks.

    Networks are resampled with replacement, with both scores of each. Copies of one network tie in
    both scores, and tau-b leaves such pairs out. The interval is the percentile interval.

    Args:
        one, other: scores of the same networks, shape (networks,); networks of which either is NaN
            are left out.
        k: length of the top lists. Without it, tau is computed over all networks.
        overlap: whether to return the Jaccard index of the top lists instead of tau.
        n_boot: number of bootstrap samples.
        level: confidence level of the interval.
        seed: seed of the bootstrap samples.

    Raises:
        ConfigError: k is out of its range, or overlap is requested without it.
        ShapeError: fewer than three networks have both scores.

    Source: Efron, Tibshirani 1993, An introduction to the bootstrap.
    """
    first, second = (np.asarray(scores, dtype=np.float64) for scores in (one, other))
    if first.shape == second.shape and first.ndim == 1:
        both = ~(np.isnan(first) | np.isnan(second))
        first, second = first[both], second[both]
    first, second = _pair(first, second, fewest=_FEWEST)
    statistic = _statistic(k, overlap, len(first))
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(n_boot):
        chosen = generator.integers(len(first), size=len(first))
        drawn.append(statistic(first[chosen], second[chosen]))
    ends = [50.0 * (1 - level), 50.0 * (1 + level)]
    usable = [value for value in drawn if np.isfinite(value)]
    low, high = np.percentile(usable, ends) if usable else (np.nan, np.nan)
    return Estimate(statistic(first, second), float(low), float(high), len(first), level)


def agreement_matrix(
    scores: pd.DataFrame, *, k: int | None = None, overlap: bool = False, **settings: float
) -> pd.DataFrame:
    """Return the agreement of every pair of tasks, or of other columns.

    Args:
        scores: one column per task, one row per network; NaN where a network was not scored.
        k, overlap: options of :func:`rank_agreement`.
        **settings: n_boot, level and seed of :func:`rank_agreement`.

    Returns:
        Long table, columns ``one``, ``other``, ``value``, ``low``, ``high``, ``n``: all ordered
        pairs, including a task with itself. A pair with fewer than three networks has NaN.
    """
    found: dict[frozenset[str], Estimate] = {}
    names = list(map(str, scores.columns))
    rows = []
    for one in names:
        for other in names:
            pair = frozenset((one, other))
            if pair not in found:
                found[pair] = _of_pair(
                    scores[[one, other]] if one != other else scores[[one]], k, overlap, settings
                )
            rows.append({"one": one, "other": other, **_columns(found[pair])})
    return pd.DataFrame(rows)


def _of_pair(
    scores: pd.DataFrame, k: int | None, overlap: bool, settings: Mapping[str, float]
) -> Estimate:
    both = scores.dropna()
    if len(both) < max(_FEWEST, k or 0):
        return Estimate(np.nan, np.nan, np.nan, len(both))
    values = both.to_numpy(dtype=np.float64)
    return rank_agreement(values[:, 0], values[:, -1], k=k, overlap=overlap, **settings)  # type: ignore[arg-type]


def _columns(estimate: Estimate) -> dict[str, float]:
    return {
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "n": estimate.n,
    }


def _statistic(k: int | None, overlap: bool, n: int) -> Agreement:
    if k is None:
        if overlap:
            raise ConfigError("overlap is that of two top lists: give their length k")
        return _tau
    length = _checked(k, n)
    compare = _top_overlap if overlap else _top_tau
    return lambda first, second: compare(first, second, length)


def _tau(first: np.ndarray, second: np.ndarray) -> float:
    if (first == first[0]).all() or (second == second[0]).all():
        return float("nan")
    return float(stats.kendalltau(first, second, variant="b", nan_policy="raise").statistic)


def _top_tau(first: np.ndarray, second: np.ndarray, k: int) -> float:
    either = np.union1d(_top(first, k), _top(second, k))
    return _tau(first[either], second[either])


def _top_overlap(first: np.ndarray, second: np.ndarray, k: int) -> float:
    one, other = _top(first, k), _top(second, k)
    return len(np.intersect1d(one, other)) / len(np.union1d(one, other))


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the positions of the best k, and of those that tie with the last."""
    return np.flatnonzero(scores >= np.partition(scores, -k)[-k])


def _checked(k: int, n: int) -> int:
    if not 1 <= k <= n:
        raise ConfigError(f"k: a top list of {n} networks has 1 to {n} of them, got {k}")
    return k


def _pair(one: ArrayLike, other: ArrayLike, fewest: int = 2) -> tuple[np.ndarray, np.ndarray]:
    first, second = (np.asarray(scores, dtype=np.float64) for scores in (one, other))
    if first.ndim != 1 or first.shape != second.shape or len(first) < fewest:
        raise ShapeError(
            f"expected two scores of the same {fewest} or more networks, found shapes "
            f"{first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise NonFiniteError("a score is NaN or infinite; leave that network out of both rankings")
    return first, second
