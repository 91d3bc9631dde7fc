"""Ranges of settings."""

import math

from analogmed.foundation.errors import ConfigError


def require_at_least_one(name: str, value: int) -> None:
    """Refuse a count of none."""
    if value < 1:
        raise ConfigError(f"{name} must be 1 or more, got {value}")


def require_at_least_zero(name: str, value: float, *, zero: bool = True) -> None:
    """Refuse what is negative or not finite; and 0, if ``zero`` says so."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "0 or more" if zero else "above 0"
        raise ConfigError(f"{name} must be {bound} and finite, got {value!r}")
