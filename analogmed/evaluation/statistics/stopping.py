"""When a sweep has enough chips."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analogmed.evaluation.statistics.intervals import UNBOUNDED, Interval, two_way_bootstrap
from analogmed.evaluation.statistics.planning import expected_width, variance_components
from analogmed.foundation.errors import ConfigError

MIN_CHIPS = 5
FAR_CHIPS = 1000
NARROW, BUDGET, PATIENTS = "narrow enough", "budget used", "more chips would not help"
MORE = "more chips needed"


@dataclass(frozen=True)
class Decision:
    """Whether to stop adding chips, and why.

    Attributes:
        stop: whether the sweep ends here.
        reached: whether the interval is as narrow as asked.
        reason: ``"narrow enough"``, ``"budget used"``, ``"more chips would not help"`` (the
            patients alone make the interval wider than asked) or ``"more chips needed"``.
        interval: of the mean on the chips so far.
        expected_chips: chips at which the width is expected to be reached; None where it is not
            within 1000, or too little is known.
    """

    stop: bool
    reached: bool
    reason: str
    interval: Interval
    expected_chips: int | None = None

    def __bool__(self) -> bool:
        return self.stop


def enough(
    values: np.ndarray,
    width: float,
    *,
    patients: Sequence[object] | None = None,
    min_chips: int = MIN_CHIPS,
    max_chips: int | None = None,
    bounds: tuple[float, float] = UNBOUNDED,
    n_boot: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Decision:
    """Decide after each chip whether the interval of the mean is narrower than asked.

    Looking again and again stops in lucky moments, when the chips so far happen to agree, so that
    the interval at the stop holds the truth less often than its level says. A minimum number of
    chips limits that loss; docs/statistics.md has what was measured. Chips must be added in an
    order fixed beforehand.

    Args:
        values: value of each case and chip so far, shape (cases, chips); for a drop or a gain, the
            differences.
        width: width asked for, upper less lower end.
        patients: the patient of each case. Default: every case is its own patient.
        min_chips: chips before which no width is enough; at least 2.
        max_chips: the budget. Default: none.
        bounds: smallest and largest possible mean.
        n_boot, level, seed: as in ``two_way_bootstrap``.

    Returns:
        The decision; it is true where the sweep can stop.

    Raises:
        ConfigError: a width that is not positive, or fewer than 2 chips asked for.
    """
    if not width > 0.0:
        raise ConfigError(f"width must be positive, but is {width}")
    if min_chips < 2:
        raise ConfigError(f"min_chips must be at least 2, but is {min_chips}")
    patients = range(len(values)) if patients is None else patients
    interval = two_way_bootstrap(
        values, patients=patients, bounds=bounds, n_boot=n_boot, level=level, seed=seed
    )
    n_chips = interval.n_chips
    expected = None
    if n_chips >= min_chips:
        if interval.high - interval.low <= width:
            return Decision(True, True, NARROW, interval, n_chips)
        expected = _expected_chips(values, width, patients, interval, bounds, level)
    if max_chips is not None and values.shape[1] >= max_chips:
        return Decision(True, False, BUDGET, interval, expected)
    hopeless = n_chips >= min_chips and expected is None and np.isfinite(interval.low)
    if hopeless:
        return Decision(True, False, PATIENTS, interval)
    return Decision(False, False, MORE, interval, expected)


def _expected_chips(
    values: np.ndarray,
    width: float,
    patients: Sequence[object],
    interval: Interval,
    bounds: tuple[float, float],
    level: float,
) -> int | None:
    """Return the next number of chips that is expected to be enough; None where there is none.

    The expectation ends at the bounds, as the interval does, and is scaled to the interval of the
    present chips, which is wider than that of Student's t where the values are skewed.
    """
    if not np.isfinite(interval.low):
        return None
    filled = np.where(np.isnan(values), _fitted(values), values)
    found = variance_components(filled, patients=patients)

    def expected(n_chips: int) -> float:
        reach = 0.5 * expected_width(found, found.n_patients, n_chips, level=level)
        low, high = np.clip([interval.estimate - reach, interval.estimate + reach], *bounds)
        return float(high - low)

    now = expected(interval.n_chips)
    scale = (interval.high - interval.low) / now if now > 0.0 else 1.0
    tried = range(interval.n_chips + 1, FAR_CHIPS + 1)
    return next((m for m in tried if scale * expected(m) <= width), None)


def _fitted(values: np.ndarray) -> np.ndarray:
    """What the means of its case and of its chip say a value is."""
    filled = np.ma.masked_invalid(values)
    fitted = filled.mean(axis=1)[:, None] + filled.mean(axis=0)[None] - filled.mean()
    return np.asarray(np.ma.filled(fitted, np.nan))
