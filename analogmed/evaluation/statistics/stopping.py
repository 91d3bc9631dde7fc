"""Stopping rule for the number of chips of a sweep."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analogmed.evaluation.statistics.intervals import UNBOUNDED, Interval, two_way_bootstrap
from analogmed.evaluation.statistics.planning import expected_width, variance_components
from analogmed.foundation.settings.checks import require_number, require_whole

MIN_CHIPS = 5
FAR_CHIPS = 1000
NARROW, BUDGET, PATIENTS = "narrow enough", "budget used", "more chips would not help"
MORE = "more chips needed"


@dataclass(frozen=True)
class Decision:
    """Decision to stop or continue adding chips, with its reason.

    Attributes:
        stop: whether the sweep ends here.
        reached: whether the interval is at most as wide as the target.
        reason: ``"narrow enough"``, ``"budget used"``, ``"more chips would not help"`` (the
            patients alone make the interval wider than the target) or ``"more chips needed"``.
        interval: confidence interval of the mean on the chips so far.
        expected_chips: number of chips at which the target width is expected to be reached; None
            if above 1000 or if there are too few values for an estimate.
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
    """Decide after each chip whether the interval of the mean is narrower than the target width.

    Repeated interim analyses tend to stop when the chips happen to agree (optional stopping), so
    that the interval at the stopping time covers the true value less often than its nominal level.
    A minimum number of chips limits this effect; docs/explanation/statistics.md lists the measured
    coverage.
    Chips must be added in an order fixed beforehand.

    Args:
        values: value of each case and chip so far, shape (cases, chips); for a drop or a gain, the
            differences.
        width: target width, upper minus lower end.
        patients: patient of each case. Default: every case is its own patient.
        min_chips: number of chips below which no width is sufficient, 2 or more.
        max_chips: maximum number of chips. Default: no limit.
        bounds: smallest and largest possible mean.
        n_boot, level, seed: arguments of ``two_way_bootstrap``.

    Returns:
        The decision; it is true if the sweep can stop.

    Raises:
        ConfigError: the width is not positive, or ``min_chips`` is below 2.
    """
    require_number("width", width, above=0)
    require_whole("min_chips", min_chips, least=2)
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
    """Return the next number of chips that is expected to be sufficient; None if there is none.

    The expected interval is limited by the bounds and scaled to the interval of the present chips,
    which is wider than that of Student's t for skewed values.
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
    """Return the additive fit of each value from the means of its case and of its chip."""
    filled = np.ma.masked_invalid(values)
    fitted = filled.mean(axis=1)[:, None] + filled.mean(axis=0)[None] - filled.mean()
    return np.asarray(np.ma.filled(fitted, np.nan))
