"""Time to failure: how long a programmed chip stays within a limit."""

import numpy as np
import pandas as pd

from analogmed.foundation.errors import DataError
from analogmed.foundation.settings.checks import require_number
from analogmed.metrics.properties import is_lower_better
from analogmed.tables.results import RUN
from analogmed.tables.table import require_columns

NOT_WITHIN = "not within the sweep"
FROM_THE_START = "not good enough at the first time"
NOT_DIGITALLY = "not good enough digitally"
NO_INTERVAL = "no interval"
NEEDED = [*RUN, "time_s", "metric", "estimate", "drift_drop", "drift_drop_high"]


def time_to_failure(curves: pd.DataFrame, limit: float) -> pd.DataFrame:
    """Return the last time at which each network meets a limit and the first at which it does not.

    The criterion uses the drop relative to the digital reference, paired by patient. The chip meets
    the limit while the reference minus the upper confidence limit of the drop is at least the
    limit. The spread between patients, which the reference and the chip share, is not part of it.
    For a metric where lower is better, the chip meets the limit while the reference plus the upper
    confidence limit of the drop is at most the limit.

    Times are not interpolated: the failure is between ``holds_until_s`` and ``fails_at_s``.

    Args:
        curves: table returned by ``over_time``.
        limit: worst acceptable value, in the unit of the metric.

    Returns:
        One row per task, model, training and hardware: ``metric``, ``limit``, ``holds_until_s``
        (last time up to which every measured time meets the limit), ``fails_at_s`` (first time
        that does not), ``estimate_fails_at_s`` (the same for the estimate itself),
        ``reprogram_every_s`` (the longest measured time that meets the limit), ``censored``,
        ``note`` and ``digital`` (the reference on the same patients). For a network that never
        fails, ``censored`` is true, ``fails_at_s`` is NaN and ``reprogram_every_s`` is a lower
        limit. A time without an interval or a digital reference does not meet the limit.

    Raises:
        ConfigError: the limit is not finite.
        DataError: the curves lack a column, or contain no run on a chip.
    """
    require_number("limit", limit)
    require_columns(curves, NEEDED, "the table of curves", advice="; pass what over_time returns")
    on_chip = curves[curves["time_s"].notna()]
    if on_chip.empty:
        raise DataError("expected at least one on-chip row in the curves, found only digital rows")
    rows = [
        dict(zip([*RUN, "metric"], key, strict=True)) | _failure(run.sort_values("time_s"), limit)
        for key, run in on_chip.groupby([*RUN, "metric"], sort=False)
    ]
    return pd.DataFrame(rows)


def _failure(run: pd.DataFrame, limit: float) -> dict[str, object]:
    times_s = run["time_s"].to_numpy(dtype=np.float64)
    better = -1.0 if is_lower_better(str(run["metric"].iloc[0])) else 1.0
    digital = run["estimate"] + better * run["drift_drop"]
    worst = digital - better * run["drift_drop_high"]
    first = _first_failure(better * worst >= better * limit)
    of_estimate = _first_failure(better * run["estimate"] >= better * limit)
    until_s = times_s[-1] if first is None else times_s[first - 1] if first else np.nan
    return {
        "limit": limit,
        "holds_until_s": until_s,
        "fails_at_s": np.nan if first is None else times_s[first],
        "estimate_fails_at_s": np.nan if of_estimate is None else times_s[of_estimate],
        "reprogram_every_s": until_s if until_s > 0.0 else np.nan,
        "censored": first is None,
        "note": _note(first, times_s, worst.to_numpy(), better * (digital - limit).to_numpy()),
        "digital": digital.iloc[0 if first is None else first],
    }


def _note(first: int | None, times_s: np.ndarray, worst: np.ndarray, margin: np.ndarray) -> str:
    """Explain the result; ``margin`` is the margin of the digital reference to the limit."""
    if first is None:
        return NOT_WITHIN
    if np.isnan(worst[first]):
        return f"{NO_INTERVAL} at {times_s[first]:g} s"
    if margin[first] < 0:
        return NOT_DIGITALLY
    return "" if first else FROM_THE_START


def _first_failure(holds: pd.Series) -> int | None:
    failed = np.flatnonzero(~holds.to_numpy(dtype=bool))
    return int(failed[0]) if len(failed) else None
