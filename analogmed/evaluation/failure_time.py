"""How long a programmed chip stays good enough, and how often it must be programmed again."""

import numpy as np
import pandas as pd

from analogmed.errors import ConfigError, DataError
from analogmed.evaluation.metric_properties import LOWER_IS_BETTER
from analogmed.evaluation.network_runs import RUN

NOT_WITHIN = "not within the sweep"
FROM_THE_START = "not good enough at the first time"
NO_INTERVAL = "no interval"
NEEDED = [*RUN, "time_s", "metric", "estimate", "low", "high"]


def time_to_failure(curves: pd.DataFrame, limit: float) -> pd.DataFrame:
    """First time at which the lower bound of a metric falls under a limit.

    Nothing is interpolated: between two measured times the chip is not known to hold. A distance,
    of which less is better, fails where its upper bound rises above the limit.

    Args:
        curves: what ``over_time`` returns.
        limit: the least acceptable value, in the unit of the metric.

    Returns:
        One row per task, model, training and hardware: ``metric``, ``limit``, ``holds_until_s``
        (last time before which every bound holds), ``fails_at_s`` (first time at which it does
        not), ``estimate_fails_at_s`` (the same for the estimate itself), ``reprogram_every_s``
        (the longest measured interval over which the chip holds), ``censored`` and ``note``. Where
        it never fails, ``censored`` is true, ``fails_at_s`` is NaN and ``reprogram_every_s`` is a
        lower limit. A time without an interval counts as one at which nothing is known to hold.

    Raises:
        ConfigError: the limit is not finite.
        DataError: the curves lack a column, or hold no run on a chip.
    """
    if not np.isfinite(limit):
        raise ConfigError(f"limit must be a finite number, but is {limit}")
    missing = [column for column in NEEDED if column not in curves.columns]
    if missing:
        raise DataError(f"the curves lack {', '.join(missing)}: pass what over_time returns")
    on_chip = curves[curves["time_s"].notna()]
    if on_chip.empty:
        raise DataError("the curves hold no run on a chip, and only a chip ages")
    rows = [
        dict(zip([*RUN, "metric"], key, strict=True)) | _failure(run.sort_values("time_s"), limit)
        for key, run in on_chip.groupby([*RUN, "metric"], sort=False)
    ]
    return pd.DataFrame(rows)


def _failure(run: pd.DataFrame, limit: float) -> dict[str, object]:
    times_s = run["time_s"].to_numpy(dtype=np.float64)
    if run["metric"].iloc[0] in LOWER_IS_BETTER:
        holds, estimate_holds = run["high"] <= limit, run["estimate"] <= limit
    else:
        holds, estimate_holds = run["low"] >= limit, run["estimate"] >= limit
    first = _first_failure(holds)
    known = run[["low", "high"]].notna().all(axis=1).to_numpy()
    note = "" if first is None or known[first] else f"{NO_INTERVAL} at {times_s[first]:g} s"
    if first is None:
        note = NOT_WITHIN
    elif first == 0:
        note = note or FROM_THE_START
    until_s = times_s[-1] if first is None else times_s[first - 1] if first else np.nan
    of_estimate = _first_failure(estimate_holds)
    return {
        "limit": limit,
        "holds_until_s": until_s,
        "fails_at_s": np.nan if first is None else times_s[first],
        "estimate_fails_at_s": np.nan if of_estimate is None else times_s[of_estimate],
        "reprogram_every_s": until_s if until_s > 0.0 else np.nan,
        "censored": first is None,
        "note": note,
    }


def _first_failure(holds: pd.Series) -> int | None:
    failed = np.flatnonzero(~holds.to_numpy(dtype=bool))
    return int(failed[0]) if len(failed) else None
