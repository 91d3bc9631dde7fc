"""The compiled engine for CPUs: no unfold, converters in one pass each, noise by counter.

The feature map goes to DAC codes once for each row of tiles, weights are kept in ADC steps per DAC
step, so that the direct convolution gives ADC codes, and one pass over these does the rest. A part
of the batch goes through all rows of tiles while it is in the cache.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from analogmed.analog.noise_stream import Draw
from analogmed.analog.numba_kernels import (
    ADC_WORK,
    BLOCK,
    DAC_WORK,
    TRANSPOSE_WORK,
    convert_inputs,
    convert_outputs,
    transpose,
)
from analogmed.analog.threads import run_threaded
from analogmed.analog.tile import step_size

if TYPE_CHECKING:
    from aihwkit.simulator.parameters.io import IOParameters

    from analogmed.analog.layers import AnalogLayer

_ELEMENTS_A_THREAD = 1 << 14  # less work than this is not worth waking a thread
_CACHED_ELEMENTS = 1 << 20  # of a layer's output: a part of the batch that the caches hold


@dataclass(frozen=True)
class _Converters:
    """Steps and bounds of a tile: a step of 0 does not round, and codes are plain values then."""

    dac_step: float
    adc_step: float
    inp_bound: float
    out_bound: float
    noise: float

    @classmethod
    def of(cls, io: "IOParameters") -> "_Converters":
        dac_step = step_size(io.inp_res, io.inp_bound)
        adc_step = step_size(io.out_res, io.out_bound)
        return cls(
            dac_step,
            adc_step,
            io.inp_bound / (dac_step or 1.0) if io.inp_bound > 0 else math.inf,
            io.out_bound / (adc_step or 1.0) if io.out_bound > 0 else math.inf,
            io.out_noise / (adc_step or 1.0),
        )


@dataclass(frozen=True)
class _Row:
    """A row of tiles, ready to compute: kernel in codes, what a code of a column is worth."""

    start: int
    stop: int
    kernel: Tensor
    limit: float
    scale: Tensor


class NumbaEngine:
    """See :class:`analogmed.analog.engine.Engine`; for CPU tensors in float32, no gradients."""

    def product(self, layer: "AnalogLayer", inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`analogmed.analog.engine.Engine`."""
        layout = _LAST.get(inputs.ndim, torch.contiguous_format)
        inputs = inputs.detach()
        comes_last = inputs.is_contiguous(memory_format=layout)
        outputs = self._product(layer, _in_layout(inputs, layout), bias, layout)
        return outputs if comes_last else _in_layout(outputs, torch.contiguous_format)

    def _product(
        self,
        layer: "AnalogLayer",
        inputs: Tensor,
        bias: Tensor | None,
        layout: torch.memory_format,
    ) -> Tensor:
        converters = _Converters.of(layer.rpu_config.forward)
        rows = _rows(layer, converters, layout)
        draw = layer.reading.stream.draw() if layer.reading else Draw.from_torch()
        no_bias = torch.zeros_like(rows[0].scale)
        biases = [no_bias] * (len(rows) - 1) + [no_bias if bias is None else _repeated(bias)]
        total: Tensor | None = None
        for first, part in _parts(inputs, layer):
            for index, row in enumerate(rows):
                seen = layer.row_inputs(part, row.start, row.stop, vectors=False)
                codes = _to_codes(seen, row.limit, converters, layout)
                sums = layer.kernel_product(codes, row.kernel).contiguous(memory_format=layout)
                if total is None:
                    shape = (len(inputs), *sums.shape[1:])
                    total = torch.empty(shape, memory_format=layout)
                _add_outputs(sums, total, first, converters, row.scale, biases[index], draw, index)
        assert total is not None
        return total


_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def _in_layout(values: Tensor, layout: torch.memory_format) -> Tensor:
    """The map in another order of memory; torch's own copy takes several times as long."""
    if values.is_contiguous(memory_format=layout):
        return values
    last = _LAST.get(values.ndim, torch.contiguous_format)
    to_last = layout is last and values.is_contiguous()
    from_last = layout is torch.contiguous_format and values.is_contiguous(memory_format=last)
    if not (to_last or from_last):
        return values.contiguous(memory_format=layout)
    target = torch.empty(values.shape, memory_format=layout)
    channels, positions = values.shape[1], values[0, 0].numel()
    work = np.zeros((), TRANSPOSE_WORK)
    work["source"], work["target"] = values.data_ptr(), target.data_ptr()
    work["matrices"] = len(values)
    work["rows"], work["cols"] = (channels, positions) if to_last else (positions, channels)
    _share(transpose, work, values.numel())
    return target


def _rows(layer: "AnalogLayer", converters: _Converters, layout: torch.memory_format) -> list[_Row]:
    cache = layer.reading.prepared if layer.reading else {}
    if layout not in cache:
        gain = (converters.dac_step or 1.0) / (converters.adc_step or 1.0)
        cache[layout] = [
            layer.row_kernel(row.weight.detach() * gain, *span).contiguous(memory_format=layout)
            for row, span in zip(layer.tile_rows(), layer.grid.rows, strict=True)
        ]
    ranges = layer.input_range
    limits = [math.inf] * len(layer.grid.rows) if ranges is None else ranges.tolist()
    worth = (converters.adc_step or 1.0) * layer.rpu_config.forward.out_scale
    return [
        _Row(
            *span,
            kernel,
            limit,
            _repeated(row.scale.detach() * (worth * (1.0 if ranges is None else limit))),
        )
        for row, span, kernel, limit in zip(
            layer.tile_rows(), layer.grid.rows, cache[layout], limits, strict=True
        )
    ]


def _repeated(values: Tensor) -> Tensor:
    """Columns one after the other, often enough for a block that starts at any of them."""
    flat = values.detach().flatten()
    return flat.repeat(BLOCK // len(flat) + 2)


def _parts(inputs: Tensor, layer: "AnalogLayer") -> Iterator[tuple[int, Tensor]]:
    """Cut the batch into parts that fit the cache: number of the first entry, and the part."""
    channels, columns = inputs.shape[1], layer.groups * layer.grid.cols[-1][1]
    entry = inputs[0].numel() // channels * max(channels, columns)
    step = max(1, _CACHED_ELEMENTS // entry)
    for first in range(0, len(inputs), step):
        yield first, inputs[first : first + step]


def _to_codes(
    seen: Tensor, limit: float, converters: _Converters, layout: torch.memory_format
) -> Tensor:
    runs = _as_runs(seen, layout)
    if runs is None:
        seen = seen.contiguous(memory_format=layout)
        runs = 1, seen.numel(), 0
    _, run, stride = runs
    codes = torch.empty(seen.shape, memory_format=layout)
    work = np.zeros((), DAC_WORK)
    work["source"], work["codes"] = seen.data_ptr(), codes.data_ptr()
    work["size"], work["run"], work["stride"] = seen.numel(), run, stride
    work["limit"], work["bound"] = abs(limit), converters.inp_bound
    work["range"] = 1.0 if limit == math.inf else limit
    work["step"] = converters.dac_step or 1.0
    work["rounds"] = converters.dac_step > 0
    _share(convert_inputs, work, seen.numel())
    return codes


def _as_runs(values: Tensor, layout: torch.memory_format) -> tuple[int, int, int] | None:
    """Number, length and stride of equal runs that hold the values in memory order, if they do."""
    axes = list(range(values.ndim))
    if layout is not torch.contiguous_format:
        axes = [0, *axes[2:], 1]
    sizes, strides = [1], [1]
    for axis in reversed(axes):
        size, stride = values.shape[axis], values.stride(axis)
        if size == 1:
            continue
        if stride == sizes[-1] * strides[-1]:
            sizes[-1] *= size
        else:
            sizes.append(size)
            strides.append(stride)
    if len(sizes) > 2 or strides[0] != 1:
        return None
    return (1, sizes[0], 0) if len(sizes) == 1 else (sizes[1], sizes[0], strides[1])


def _add_outputs(
    sums: Tensor,
    total: Tensor,
    first: int,
    converters: _Converters,
    scale: Tensor,
    bias: Tensor,
    draw: Draw,
    row: int,
) -> None:
    """ADC of a part of the batch; the first row of tiles overwrites ``total``, others add to it."""
    entry = sums[0].numel()
    whole = len(total) % draw.samples == 0
    part = total[first : first + len(sums)]
    work = np.zeros((), ADC_WORK)
    work["sums"], work["total"] = sums.data_ptr(), part.data_ptr()
    work["scale"], work["bias"] = scale.data_ptr(), bias.data_ptr()
    work["size"], work["first"] = sums.numel(), first * entry
    work["sample_size"] = entry * (len(total) // draw.samples if whole else len(total))
    work["columns"] = sums.shape[1]
    work["inner"] = entry // sums.shape[1] if sums.is_contiguous() else 1
    work["key"], work["sample"], work["use"], work["row"] = (
        draw.key,
        draw.first_sample,
        draw.use,
        row,
    )
    work["noise"], work["bound"] = converters.noise, converters.out_bound
    work["rounds"], work["adds"] = converters.adc_step > 0, row > 0
    _share(convert_outputs, work, sums.numel())


def _share(worker: Any, work: np.ndarray, elements: int) -> None:
    ticket = np.zeros(1, np.int64)
    work["ticket"] = ticket.ctypes.data
    run_threaded(worker.ctypes, work.ctypes.data, at_most=elements // _ELEMENTS_A_THREAD)
