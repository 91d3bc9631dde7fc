"""Blocks of the search space and the corresponding upsampling layers."""

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
    """A convolution with optional normalisation and its activation.

    Attributes:
        norm: whether the output is normalised per image and channel, with learned scales.
        leaky: whether the activation is a leaky ReLU (slope 0.01) instead of a ReLU.
    """

    norm: bool
    leaky: bool


@dataclass(frozen=True)
class Block:
    """A block of the search space.

    Attributes:
        kind: zero ends the network, identity returns its input, linear mixes the channels of each
            position.
        spatial_dims: 2 or 3; ``None`` for a block of both.
        convolutions: convolutions in order of execution.
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
    """Return a block by name.

    Args:
        name: name of the block.
        spatial_dims: 2 or 3, if known; an error then lists only blocks with these dimensions.

    Raises:
        ConfigError: the block does not exist.
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
    """Return the layers of a block, which preserve the resolution.

    Args:
        name: name of the block, except zero.
        in_channels: number of input channels.
        out_channels: number of output channels; an identity keeps its input channels.
        kernel: width of the convolutions.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: the block is unknown, has other dimensions, or is zero.
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
    """Return the upsampling partner of a block, which doubles each spatial axis.

    For a convolution block, the partner is a transposed convolution (kernel 2, stride 2). For other
    blocks, it is nearest-neighbour upsampling, preceded by a linear layer for the linear block.

    Args:
        name: name of the block, except zero.
        in_channels: number of channels of the next deeper level.
        out_channels: number of channels of the block; an identity keeps its input channels.
        spatial_dims: 2 or 3.

    Raises:
        ConfigError: the block is unknown, has other dimensions, or is zero.
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
        in_channels: number of input channels.
        out_channels: number of output channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Map shape (B, in_channels, *spatial) to (B, out_channels, *spatial)."""
        mixed: Tensor = self.linear(images.movedim(1, -1))
        return mixed.movedim(-1, 1)
