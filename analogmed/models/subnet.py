"""Networks of the search space: recursive U-Nets built from a genotype."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.models.blocks import make_block, make_partner
from analogmed.models.genotype import Genotype, Level, block

_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
_HEAD = {2: nn.Conv2d, 3: nn.Conv3d}


class Subnet(nn.Module):
    """A network of the search space.

    In the encoder, the block of each level is followed by a pooling that halves the size. In the
    decoder, the upsampling partner of a level doubles the size, and a block of the same kind joins
    the result with the skip. The deepest level only has its block. A 1-wide convolution computes
    the logits. Classification networks have no decoder; a linear layer over the mean of all
    positions computes the logits.

    Layers that the genotype defines as digital have the attribute ``stays_digital``, which
    conversion and mapping respect.

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per position, or per image.
        spatial_dims: 2 or 3, as in the genotype.
        genotype: a :class:`Genotype`, or its dictionary or JSON form.

    Raises:
        ConfigError: the genotype is invalid or has other dimensions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        *,
        genotype: Genotype | Mapping[str, Any] | str,
    ) -> None:
        super().__init__()
        self.genotype = Genotype.of(genotype)
        if self.genotype.spatial_dims != spatial_dims:
            raise ConfigError(
                f"genotype {self.genotype} is {self.genotype.spatial_dims}D; the task is "
                f"{spatial_dims}D"
            )
        self.pool = _POOL[spatial_dims](2)
        levels = _levels(self.genotype, in_channels)
        self.levels = nn.ModuleList(levels)
        self.head: nn.Module
        if self._goes_up:
            self.head = _HEAD[spatial_dims](levels[0].out_channels, out_channels, 1)
        else:
            self.head = nn.Linear(levels[-1].down_channels, out_channels)

    @staticmethod
    def required_divisor(
        *, spatial_dims: int = 2, genotype: Genotype | Mapping[str, Any] | str
    ) -> int:
        """Return the divisor; each pooling halves the size."""
        return 2 ** (Genotype.of(genotype).depth - 1)

    @property
    def _goes_up(self) -> bool:
        return self.genotype.purpose == "segmentation"

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch.

        Args:
            images: shape (B, in_channels, *spatial), each size a multiple of 2 ** (depth - 1).

        Returns:
            logits, shape (B, out_channels, *spatial), or (B, out_channels) for classification.

        Raises:
            ShapeError: the images are too small for the depth, or their size is no such multiple.
        """
        check_size(self.genotype, tuple(images.shape[2:]))
        values = images
        skips: list[Tensor] = []
        levels = [level for level in self.levels if isinstance(level, _Level)]
        for number, level in enumerate(levels):
            values = level.down(values if number == 0 else self.pool(values))
            skips.append(values)
        if not self._goes_up:
            pooled: Tensor = self.head(values.flatten(2).mean(-1))
            return pooled
        for level, skip in zip(reversed(levels[:-1]), reversed(skips[:-1]), strict=True):
            values = level.join(torch.cat([skip, level.up(values)], dim=1))
        logits: Tensor = self.head(values)
        return logits


class _Level(nn.Module):
    """Modules of one level: ``down``, and ``up`` and ``join`` except at the deepest level."""

    down: nn.Module
    up: nn.Module
    join: nn.Module

    def __init__(
        self, level: Level, in_channels: int, inner: "_Level | None", spatial_dims: int
    ) -> None:
        super().__init__()
        self.down_channels: int = level.channels or in_channels
        self.out_channels: int = self.down_channels
        shape = {"kernel": level.kernel, "spatial_dims": spatial_dims}
        self.down = make_block(level.block, in_channels, level.channels, **shape)
        _mark(self.down, level.down)
        if inner is None:
            return
        up_channels = level.channels or inner.out_channels
        joined = self.down_channels + up_channels
        self.up = make_partner(
            level.block, inner.out_channels, up_channels, spatial_dims=spatial_dims
        )
        self.join = make_block(level.block, joined, level.channels, **shape)
        self.out_channels = level.channels or joined
        _mark(self.up, level.up)
        _mark(self.join, level.up)


def _levels(genotype: Genotype, in_channels: int) -> list[_Level]:
    """Return the modules of all levels from the input, built deepest first, as widths add up."""
    levels = genotype.levels[: genotype.depth]
    given = [in_channels]
    for level in levels:
        given.append(level.channels or given[-1])
    made: list[_Level] = []
    for level, channels in zip(reversed(levels), reversed(given[:-1]), strict=True):
        inner = made[-1] if made and genotype.purpose == "segmentation" else None
        made.append(_Level(level, channels, inner, genotype.spatial_dims))
    return made[::-1]


def check_size(genotype: Genotype, size: tuple[int, ...]) -> None:
    """Raise an error if poolings do not divide the size, or a norm has only one position.

    Args:
        genotype: network.
        size: spatial size of the images.

    Raises:
        ShapeError: names the size, and the divisor or the level.
    """
    divisor = 2 ** (genotype.depth - 1)
    where = f"a network of {genotype.depth} levels ({genotype}) on images of {size}"
    if len(size) != genotype.spatial_dims or any(n < divisor or n % divisor for n in size):
        raise ShapeError(
            f"{where}: expected {genotype.spatial_dims} sizes that are multiples of {divisor}; "
            "resize or pad the images, or take fewer levels"
        )
    for number, level in enumerate(genotype.levels[: genotype.depth]):
        norms = any(convolution.norm for convolution in block(level.block).convolutions)
        if norms and math.prod(n >> number for n in size) == 1:
            raise ShapeError(
                f"{where}: one position is left at level {number}, whose block {level.block} "
                "normalises over positions; give larger images, or take fewer levels"
            )


def _mark(module: nn.Module, place: str) -> None:
    if place == "digital":
        for layer in module.modules():
            layer.stays_digital = True  # type: ignore[assignment]
