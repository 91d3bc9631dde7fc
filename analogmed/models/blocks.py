"""The table of blocks of the search space, and their upsampling partners."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_UPCONV = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_LEAK = 0.01


@dataclass(frozen=True)
class Convolution:
    """A convolution with what follows it.

    Attributes:
        norm: whether it is normalised, per image and channel, with learned scales.
        leaky: whether negative values are kept at a hundredth of their size, or not at all.
    """

    norm: bool
    leaky: bool


@dataclass(frozen=True)
class Block:
    """A block of the search space.

    Attributes:
        kind: zero ends the network, identity passes on, linear mixes the channels of a position.
        spatial_dims: 2 or 3; ``None`` for a block of both.
        convolutions: one after the other.
    """

    kind: Literal["zero", "identity", "linear", "convolution"]
    spatial_dims: int | None = None
    convolutions: tuple[Convolution, ...] = ()


def _convolutions(spatial_dims: int, names: str) -> dict[str, Block]:
    plain, normed = Convolution(False, False), Convolution(True, False)
    leaky, both = Convolution(False, True), Convolution(True, True)
    tails = ((plain,), (normed,), (leaky,), (both,), (plain, normed), (leaky, both))
    return {
        name: Block("convolution", spatial_dims, tail)
        for name, tail in zip(names, tails, strict=True)
    }


BLOCKS: Mapping[str, Block] = MappingProxyType(
    {
        "zero": Block("zero"),
        "identity": Block("identity"),
        "A": Block("linear"),
        **_convolutions(2, "BCDEFG"),
        **_convolutions(3, "HIJKLM"),
    }
)
"""Blocks by their name in the search space of MED-NAS-Bench."""


def block(name: str, spatial_dims: int | None = None) -> Block:
    """A block by name.

    Args:
        name: of the block.
        spatial_dims: dimensions of the network that it is for, where these are known: of those the
            blocks are that an error offers.

    Raises:
        ConfigError: there is none of this name.
    """
    if not isinstance(name, str) or name not in BLOCKS:
        offered = [
            known
            for known, described in BLOCKS.items()
            if spatial_dims is None or described.spatial_dims in (None, spatial_dims)
        ]
        raise ConfigError(f"unknown block {name!r}; {nearest(str(name), offered)}")
    return BLOCKS[name]


def make_block(
    name: str, in_channels: int, out_channels: int, *, kernel: int, spatial_dims: int
) -> nn.Module:
    """The layers of a block, at the resolution that it is given.

    Args:
        name: of the block; not zero.
        in_channels: channels of its input.
        out_channels: channels of its output; an identity keeps those of its input.
        kernel: width of its convolutions.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: the block is unknown, of other dimensions, or zero.
    """
    described = _with_layers(name, spatial_dims)
    if described.kind == "identity":
        return nn.Identity()
    if described.kind == "linear":
        return ChannelLinear(in_channels, out_channels)
    layers: list[nn.Module] = []
    for convolution in described.convolutions:
        layers.append(_CONV[spatial_dims](in_channels, out_channels, kernel, padding=kernel // 2))
        if convolution.norm:
            layers.append(_NORM[spatial_dims](out_channels, affine=True))
        layers.append(nn.LeakyReLU(_LEAK) if convolution.leaky else nn.ReLU())
        in_channels = out_channels
    return nn.Sequential(*layers)


def make_partner(name: str, in_channels: int, out_channels: int, *, spatial_dims: int) -> nn.Module:
    """The upsampling partner of a block: it doubles each spatial axis.

    A transposed convolution (kernel 2, stride 2) of the convolutions; of the others, the nearest
    value, after a linear layer of the linear block.

    Args:
        name: of the block; not zero.
        in_channels: channels of the level within.
        out_channels: channels of the block itself; an identity keeps those of its input.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: the block is unknown, of other dimensions, or zero.
    """
    kind = _with_layers(name, spatial_dims).kind
    if kind == "convolution":
        return _UPCONV[spatial_dims](in_channels, out_channels, kernel_size=2, stride=2)
    nearest_value = nn.Upsample(scale_factor=2, mode="nearest")
    if kind == "identity":
        return nearest_value
    return nn.Sequential(ChannelLinear(in_channels, out_channels), nearest_value)


def _with_layers(name: str, spatial_dims: int) -> Block:
    described = block(name)
    if described.kind == "zero":
        raise ConfigError("block zero ends a network; it has no layers")
    if spatial_dims not in (2, 3) or described.spatial_dims not in (None, spatial_dims):
        raise ConfigError(f"block {name} is not one of {spatial_dims}D networks")
    return described


class ChannelLinear(nn.Module):
    """A Linear layer over the channels of each position.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Shape (B, in_channels, *spatial) to (B, out_channels, *spatial)."""
        mixed: Tensor = self.linear(images.movedim(1, -1))
        return mixed.movedim(-1, 1)
