"""Times since programming: in seconds, and as text."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from numbers import Real

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
TIME_NAMES = {
    T0_S: "t0",
    SECOND_S: "1 s",
    60.0: "1 min",
    HOUR_S: "1 h",
    DAY_S: "1 day",
    2 * DAY_S: "2 days",
    7 * DAY_S: "1 week",
    MONTH_S: "1 month",
    YEAR_S: "1 year",
}
_LABEL_UNITS_S = {"d": DAY_S, "h": HOUR_S, "min": 60.0, "s": SECOND_S}
_NUMBER_WITH_UNIT = re.compile(r"([+-]?\d*\.?\d+(?:e[+-]?\d+)?)\s*([^\W\d]+)", re.IGNORECASE)


def to_seconds(time: str | float) -> float:
    """Return a time in seconds.

    Args:
        time: seconds; or a number with its unit, from s to years. A month has 30 days.

    Raises:
        ConfigError: the text is no time, or the time is negative or not finite.

    Example:
        >>> to_seconds("1 day"), to_seconds("30d"), to_seconds("t0"), to_seconds(3600)
        (86400.0, 2592000.0, 0.0, 3600.0)
    """
    try:
        seconds = _from_text(time) if isinstance(time, str) else float(time)
    except TypeError:
        raise ConfigError(
            f"time {time!r}: expected a number in s, or a text such as '1 day'"
        ) from None
    if not math.isfinite(seconds) or seconds < 0:
        raise ConfigError(f"time: expected 0 s or more and finite, got {time!r}")
    return seconds


def warn_of_days(times: Iterable[str | float], name: str, *, stacklevel: int = 2) -> None:
    """Warn about times without a unit that may be meant as days.

    They may be if all are whole numbers, and the largest is above 1 s and below an hour. Texts with
    a unit or a decimal point, ``"30 s"`` or ``"30.0"``, are never pointed out.

    Args:
        times: times as given by the user, as numbers or texts.
        name: name of the setting, for the message.
        stacklevel: level of the caller, as in :func:`warnings.warn`.
    """
    listed = list(times)
    largest = max(map(float, listed), default=0.0) if all(map(_is_whole, listed)) else 0.0
    if SECOND_S < largest < HOUR_S:
        warnings.warn(
            f"{name}: numbers are seconds, so that the last time is {largest:g} s after "
            f"programming; write '{largest:g} days' for days, or '{largest:g} s' to confirm "
            "seconds",
            stacklevel=stacklevel + 1,
        )


def names_of_times(times: Iterable[str | float]) -> dict[float, str]:
    """Return the names of times in s, with texts such as ``30 days`` as the user writes them.

    Args:
        times: times as of :func:`to_seconds`.

    Example:
        >>> names = names_of_times(["t0", "30 days", 86_400])
        >>> [time_label(time_s, names) for time_s in (0.0, 2_592_000.0, 86_400.0)]
        ['t0', '30 days', '1 day']
    """
    given = {to_seconds(time): " ".join(time.split()) for time in times if isinstance(time, str)}
    return {**TIME_NAMES, **given, T0_S: TIME_NAMES[T0_S]}


def time_label(time_s: float, names: Mapping[float, str] = TIME_NAMES) -> str:
    """Return the short name of a time since programming.

    Args:
        time_s: time in s.
        names: names of some times, see :func:`names_of_times`.

    Example:
        >>> time_label(86_400.0), time_label(7_200.0), time_label(0.25)
        ('1 day', '2 h', '0.25 s')
    """
    if time_s in names:
        return names[time_s]
    for unit, length_s in _LABEL_UNITS_S.items():
        if time_s >= length_s:
            return f"{time_s / length_s:.3g} {unit}"
    return f"{time_s:.3g} s"


def _is_whole(time: object) -> bool:
    if isinstance(time, str):
        return time.isdecimal()
    return isinstance(time, Real) and not isinstance(time, bool) and float(time).is_integer()


def _from_text(text: str) -> float:
    if text.strip().lower() == "t0":
        return T0_S
    parts = _NUMBER_WITH_UNIT.fullmatch(text.strip())
    if parts is None:
        raise ConfigError(
            f"time {text!r}: expected a number with a unit, for instance '1 day', or 't0'"
        )
    number, unit = parts.groups()
    singular = unit.lower() if unit.lower() in _UNITS_S else unit.lower().removesuffix("s")
    if singular not in _UNITS_S:
        raise ConfigError(f"time {text!r}: unknown unit '{unit}'; {nearest(unit, _UNITS_S)}")
    return float(number) * _UNITS_S[singular]
