"""Range checks of settings."""

import math
import operator

from analogmed.foundation.errors import ConfigError


def require_whole(name: str, value: object, *, least: int | None = None) -> None:
    """Raise ConfigError if a value is not a whole number, or below ``least``."""
    bound = "" if least is None else f" of {least} or more"
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ConfigError(f"{name}: expected a whole number{bound}, got {value!r}") from None
    if least is not None and number < least:
        raise ConfigError(f"{name} must be {least} or more, got {value!r}")


def require_at_least_one(name: str, value: int) -> None:
    """Raise ConfigError if a count is below 1."""
    require_whole(name, value, least=1)


def require_at_least_zero(name: str, value: float, *, zero: bool = True) -> None:
    """Raise ConfigError if a value is negative or not finite, or 0 while ``zero`` is false."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "0 or more" if zero else "above 0"
        raise ConfigError(f"{name} must be {bound} and finite, got {value!r}")
