"""Builders of MONAI segmentation networks that return a single logits tensor."""

import math
from collections.abc import Sequence

from monai.networks import nets
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.models.deep_supervision import DynUNet, UNetPlusPlus
from analogmed.models.divisor import divisible_by

Sizes = int | Sequence[int]


@divisible_by(16)
def unetpp(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    features: Sequence[int] = (32, 32, 64, 128, 256, 32),
    norm: str | tuple = ("instance", {"affine": True}),
    dropout: float = 0.0,
    upsample: str = "deconv",
    deep_supervision: bool = False,
) -> nn.Module:
    """U-Net++ with nested skip paths (MONAI BasicUNetPlusPlus).

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per position.
        spatial_dims: 1, 2 or 3.
        features: number of channels of the five levels, then after the last upsampling.
        norm: MONAI name of the normalisation, optionally with its arguments.
        dropout: dropout ratio in [0, 1].
        upsample: ``"deconv"``, ``"pixelshuffle"`` or ``"nontrainable"``.
        deep_supervision: whether the training-mode forward pass returns a tuple: the logits, then
            those of the three shallower paths, all at full resolution. The additional heads are
            digital and exist in training only; evaluation is not affected.

    Source: Zhou et al. 2018, arXiv:1807.10165.
    """
    if len(features) != 6:
        raise ConfigError(f"features: expected 6 numbers, found {len(features)}: {features}")
    return UNetPlusPlus(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=tuple(features),
        norm=_as_tuple(norm),
        dropout=dropout,
        upsample=upsample,
        deep_supervision=deep_supervision,
    )


def _swin_divisor(*, patch_size: int = 2, **_: object) -> int:
    return int(patch_size**5)


@divisible_by(_swin_divisor)
def swin_unetr(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    feature_size: int = 48,
    depths: Sequence[int] = (2, 2, 2, 2),
    num_heads: Sequence[int] = (3, 6, 12, 24),
    window_size: Sizes = 7,
    patch_size: int = 2,
    drop_rate: float = 0.0,
    attn_drop_rate: float = 0.0,
    dropout_path_rate: float = 0.0,
    use_v2: bool = False,
    use_checkpoint: bool = False,
) -> nn.Module:
    """Swin transformer encoder with a convolutional decoder (MONAI SwinUNETR).

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per position.
        spatial_dims: 2 or 3.
        feature_size: number of channels of the first level, a multiple of 12.
        depths: number of transformer blocks per stage.
        num_heads: number of attention heads per stage.
        window_size: side length of an attention window in positions.
        patch_size: side length of an embedded patch in positions.
        drop_rate: dropout ratio in [0, 1].
        attn_drop_rate: dropout ratio of the attention in [0, 1].
        dropout_path_rate: share of residual branches dropped, in [0, 1].
        use_v2: whether to add a residual convolution before each stage (SwinUNETR-V2).
        use_checkpoint: whether to recompute activations in the backward pass to save memory.

    Source: Hatamizadeh et al. 2022, arXiv:2201.01266 (62,191,941 parameters in 3D at 4 input
    channels, 3 output channels and feature size 48).
    """
    if spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims: swin_unetr is 2D or 3D, found {spatial_dims}")
    return nets.SwinUNETR(
        in_channels=in_channels,
        out_channels=out_channels,
        spatial_dims=spatial_dims,
        feature_size=feature_size,
        depths=tuple(depths),
        num_heads=tuple(num_heads),
        window_size=window_size,
        patch_size=patch_size,
        drop_rate=drop_rate,
        attn_drop_rate=attn_drop_rate,
        dropout_path_rate=dropout_path_rate,
        use_v2=use_v2,
        use_checkpoint=use_checkpoint,
    )


_ATTENTION_STRIDES = (2, 2, 2, 2)


def _attention_divisor(*, strides: Sequence[int] = _ATTENTION_STRIDES, **_: object) -> int:
    return math.prod(strides)


@divisible_by(_attention_divisor)
def attention_unet(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    channels: Sequence[int] = (32, 64, 128, 256, 512),
    strides: Sequence[int] = _ATTENTION_STRIDES,
    dropout: float = 0.0,
) -> nn.Module:
    """U-Net with attention gates on the skip connections (MONAI AttentionUnet).

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per position.
        spatial_dims: 1, 2 or 3.
        channels: number of channels per level, from the input; at least two levels.
        strides: downsampling factors between the levels, one fewer than channels.
        dropout: dropout ratio in [0, 1].

    Source: Oktay et al. 2018, arXiv:1804.03999.
    """
    if len(channels) < 2 or len(strides) != len(channels) - 1:
        raise ConfigError(
            f"strides: expected one fewer than channels, found {len(strides)} strides for "
            f"{len(channels)} channels"
        )
    return nets.AttentionUnet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=tuple(channels),
        strides=tuple(strides),
        dropout=dropout,
    )


def _dynunet_divisor(
    *,
    spatial_dims: int = 2,
    window: Sizes | None = None,
    spacing: Sequence[float] | None = None,
    **_: object,
) -> tuple[int, ...]:
    strides = plan_stages(spatial_dims, window, spacing)[1]
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


@divisible_by(_dynunet_divisor)
def dynunet(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    window: Sizes | None = None,
    spacing: Sequence[float] | None = None,
    filters: Sequence[int] | None = None,
    norm: str | tuple = ("INSTANCE", {"affine": True}),
    dropout: float | None = None,
    res_block: bool = False,
    deep_supervision: bool = False,
) -> nn.Module:
    """nnU-Net's network; window and spacing determine depth and kernels (MONAI DynUNet).

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per position.
        spatial_dims: 1, 2 or 3.
        window: spatial size of the network input; one number for all axes. By default 256 in 1D and
            2D, 96 in 3D.
        spacing: voxel size per axis, in any unit; isotropic by default.
        filters: number of channels per stage, from the input; by default those of nnU-Net (32,
            doubled per stage, at most 512, or 320 in 3D).
        norm: MONAI name of the normalisation, optionally with its arguments.
        dropout: dropout ratio in [0, 1].
        res_block: whether to use residual blocks.
        deep_supervision: whether the training-mode forward pass returns a tuple: the logits, then
            those of the lower resolutions, finest first, each at its own resolution. As in nnU-Net,
            the coarsest decoder stage has no head. The additional heads are digital and exist in
            training only; evaluation is not affected.

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.
    """
    kernels, strides = plan_stages(spatial_dims, window, spacing)
    if filters is not None and len(filters) != len(strides):
        raise ConfigError(
            f"filters: this window needs {len(strides)} stages, found {len(filters)} filters"
        )
    return DynUNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=None if filters is None else list(filters),
        norm_name=_as_tuple(norm),
        dropout=dropout,
        res_block=res_block,
        deep_supervision=deep_supervision,
    )


def plan_stages(
    spatial_dims: int, window: Sizes | None = None, spacing: Sequence[float] | None = None
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return kernels and strides of the stages by nnU-Net's rules.

    An axis is halved while at least 4 positions remain. It is skipped while its voxels are at least
    twice as large as the finest of the axes that can be halved; until then its kernels are 1 wide.

    Args:
        spatial_dims: number of axes.
        window: size per axis, or one size for all.
        spacing: voxel size per axis.

    Returns:
        kernel sizes and strides, one tuple per stage; the first stride is 1.

    Raises:
        ConfigError: a value is invalid, or the window is too small to be halved twice.
    """
    sizes = _window_sizes(spatial_dims, window)
    voxel = _voxel_sizes(spatial_dims, spacing)
    axes = range(spatial_dims)
    kernel = [1] * spatial_dims
    kernels: list[tuple[int, ...]] = []
    strides = [(1,) * spatial_dims]
    while halved := _axes_to_halve(sizes, voxel):
        kernel = [3 if voxel[axis] < 2 * min(voxel) else kernel[axis] for axis in axes]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        sizes = [math.ceil(sizes[axis] / strides[-1][axis]) for axis in axes]
        voxel = [voxel[axis] * strides[-1][axis] for axis in axes]
    if len(strides) < 3:
        raise ConfigError(
            f"window: DynUNet has to halve the image at least twice and to keep 4 positions; "
            f"found window {window} with spacing {spacing}"
        )
    return [*kernels, (3,) * spatial_dims], strides


def _axes_to_halve(sizes: list[int], voxel: list[float]) -> list[int]:
    large = [axis for axis, size in enumerate(sizes) if size >= 8]
    finest = min((voxel[axis] for axis in large), default=math.inf)
    axes = [axis for axis in large if voxel[axis] < 2 * finest]
    return [] if len(axes) == 1 and sizes[axes[0]] < 12 else axes


def _voxel_sizes(spatial_dims: int, spacing: Sequence[float] | None) -> list[float]:
    voxel = [1.0] * spatial_dims if spacing is None else [float(size) for size in spacing]
    if len(voxel) != spatial_dims or not all(0 < size < math.inf for size in voxel):
        raise ConfigError(f"spacing: expected {spatial_dims} sizes above 0, found {spacing}")
    return voxel


def _window_sizes(spatial_dims: int, window: Sizes | None) -> list[int]:
    if window is None:
        window = 96 if spatial_dims == 3 else 256
    sizes = [window] * spatial_dims if isinstance(window, int) else list(window)
    if len(sizes) != spatial_dims or not all(size >= 1 for size in sizes):
        raise ConfigError(f"window: expected {spatial_dims} sizes of at least 1, found {window}")
    return sizes


def _as_tuple(norm: str | Sequence) -> str | tuple:
    """Return the norm with a tuple instead of a list; YAML lacks tuples, MONAI rejects lists."""
    return norm if isinstance(norm, str) else tuple(norm)
