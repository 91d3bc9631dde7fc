"""Layers of the blocks of the search space, and the corresponding upsampling layers."""

from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError
from analogmed.models.genotype import Block, block

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_UPCONV = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_LEAK = 0.01


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
