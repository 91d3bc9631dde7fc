"""Checks of single settings: choices and ranges."""

import math
import operator
from collections.abc import Collection
from numbers import Real
from typing import TypeGuard, TypeVar

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import known_name, nearest

T = TypeVar("T")


def require_choice(name: str, value: T, choices: Collection[str]) -> T:
    """Return the choice that a value spells in any case.

    Raises:
        ConfigError: the value is none of the choices; the message has the nearest one.
    """
    spelled = known_name(value, choices)
    if spelled not in tuple(choices):
        raise ConfigError(f"{name}: unknown value {value!r}; {nearest(str(value), choices)}")
    return spelled


def is_finite(value: object) -> TypeGuard[float]:
    """Return whether a value is a finite real number and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def require_number(
    name: str,
    value: object,
    *,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    below: float | None = None,
) -> None:
    """Raise ConfigError if a value is not a finite number within bounds.

    Args:
        name: name of the setting, as the user types it.
        value: value of the setting.
        at_least, above: lower bound that is part of the range, or not.
        at_most, below: upper bound that is part of the range, or not.
    """
    bounds = (
        ("at least", at_least, operator.ge),
        ("above", above, operator.gt),
        ("at most", at_most, operator.le),
        ("below", below, operator.lt),
    )
    given = [(word, bound, fits) for word, bound, fits in bounds if bound is not None]
    if not is_finite(value) or not all(fits(value, bound) for _, bound, fits in given):
        span = " and ".join(f"{word} {bound:g}" for word, bound, _ in given)
        number = f"a finite number {span}" if span else "a finite number"
        raise ConfigError(f"{name}: expected {number}, got {value!r}")


def require_whole(
    name: str, value: object, *, least: int | None = None, most: int | None = None
) -> None:
    """Raise ConfigError if a value is not a whole number, below ``least`` or above ``most``.

    Whole numbers of other libraries, such as NumPy's, are accepted, truth values are not. A largest
    value requires a smallest one.
    """
    bound = "" if least is None else f" of {least} or more"
    bound = bound if most is None else f" from {least} to {most}"
    message = f"{name}: expected a whole number{bound}, got {value!r}"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(message) from None
    below = least is not None and number < least
    if isinstance(value, bool) or (most is not None and (below or number > most)):
        raise ConfigError(message)
    if below:
        raise ConfigError(f"{name} must be {least} or more, got {value!r}")


def require_at_least_one(name: str, value: int) -> None:
    """Raise ConfigError if a count is below 1."""
    require_whole(name, value, least=1)


def require_at_least_zero(name: str, value: float, *, zero: bool = True) -> None:
    """Raise ConfigError if a value is negative or not finite, or 0 while ``zero`` is false."""
    if not is_finite(value) or value < 0 or (value == 0 and not zero):
        bound = "0 or more" if zero else "above 0"
        raise ConfigError(f"{name} must be {bound} and finite, got {value!r}")
