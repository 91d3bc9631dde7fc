"""Size of a block that contains those of several networks, with each layer at its largest."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

SizeUnit: TypeAlias = Literal["parameters", "tiles"]

Section: TypeAlias = tuple[int, ...]
"""Source of a part of a layer's input channels: sections of different sources do not overlap."""


@dataclass(frozen=True)
class LayerExtent:
    """Channels and kernel of a layer.

    Attributes:
        inputs: input channels by the section that they come from.
        outputs: output channels.
        kernel: size of the kernel along each spatial axis.
        is_transposed: whether it is a transposed convolution.
        per_output: further parameters of each output channel: bias, scale and shift.
        is_analog: whether it is on tiles.
    """

    inputs: Mapping[Section, int]
    outputs: int
    kernel: tuple[int, ...] = ()
    is_transposed: bool = False
    per_output: int = 0
    is_analog: bool = True

    def joined(self, other: "LayerExtent") -> "LayerExtent":
        """Return the smallest layer that contains both."""
        sections = dict.fromkeys((*self.inputs, *other.inputs))
        largest = {
            section: max(self.inputs.get(section, 0), other.inputs.get(section, 0))
            for section in sections
        }
        kernel = tuple(map(max, zip(self.kernel, other.kernel, strict=True)))
        outputs = max(self.outputs, other.outputs)
        is_analog = self.is_analog or other.is_analog
        per_output = max(self.per_output, other.per_output)
        return LayerExtent(largest, outputs, kernel, self.is_transposed, per_output, is_analog)

    def size(self, unit: SizeUnit, tile_size: int) -> int:
        """Return the number of parameters, or of tiles."""
        inputs, volume = sum(self.inputs.values()), math.prod(self.kernel)
        if unit == "parameters":
            return self.outputs * (inputs * volume + self.per_output)
        if not self.is_analog:
            return 0
        rows = inputs * (1 if self.is_transposed else volume)
        columns = self.outputs * (volume if self.is_transposed else 1)
        return math.ceil(rows / tile_size) * math.ceil(columns / tile_size)


@dataclass(frozen=True)
class Extent:
    """Layers of a block, and its size as a number (``float(extent)``).

    Attributes:
        layers: extents of the layers by name.
        unit: unit of the size.
        tile_size: number of rows and columns of a tile.
    """

    layers: Mapping[str, LayerExtent]
    unit: SizeUnit
    tile_size: int

    def joined(self, other: "Extent") -> "Extent":
        """Return the smallest block that contains both."""
        layers = dict(self.layers)
        for name, layer in other.layers.items():
            layers[name] = layers[name].joined(layer) if name in layers else layer
        return Extent(layers, self.unit, self.tile_size)

    def __float__(self) -> float:
        return float(sum(layer.size(self.unit, self.tile_size) for layer in self.layers.values()))
