"""Networks named on the command line, built without aihwkit."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.strict_yaml import parse_yaml
from analogmed.models.registry import build_model, check_model_name, spelled_model

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class NamedNetwork:
    """A network named on the command line.

    Attributes:
        text: specification as typed, such as ``unet(features=8)``.
        name: name in the model registry.
        options: keyword arguments of the builder.
    """

    text: str
    name: str
    options: dict[str, Any]

    def build(self, input_shape: Sequence[int], out_channels: int) -> "nn.Module":
        """Return the network for inputs of shape (C, *spatial)."""
        return build_model(
            self.name,
            in_channels=input_shape[0],
            out_channels=out_channels,
            spatial_dims=len(input_shape) - 1,
            **self.options,
        )


def parse_network(text: str, option: str = "--model") -> NamedNetwork:
    """Parse ``name`` or ``name(option=value, ...)`` with YAML values, without loading torch.

    Args:
        text: the specification.
        option: name of the option, for messages.

    Raises:
        ConfigError: the text has another form, or the name is unknown.
    """
    found = re.fullmatch(r"\s*([^()\s]+(?:[ \t]+[^()\s=]+)*)\s*(?:\((.*)\))?\s*", text)
    options: Any = None
    if found:
        try:
            pairs = re.sub(r"(\w+)\s*=", r"\1: ", found.group(2) or "")
            options = parse_yaml(f"{{{pairs}}}", option)
        except ConfigError:
            options = None
    if found is None or not isinstance(options, dict) or not all(map(_is_name, options)):
        raise ConfigError(
            f"{option}: expected name or name(option=value, ...), for instance unet(features=8), "
            f"found '{text}'"
        )
    check_model_name(typed := found.group(1))
    name = spelled_model(typed)
    return NamedNetwork(text.strip().replace(typed, name, 1), name, options)


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isidentifier()
