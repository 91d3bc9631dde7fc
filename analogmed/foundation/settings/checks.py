"""Range checks of settings."""

import math

from analogmed.foundation.errors import ConfigError


def require_at_least_one(name: str, value: int) -> None:
    """Raise ConfigError if a count is below 1."""
    if value < 1:
        raise ConfigError(f"{name} must be 1 or more, got {value}")


def require_at_least_zero(name: str, value: float, *, zero: bool = True) -> None:
    """Raise ConfigError if a value is negative or not finite, or 0 while ``zero`` is false."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "0 or more" if zero else "above 0"
        raise ConfigError(f"{name} must be {bound} and finite, got {value!r}")
