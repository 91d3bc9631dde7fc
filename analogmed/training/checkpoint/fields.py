"""Checks of the fields in the header of a checkpoint file."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_number
from analogmed.network.tiling import RowSplit
from analogmed.training.settings import Training


def checked_thresholds(thresholds: Sequence[float], n_classes: int) -> tuple[float, ...]:
    """Return the thresholds of classes, as floats.

    Raises:
        ConfigError: their number is neither 0 nor that of the classes, or one is not a finite
            number from 0 to 1.
    """
    if len(thresholds) not in (0, n_classes):
        raise ConfigError(
            f"thresholds: expected none, or one for each of the {n_classes} classes, got "
            f"{len(thresholds)}. Give one for each class, or leave them out for 0.5."
        )
    for threshold in thresholds:
        require_number("thresholds", threshold, at_least=0, at_most=1)
    return tuple(map(float, thresholds))


def _kind(*kinds: type) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise TypeError(f"{name} must be a {kinds[0].__name__}, not {value!r}")
        return value

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, not {value!r}")
    return value


def _choice(choices: tuple[str, ...]) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
        return value

    return check


def _list(*of: type, plural: str) -> Callable[[str, Any], tuple[Any, ...]]:
    def check(name: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not all(type(each) in of for each in value):
            raise TypeError(f"{name} must be a list of {plural}, not {value!r}")
        return tuple(value)

    return check


def _names_or_none(name: str, value: Any) -> tuple[str, ...] | None:
    return None if value is None else _list(str, plural="names")(name, value)


FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "model": _kind(str),
    "in_channels": _kind(int),
    "out_channels": _kind(int),
    "spatial_dims": _kind(int),
    "training": _choice(get_args(Training)),
    "task": _kind(str),
    "classes": _list(str, plural="names"),
    "channels": _list(str, plural="names"),
    "patients": _list(str, plural="names"),
    "window": _list(int, plural="numbers"),
    "options": _kind(dict),
    "hardware": _kind(dict),
    "row_split": _choice(get_args(RowSplit)),
    "digital_layers": _names_or_none,
    "axes": _kind(str),
    "rate": _kind(int),
    "scans": _list(str, plural="digests"),
    "thresholds": _list(float, int, plural="numbers"),
    "expected_score": _kind(float, int, type(None)),
    "score": _kind(float, int),
    "seed": _kind(int),
    "keeps_start": _flag,
}
"""Fields of a header, with a check of each."""
