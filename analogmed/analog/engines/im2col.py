"""Inference with unfolded input vectors, each with its own scale or noise magnitude.

Blocks of output positions are small enough for their vectors to stay in the cache, from the DAC
through the matrix product to the ADC.
"""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from aihwkit.simulator.parameters.enums import WeightNoiseType
from aihwkit.simulator.parameters.io import IOParameters
from torch import Tensor

from analogmed.analog.engines.converters import Converters, OutputStage, VectorOps
from analogmed.analog.engines.interface import TiledLayer
from analogmed.analog.engines.layout import CHANNELS_LAST, format_of
from analogmed.analog.engines.vectors import KernelWindow, Scaling, VectorMap
from analogmed.analog.tile.noise_stream import NoiseAddress
from analogmed.analog.tile.product import has_weight_noise
from analogmed.foundation.errors import ShapeError

_BLOCK_ELEMENTS = 1 << 20  # codes and sums of a block of positions, for the caches of two cores
_SPARE = 16  # codes that may be written after the last one of a vector


@dataclass(frozen=True)
class _Row:
    """Row of tiles prepared for computation: input vectors, and weights in codes in the same order.

    Weights have the shape (groups, rows, columns). ``sizes`` are the magnitudes of the weights,
    where the noise depends on them.
    """

    vectors: VectorMap
    scaling: Scaling
    weight: Tensor
    sizes: Tensor | None
    readout: OutputStage


class Im2colEngine:
    """Engine with unfolded input vectors, without gradients.

    See :class:`analogmed.analog.engines.interface.Engine`.

    Args:
        ops: the passes before and after a product.
    """

    def __init__(self, ops: VectorOps) -> None:
        self._ops = ops

    def product(self, layer: TiledLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`analogmed.analog.engines.interface.Engine`."""
        inputs = inputs.detach()
        came_in = format_of(inputs)
        pixels = self._pixels(inputs, layer.patch)
        rows = self._rows(layer, pixels, bias)
        positions = rows[0].vectors.positions
        outputs = self._read(rows, pixels, layer.io)
        maps = outputs.view(len(pixels), *positions, -1).movedim(-1, 1)
        maps = maps if inputs.ndim == 5 else maps.squeeze(2)  # channels last
        maps = self._ops.in_layout(maps, came_in)
        return maps.view(*maps.shape[:2], *maps.shape[maps.ndim - inputs.ndim + 2 :])

    def _pixels(self, inputs: Tensor, patch: KernelWindow) -> Tensor:
        """Return the padded map, channels last in memory: (B, depth, height, width, channels)."""
        missing = (1,) * max(0, 4 - inputs.ndim)
        maps = inputs.reshape(*inputs.shape[:2], *missing, *inputs.shape[2:])
        pixels = self._ops.in_layout(maps, CHANNELS_LAST[maps.ndim]).movedim(1, -1)
        pixels = pixels if pixels.ndim == 5 else pixels.unsqueeze(1)
        depth, height, width = patch.padding
        if not any(patch.padding):
            return pixels
        return F.pad(pixels, (0, 0, width, width, height, height, depth, depth))

    def _rows(self, layer: TiledLayer, pixels: Tensor, bias: Tensor | None) -> list[_Row]:
        io = layer.io
        converters = Converters.of(io)
        draw = _draw(layer, len(pixels))
        tiles = layer.tile_rows()
        weights = self._weights(layer, converters.weight_gain)
        limits = [None] * len(tiles) if layer.input_range is None else layer.input_range.tolist()
        rows = []
        for index, (tile, span) in enumerate(zip(tiles, layer.grid.rows, strict=True)):
            vectors = VectorMap.of(layer.patch, span, tuple(pixels.shape), layer.groups)
            if min(vectors.positions) < 1:
                raise ShapeError(
                    f"the kernel {layer.patch.kernel} does not fit into the padded input "
                    f"{tuple(pixels.shape[1:4])}"
                )
            last = index == len(tiles) - 1
            own = bias if last and bias is not None else torch.zeros_like(tile.scale)
            scale = self._ops.by_column(tile.scale.detach() * converters.adc_lsb_normalised)
            readout = OutputStage(converters, scale, self._ops.by_column(own), draw, index)
            weight = weights[index]
            sizes = weight.abs() if io.w_noise_type is WeightNoiseType.PCM_READ else None
            rows.append(_Row(vectors, Scaling.of(io, limits[index]), weight, sizes, readout))
        return rows

    def _weights(self, layer: TiledLayer, gain: float) -> list[Tensor]:
        cache = layer.reading.prepared if layer.reading else {}
        if "vectors" not in cache:
            orders = [torch.from_numpy(layer.patch.order(*span)) for span in layer.grid.rows]
            cache["vectors"] = [
                (row.weight.detach()[:, :, order.to(row.weight.device)] * gain)
                .transpose(1, 2)
                .contiguous()
                for row, order in zip(layer.tile_rows(), orders, strict=True)
            ]
        weights: list[Tensor] = cache["vectors"]
        return weights

    def _read(self, rows: list[_Row], pixels: Tensor, io: IOParameters) -> Tensor:
        """Return the sums of all tiles, (positions of all entries, groups * columns)."""
        groups, _, columns = rows[0].weight.shape
        count = len(pixels) * math.prod(rows[0].vectors.positions)
        total = pixels.new_empty(count, groups * columns)
        pitch = _SPARE + max(row.weight.shape[1] for row in rows)
        step = max(1, min(count, _BLOCK_ELEMENTS // (groups * (pitch + columns))))
        codes = pixels.new_empty(step, groups, pitch)
        sums = pixels.new_empty(step, groups * columns)
        sizes, powers = pixels.new_empty(2, step, groups)
        for first in range(0, count, step):
            if count - first < step:
                codes, sums, sizes, powers = (
                    buffer[: count - first] for buffer in (codes, sums, sizes, powers)
                )
            for row in rows:
                self._ops.lay_out(
                    pixels, row.vectors, row.scaling, row.readout.converters, first,
                    codes, sizes, powers,
                )  # fmt: skip
                _multiply(codes, row.weight, sums)
                spread = _spread(codes, powers, row, io)
                readout = replace(row.readout, spread=spread, factor=sizes)
                self._ops.add_outputs(sums, total, readout, first=first)
        return total


def _draw(layer: TiledLayer, entries: int) -> NoiseAddress:
    draw = layer.reading.stream.draw() if layer.reading else NoiseAddress.from_torch()
    return draw if entries % draw.samples == 0 else replace(draw, samples=1)


def _multiply(codes: Tensor, weight: Tensor, sums: Tensor) -> None:
    """Compute sums (positions, groups * columns) of codes (positions, groups, rows and spare)."""
    groups, rows, columns = weight.shape
    vectors = codes[:, :, :rows]
    if groups == 1:
        torch.mm(vectors[:, 0], weight[0], out=sums)
        return
    products = torch.bmm(vectors.transpose(0, 1), weight)
    sums.view(-1, groups, columns).copy_(products.transpose(0, 1))


def _spread(codes: Tensor, powers: Tensor, row: _Row, io: IOParameters) -> Tensor | None:
    """Return the standard deviation of output and weight noise together, in codes.

    It has one value per position and group, or one per output. Overwrites ``codes`` and ``powers``.
    """
    if not has_weight_noise(io):
        return None
    converters = row.readout.converters
    gain = io.w_noise * converters.weight_gain
    variance, per_power = powers, gain**2
    if row.sizes is not None:
        groups, _, columns = row.sizes.shape
        variance, per_power = powers.new_empty(len(powers), groups * columns), io.w_noise * gain
        _multiply(codes.square_(), row.sizes, variance)
    return variance.mul_(per_power).add_(converters.noise**2).sqrt_()
