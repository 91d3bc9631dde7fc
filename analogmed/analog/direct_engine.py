"""Reading static input ranges without unfolding: DAC, direct convolution, ADC, row by row of tiles.

The feature map goes to DAC codes once for each row of tiles, weights are kept in ADC steps per DAC
step, so that the direct convolution gives ADC codes, and one pass over these does the rest.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from analogmed.analog.converters import Converters, Readout, TileOps, layout_of
from analogmed.analog.noise_stream import Draw

if TYPE_CHECKING:
    from analogmed.analog.layers import AnalogLayer

_PART_ELEMENTS = 1 << 23  # of a layer's output: what the sums of one row of tiles may take


@dataclass(frozen=True)
class _Row:
    """A row of tiles, ready to compute: kernel in codes, what a code of a column is worth."""

    start: int
    stop: int
    kernel: Tensor
    limit: float
    scale: Tensor


class DirectEngine:
    """See :class:`analogmed.analog.engine.Engine`; no gradients.

    Args:
        ops: the passes before and after a product.
    """

    def __init__(self, ops: TileOps) -> None:
        self._ops = ops

    def product(self, layer: "AnalogLayer", inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`analogmed.analog.engine.Engine`."""
        layout = layout_of(inputs)
        inputs = inputs.detach()
        comes_last = inputs.is_contiguous(memory_format=layout)
        outputs = self._product(layer, self._ops.in_layout(inputs, layout), bias, layout)
        return outputs if comes_last else self._ops.in_layout(outputs, torch.contiguous_format)

    def _product(
        self, layer: "AnalogLayer", inputs: Tensor, bias: Tensor | None, layout: torch.memory_format
    ) -> Tensor:
        converters = Converters.of(layer.rpu_config.forward)
        rows = self._rows(layer, converters, layout)
        draw = layer.reading.stream.draw() if layer.reading else Draw.from_torch()
        no_bias = torch.zeros_like(rows[0].scale)
        biases = [no_bias] * (len(rows) - 1)
        biases.append(no_bias if bias is None else self._ops.by_column(bias))
        readouts = [
            Readout(converters, row.scale, bias, draw, index)
            for index, (row, bias) in enumerate(zip(rows, biases, strict=True))
        ]
        total: Tensor | None = None
        for first, part in _parts(inputs, layer):
            for row, readout in zip(rows, readouts, strict=True):
                seen = layer.row_inputs(part, row.start, row.stop, vectors=False)
                codes = self._ops.to_codes(seen, row.limit, converters, layout)
                sums = layer.kernel_product(codes, row.kernel).contiguous(memory_format=layout)
                if total is None:
                    shape = (len(inputs), *sums.shape[1:])
                    total = torch.empty(shape, device=sums.device, memory_format=layout)
                self._ops.add_outputs(sums, total, readout, first=first)
        assert total is not None
        return total

    def _rows(
        self, layer: "AnalogLayer", converters: Converters, layout: torch.memory_format
    ) -> list[_Row]:
        cache = layer.reading.prepared if layer.reading else {}
        tiles = layer.tile_rows()
        if layout not in cache:
            gain = converters.weight_gain
            cache[layout] = [
                layer.row_kernel(row.weight.detach() * gain, *span).contiguous(memory_format=layout)
                for row, span in zip(tiles, layer.grid.rows, strict=True)
            ]
        ranges = layer.input_range
        limits = [math.inf] * len(tiles) if ranges is None else ranges.tolist()
        worths = [converters.output_worth * (1.0 if ranges is None else v) for v in limits]
        return [
            _Row(*span, kernel, limit, self._ops.by_column(row.scale.detach() * worth))
            for row, span, kernel, limit, worth in zip(
                tiles, layer.grid.rows, cache[layout], limits, worths, strict=True
            )
        ]


def _parts(inputs: Tensor, layer: "AnalogLayer") -> Iterator[tuple[int, Tensor]]:
    """Cut a large batch: number of the first entry, and the part."""
    channels, columns = inputs.shape[1], layer.groups * layer.grid.cols[-1][1]
    entry = inputs[0].numel() // channels * max(channels, columns)
    step = max(1, _PART_ELEMENTS // entry)
    for first in range(0, len(inputs), step):
        yield first, inputs[first : first + step]
