"""Networks named on the command line, built without aihwkit."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from analogmed.foundation.errors import ConfigError
from analogmed.models.registry import build_model, check_model_name, spelled_model
from analogmed.models.settings import network_and_options

if TYPE_CHECKING:
    from torch import nn

    from analogmed.training import Checkpoint


DEFAULT_INPUT = (3, 256, 256)
"""Channels and size of one input of a network by name."""


@dataclass(frozen=True)
class NamedNetwork:
    """A network named on the command line.

    Attributes:
        text: specification as typed, such as ``unet(features=8)``.
        name: name in the model registry.
        options: keyword arguments of the builder.
        digital: layers that stay digital without a setting; none.
    """

    digital: ClassVar[tuple[str, ...]] = ()

    text: str
    name: str
    options: dict[str, Any]

    def input_shape(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one input (C, *spatial): the given one, or if empty, the default."""
        return given or DEFAULT_INPUT

    def build(self, input_shape: Sequence[int], out_channels: int) -> "nn.Module":
        """Return the network for inputs of shape (C, *spatial)."""
        return build_model(
            self.name,
            in_channels=input_shape[0],
            out_channels=out_channels,
            spatial_dims=len(input_shape) - 1,
            **self.options,
        )


@dataclass(frozen=True)
class StoredNetwork:
    """A network of a checkpoint that is named on the command line.

    Attributes:
        path: checkpoint file or run folder.
        factories: names of factories that it may use.
    """

    path: Path
    factories: tuple[str, ...]

    @property
    def text(self) -> str:
        """Path, as typed."""
        return str(self.path)

    @cached_property
    def _checkpoint(self) -> "Checkpoint":
        from analogmed.training import load_checkpoint  # loads torch

        return load_checkpoint(self.path, factories=self.factories)

    @property
    def digital(self) -> tuple[str, ...]:
        """Layers that stayed digital in its training."""
        return self._checkpoint.info.digital_layers or ()

    def input_shape(self, given: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one input: the given one, or if empty, channels and window.

        Raises:
            ConfigError: the checkpoint is older than windows in checkpoints.
        """
        info = self._checkpoint.info
        if not given and not info.window:
            raise ConfigError(f"{self.path}: its window is unknown; expected --input C H W")
        return given or (info.in_channels, *info.window)

    def build(self, _input_shape: Sequence[int], _out_channels: int) -> "nn.Module":
        """Return the trained network."""
        return self._checkpoint.network


def parse_network(text: str, option: str = "--model") -> NamedNetwork:
    """Parse ``name`` or ``name(option=value, ...)`` with YAML values, without loading torch.

    Args:
        text: the specification.
        option: name of the option, for messages.

    Raises:
        ConfigError: the text has another form, or the name is unknown.
    """
    typed, options = network_and_options(text, option)
    check_model_name(typed)
    name = spelled_model(typed)
    return NamedNetwork(text.strip().replace(typed, name, 1), name, options)
