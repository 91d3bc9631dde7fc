"""Networks named on the command line, built without aihwkit."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.strict_yaml import parse_yaml
from analogmed.models import build_model


@dataclass(frozen=True)
class Network:
    """A network named on the command line.

    Attributes:
        text: specification as typed, such as ``unet(features=8)``.
        name: name in the model registry.
        options: keyword arguments of the builder.
    """

    text: str
    name: str
    options: dict[str, Any]

    def build(self, input_shape: Sequence[int], out_channels: int) -> nn.Module:
        """Return the network for inputs of shape (C, *spatial)."""
        return build_model(
            self.name,
            in_channels=input_shape[0],
            out_channels=out_channels,
            spatial_dims=len(input_shape) - 1,
            **self.options,
        )


def network(text: str) -> Network:
    """Parse ``name`` or ``name(option=value, ...)`` with YAML values.

    Raises:
        ConfigError: the text has another form.
    """
    found = re.fullmatch(r"\s*([^()\s]+)\s*(?:\((.*)\))?\s*", text)
    options: Any = None
    if found:
        try:
            pairs = re.sub(r"(\w+)\s*=", r"\1: ", found.group(2) or "")
            options = parse_yaml(f"{{{pairs}}}", "--model")
        except ConfigError:
            options = None
    if found is None or not isinstance(options, dict) or not all(map(_is_name, options)):
        raise ConfigError(
            f"--model: expected name or name(option=value, ...), for instance unet(features=8), "
            f"found '{text}'"
        )
    return Network(text.strip(), found.group(1), options)


def _is_name(key: object) -> bool:
    return isinstance(key, str) and key.isidentifier()


def add_network_options(parser: argparse.ArgumentParser, *, default_input: list[int]) -> None:
    """Add the options that select the networks and their input."""
    parser.add_argument(
        "--model",
        nargs="+",
        default=["unet"],
        metavar="NAME",
        help="networks, as name or name(option=value, ...); a name as for analogmed.train, with "
        "package.module:factory too (default: unet)",
    )
    parser.add_argument(
        "--input",
        nargs="+",
        type=int,
        default=default_input,
        metavar="N",
        help="channels and size of one input: C H W, or C D H W for 3D (default: "
        f"{' '.join(map(str, default_input))})",
    )
    parser.add_argument(
        "--out_channels", type=int, default=1, metavar="N", help="classes (default: 1)"
    )


def check_input(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return channels and spatial sizes as a tuple.

    Raises:
        ConfigError: the input is not 2 to 4 positive integers.
    """
    if not 2 <= len(sizes) <= 4 or min(sizes) < 1:
        raise ConfigError(
            f"--input: expected channels and 1 to 3 sizes above 0, such as 3 256 256, found {sizes}"
        )
    return tuple(sizes)
