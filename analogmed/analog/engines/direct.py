"""Inference with static input ranges, without unfolding: DAC, direct convolution and ADC.

Weights are kept in ADC steps per DAC step, so that the direct convolution of DAC codes yields ADC
codes. One pass over the feature map computes the codes for all rows of tiles, and one pass over the
sums of each row computes its outputs. Large layers are computed in parts.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from analogmed.analog.engines.converters import Converters, OutputStage, TileOps, TileRowInput
from analogmed.analog.engines.interface import TiledLayer
from analogmed.analog.engines.layout import CHANNELS_LAST, format_of
from analogmed.analog.tile.noise_stream import NoiseAddress

_LEAST_REACHES = 8  # kernels per part, at least, since the edges of a part are converted twice


@dataclass(frozen=True)
class _Row:
    """Row of tiles prepared for computation: channels, kernel in codes, and output stage."""

    span: tuple[int, int]
    limit: float
    kernel: Tensor
    readout: OutputStage


@dataclass(frozen=True)
class _Window:
    """Extent of the input that an output depends on, along the first axis of positions.

    Attributes:
        reach: extent in pixels, from the first one to the end.
        stride: distance from one output to the next.
        padding: number of zeros before the first pixel and after the last one.
    """

    reach: int
    stride: int
    padding: int

    @classmethod
    def of(cls, layer: TiledLayer, inputs: Tensor) -> "_Window":
        patch, axis = layer.patch, 5 - inputs.ndim
        reach = patch.dilation[axis] * (patch.kernel[axis] - 1) + 1
        return cls(reach, patch.stride[axis], patch.padding[axis])

    def outputs(self, size: int) -> int:
        """Return the number of outputs for an input of a given size."""
        return (size + 2 * self.padding - self.reach) // self.stride + 1

    def inputs(self, outputs: int) -> int:
        """Return the input size that a number of outputs depends on."""
        return (outputs - 1) * self.stride + self.reach

    def cut(self, maps: Tensor, start: int, outputs: int) -> tuple[Tensor, tuple[int, int]]:
        """Return the part of a map for outputs from ``start`` on, and its padding on both sides."""
        begin = start * self.stride - self.padding
        end = begin + self.inputs(outputs)
        low = max(begin, 0)
        high = max(low, min(end, maps.shape[2]))  # empty if all is padding
        return maps[:, :, low:high], (low - begin, end - high)


@dataclass(frozen=True)
class _Part:
    """Whole entries of the batch, or bands of one entry that are computed as a separate batch.

    Attributes:
        first: first entry.
        entries: number of entries.
        start: start within an entry's output, along the first axis of positions.
        bands: number of consecutive bands from there; 0 for whole entries.
        length: length of a band.
    """

    first: int
    entries: int
    start: int = 0
    bands: int = 0
    length: int = 0


class DirectEngine:
    """Engine with direct convolution, without gradients.

    See :class:`analogmed.analog.engines.interface.Engine`.

    Args:
        ops: the passes before and after a product.
    """

    def __init__(self, ops: TileOps) -> None:
        self._ops = ops

    def product(self, layer: TiledLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`analogmed.analog.engines.interface.Engine`."""
        layout = self._ops.layout_of(inputs)
        inputs = inputs.detach()
        came_in = format_of(inputs)
        outputs = self._product(layer, self._ops.in_layout(inputs, layout), bias, layout)
        return self._ops.in_layout(outputs, came_in)

    def _product(
        self, layer: TiledLayer, inputs: Tensor, bias: Tensor | None, layout: torch.memory_format
    ) -> Tensor:
        rows = self._rows(layer, bias, layout)
        total: Tensor | None = None
        together = _shares_pass(layer, inputs, layout)
        for part in _parts(layer, inputs, self._ops.part_elements, banded=together):
            part_codes = self._codes(layer, inputs, part, rows, layout, together=together)
            for row, codes in zip(rows, part_codes, strict=True):
                sums = layer.kernel_product(codes, row.kernel, padded=part.bands > 0)
                sums = sums.contiguous(memory_format=layout)
                if total is None:
                    total = _like(sums, _output_shape(layer, inputs, sums), layout)
                if part.bands:
                    width = sums[0, 0, 0].numel()
                    first = (part.first * total.shape[2] + part.start) * width
                    self._ops.add_outputs(_flat(sums), _flat(total), row.readout, first=first)
                else:
                    self._ops.add_outputs(sums, total, row.readout, first=part.first)
        assert total is not None
        return total

    def _rows(
        self, layer: TiledLayer, bias: Tensor | None, layout: torch.memory_format
    ) -> list[_Row]:
        converters = Converters.of(layer.io)
        cache = layer.reading.prepared if layer.reading else {}
        tiles, spans = layer.tile_rows(), layer.grid.rows
        if layout not in cache:
            gain = converters.weight_gain
            cache[layout] = [
                layer.row_kernel(row.weight.detach() * gain, *span).contiguous(memory_format=layout)
                for row, span in zip(tiles, spans, strict=True)
            ]
        draw = layer.reading.stream.draw() if layer.reading else NoiseAddress.from_torch()
        ranges = layer.input_range
        limits = [math.inf] * len(tiles) if ranges is None else ranges.tolist()
        none = self._ops.by_column(torch.zeros_like(tiles[0].scale))
        rows = []
        for index, (row, span, limit) in enumerate(zip(tiles, spans, limits, strict=True)):
            is_last = index == len(tiles) - 1
            readout = OutputStage(
                converters,
                self._ops.by_column(row.scale.detach() * converters.adc_lsb(limit)),
                none if bias is None or not is_last else self._ops.by_column(bias),
                draw,
                index,
            )
            rows.append(_Row(span, limit, cache[layout][index], readout))
        return rows

    def _codes(
        self,
        layer: TiledLayer,
        inputs: Tensor,
        part: _Part,
        rows: list[_Row],
        layout: torch.memory_format,
        *,
        together: bool,
    ) -> Iterator[Tensor]:
        """Yield the codes of a part of the feature map for each row of tiles."""
        entries = inputs[part.first : part.first + part.entries]
        if not together:
            for row in rows:
                seen = layer.row_inputs(entries, *row.span, vectors=False)
                yield self._ops.to_codes(seen, row.limit, row.readout.converters, layout)
            return
        channels = [layer.row_channels(*row.span) for row in rows]
        positions = tuple(inputs.shape[2:])
        if part.bands:
            window = _Window.of(layer, inputs)
            positions = (window.inputs(part.length), *positions[1:])
        batch = part.bands or part.entries
        codes = [_like(inputs, (batch, b - a, *positions), layout) for a, b in channels]
        if part.bands:
            for band in range(part.bands):
                start = part.start + band * part.length
                seen, edges = window.cut(entries, start, part.length)
                self._convert(
                    seen, channels, rows, [_inside(c[band : band + 1], edges) for c in codes]
                )
        else:
            self._convert(entries, channels, rows, codes)
        yield from codes

    def _convert(
        self,
        inputs: Tensor,
        channels: list[tuple[int, int]],
        rows: list[_Row],
        codes: list[Tensor],
    ) -> None:
        targets = [
            TileRowInput(*span, row.limit, each)
            for span, row, each in zip(channels, rows, codes, strict=True)
        ]
        self._ops.to_row_codes(inputs, targets, rows[0].readout.converters)


def _parts(layer: TiledLayer, inputs: Tensor, most: int | None, *, banded: bool) -> Iterator[_Part]:
    """Split the batch, or large entries of it, into parts.

    A single volume is always split: oneDNN convolves a volume with few channels, as in a row of
    tiles, two to three times more slowly than the same work in a batch of two.
    """
    if most is None:
        yield _Part(0, len(inputs))
        return
    channels, columns = inputs.shape[1], layer.groups * layer.grid.cols[-1][1]
    entry = inputs[0].numel() // channels * max(channels, columns)
    together = min(len(inputs), max(1, most // entry))
    bands = _bands(layer, inputs, most / entry) if banded and together == 1 else []
    for first in range(0, len(inputs), together):
        if bands:
            yield from (_Part(first, 1, *band) for band in bands)
        else:
            yield _Part(first, min(together, len(inputs) - first))


def _bands(layer: TiledLayer, inputs: Tensor, share: float) -> list[tuple[int, int, int]]:
    """Return start, number and length of bands of an entry; none if splitting is slower.

    Args:
        layer: layer, for its window.
        inputs: feature map.
        share: largest share of an entry in a part.
    """
    if inputs.ndim < 4:
        return []
    window = _Window.of(layer, inputs)
    together = 2 if inputs.ndim == 5 else 1
    size = window.outputs(inputs.shape[2])
    least = 1 if together > 1 else -(-_LEAST_REACHES * (window.reach - 1) // window.stride)
    longest = max(1, least, int(share * size) // together)
    number = -(-size // (longest * together)) * together
    if not 1 < number <= size:
        return []
    length, longer = divmod(size, number)  # this many are longer by one; batches have equal bands
    found, start = [], 0
    for count, own_length in ((longer, length + 1), (number - longer, length)):
        for done in range(0, count, together):
            batch = min(together, count - done)
            found.append((start, batch, own_length))
            start += batch * own_length
    return found


def _shares_pass(layer: TiledLayer, inputs: Tensor, layout: torch.memory_format) -> bool:
    """Return whether the channels of a row of tiles are adjacent in memory at each position."""
    return layer.groups == 1 and (inputs.ndim == 2 or layout is CHANNELS_LAST.get(inputs.ndim))


def _output_shape(layer: TiledLayer, inputs: Tensor, sums: Tensor) -> tuple[int, ...]:
    if inputs.ndim < 3:
        return len(inputs), sums.shape[1]
    size = _Window.of(layer, inputs).outputs(inputs.shape[2])
    return len(inputs), sums.shape[1], size, *sums.shape[3:]


def _inside(codes: Tensor, edges: tuple[int, int]) -> Tensor:
    """Return a map without its edges, which are set to zero."""
    before, behind = edges
    stop = codes.shape[2] - behind
    codes[:, :, :before].zero_()
    codes[:, :, stop:].zero_()
    return codes[:, :, before:stop]


def _like(values: Tensor, shape: tuple[int, ...], layout: torch.memory_format) -> Tensor:
    return torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=layout)


def _flat(maps: Tensor) -> Tensor:
    """Return one row per position, with adjacent channels."""
    return maps.movedim(1, -1).flatten(0, -2)
