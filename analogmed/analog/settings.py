"""Settings of calibration, and of the layers that stay digital."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one, require_number
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.strict_yaml import read_yaml


@checks_arguments
@dataclass(frozen=True)
class CalibrationConfig:
    """Calibration of the input ranges of the converters.

    Attributes:
        images: smallest number of training images used for calibration. Every case contributes the
            same number, evenly spaced, so the number used is rounded up.
        quantile: quantile of the absolute inputs of a layer that sets its input range, in (0, 1].
        fit_outputs: whether to widen an input range whose sums would exceed the range of the output
            converter, until all but 1 - quantile of them fit.
    """

    images: int = 32
    quantile: float = 0.9995
    fit_outputs: bool = False

    def __post_init__(self) -> None:
        require_at_least_one("calibration.images", self.images)
        require_number("calibration.quantile", self.quantile, above=0, at_most=1)


def require_ages(ages_s: tuple[float, float]) -> None:
    """Raise ConfigError if ages of a virtual chip are no range of finite times, 0 s or more."""
    if not 0 <= ages_s[0] <= ages_s[1] < math.inf:
        raise ConfigError(
            "noise.ages_s must be two finite times of 0 s or more, the smaller first, got "
            f"{list(ages_s)}"
        )


def resolve_layers(digital_layers: Iterable[str]) -> tuple[str, ...]:
    """Layers that stay digital, with those that a placement file lists in its place.

    Args:
        digital_layers: names and patterns of layers, and paths ending in ``.yaml`` or ``.yml``.

    Raises:
        ConfigError: a file cannot be read, or holds no list of layers.
    """
    layers: list[str] = []
    for name in digital_layers:
        layers += _of_placement(name) if name.endswith((".yaml", ".yml")) else [name]
    return tuple(dict.fromkeys(layers))


def _of_placement(path: str) -> list[str]:
    layers = read_yaml(path).get("digital_layers")
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise ConfigError(
            f"{path}: expected a list of layer names under digital_layers, found {layers!r}; "
            "analogmed sensitivity placement writes such a file"
        )
    return layers
