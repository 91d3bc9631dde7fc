"""Confidence limits of the mean of bounded values."""

import numpy as np

CHUNK_VALUES = 4_000_000


def limit_distances(
    deviations: np.ndarray,
    room: tuple[float, float],
    *,
    level: float,
    n_draws: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the distances from a mean to its lower and its upper confidence limit.

    No shape of the distribution is assumed. One value is added, the smallest possible value for the
    lower limit and the largest possible value for the upper one. All values get random weights that
    are uniform over the simplex, and the limit is a quantile of the weighted mean. For values of
    0 and 1 these are the limits of Clopper and Pearson, with guaranteed coverage. For other values
    the coverage is conjectured and supported by simulation.

    Args:
        deviations: value of each unit minus the mean, shape (units,).
        room: distances from the mean to the smallest and the largest possible value; infinity
            without such a bound.
        level: confidence level in (0, 1).
        n_draws: number of random weightings.
        generator: source of the weights.

    Returns:
        Distances below and above the mean; infinity without a bound.

    Source: Gaffke 2005, Mathematical Methods of Statistics 14(4); Learned-Miller and Thomas 2019,
    arXiv:1905.06208.

    Example:
        >>> values = np.array([0.0] * 19 + [1.0])
        >>> below, above = limit_distances(values - 0.05, (0.05, 0.95), level=0.95, n_draws=20_000,
        ...                                generator=np.random.default_rng(0))
        >>> round(0.05 - below, 2), round(0.05 + above, 2)  # Clopper and Pearson: 0.001 and 0.249
        (0.0, 0.25)
    """
    if not np.isfinite(room).any():
        return np.inf, np.inf
    n = len(deviations)
    step = max(1, CHUNK_VALUES // (n + 1))
    sums, extra = [], []
    for start in range(0, n_draws, step):
        weights = generator.standard_exponential((min(step, n_draws - start), n + 1))
        weights /= weights.sum(axis=1, keepdims=True)
        sums.append(weights[:, :n] @ deviations)
        extra.append(weights[:, n])
    of_units, of_bound = np.concatenate(sums), np.concatenate(extra)
    quantile = 50.0 * (1.0 + level)
    below, above = (
        # A linearised statistic can have a deviation beyond the bound.
        float(
            np.percentile(
                sign * of_units + max(reach, (sign * deviations).max()) * of_bound, quantile
            )
        )
        if np.isfinite(reach)
        else np.inf
        for sign, reach in zip((-1.0, 1.0), room, strict=True)
    )
    return max(below, 0.0), max(above, 0.0)
