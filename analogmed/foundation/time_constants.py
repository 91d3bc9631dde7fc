"""Times since programming, in seconds."""

import math

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest

T0_S = 0.0
SECOND_S = 1.0
HOUR_S = 3_600.0
DAY_S = 86_400.0
MONTH_S = 30 * DAY_S
YEAR_S = 365 * DAY_S

_UNITS_S = {
    "s": SECOND_S,
    "second": SECOND_S,
    "min": 60.0,
    "minute": 60.0,
    "h": HOUR_S,
    "hour": HOUR_S,
    "d": DAY_S,
    "day": DAY_S,
    "week": 7 * DAY_S,
    "month": MONTH_S,
    "year": YEAR_S,
}


def to_seconds(time: str | float) -> float:
    """Return a time in seconds.

    Args:
        time: seconds; or a number with its unit, from s to years. A month has 30 days.

    Raises:
        ConfigError: the text is no time, or the time is negative or not finite.

    Example:
        >>> to_seconds("1 day"), to_seconds("30 days"), to_seconds("t0"), to_seconds(3600)
        (86400.0, 2592000.0, 0.0, 3600.0)
    """
    seconds = _from_text(time) if isinstance(time, str) else float(time)
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigError(f"time {time!r}: expected 0 s or more, and finite")
    return seconds


def _from_text(text: str) -> float:
    words = text.split()
    if words == ["t0"]:
        return T0_S
    try:
        number, unit = words
        value = float(number)
    except ValueError:
        raise ConfigError(
            f"time {text!r}: expected a number with a unit, for instance '1 day', or 't0'"
        ) from None
    singular = unit if unit in _UNITS_S else unit.removesuffix("s")
    if singular not in _UNITS_S:
        raise ConfigError(f"time {text!r}: unknown unit '{unit}'; {nearest(unit, _UNITS_S)}")
    return value * _UNITS_S[singular]
