"""The passes of a product on CPUs, on torch's threads."""

from collections.abc import Sequence

import numpy as np
import torch
from aihwkit.simulator.parameters.enums import NoiseManagementType
from torch import Tensor

from analogmed.analog.engines.converters import (
    ClippingRecord,
    Converters,
    OutputStage,
    TileRowInput,
    layout_of,
)
from analogmed.analog.engines.cpu.kernels.adc import ADC_WORK, convert_outputs
from analogmed.analog.engines.cpu.kernels.dac import DAC_WORK, convert_inputs
from analogmed.analog.engines.cpu.kernels.lanes import LANES
from analogmed.analog.engines.cpu.kernels.noise import BLOCK
from analogmed.analog.engines.cpu.kernels.transpose import TRANSPOSE_WORK, transpose
from analogmed.analog.engines.cpu.kernels.vectors import PATCH_WORK, convert_vectors
from analogmed.analog.engines.cpu.threads import ELEMENTS_A_THREAD, share_work
from analogmed.analog.engines.layout import CHANNELS_LAST, as_runs, with_strides_of
from analogmed.analog.engines.vectors import Scaling, VectorMap

_LONGEST_RUN = 1 << 12  # values per thread
_COUNTED_BITS = {  # bits of a value that count for the size of its vector
    NoiseManagementType.NONE: 0,
    NoiseManagementType.CONSTANT: 0,
    NoiseManagementType.ABS_MAX: 0x7FFFFFFF,
    NoiseManagementType.MAX: 0xFFFFFFFF,
}


class NumbaOps:
    """Passes of inference for CPU tensors in float32.

    See :class:`analogmed.analog.engines.converters.TileOps`.
    """

    part_elements: int | None = 1 << 24  # 64 MB

    def layout_of(self, values: Tensor) -> torch.memory_format:
        """Return channels last for values in any format."""
        return layout_of(values)

    def in_layout(self, values: Tensor, layout: torch.memory_format) -> Tensor:
        """See ``TileOps``; several times as fast as torch's copy."""
        if values.is_contiguous(memory_format=layout):
            return with_strides_of(values, layout)
        last = CHANNELS_LAST.get(values.ndim, torch.contiguous_format)
        to_last = layout is last and values.is_contiguous()
        from_last = layout is torch.contiguous_format and values.is_contiguous(memory_format=last)
        if not (to_last or from_last):
            return values.contiguous(memory_format=layout)
        target = torch.empty_like(values, memory_format=layout)
        channels, positions = values.shape[1], values[0, 0].numel()
        work = np.zeros((), TRANSPOSE_WORK)
        work["source"], work["target"] = values.data_ptr(), target.data_ptr()
        work["matrices"] = len(values)
        work["rows"], work["cols"] = (channels, positions) if to_last else (positions, channels)
        share_work(transpose, work, values.numel())
        return target

    def by_column(self, values: Tensor) -> Tensor:
        """Repeat the values often enough for a block that starts at any of them."""
        flat = values.detach().flatten()
        return flat.repeat(BLOCK // len(flat) + 2)

    def to_codes(
        self, inputs: Tensor, limit: float, converters: Converters, layout: torch.memory_format
    ) -> Tensor:
        """See ``TileOps``."""
        runs = as_runs(inputs, layout)
        if runs is None:
            inputs = inputs.contiguous(memory_format=layout)
            runs = inputs.numel(), 0
        codes = torch.empty_like(inputs, memory_format=layout)
        length, pitch = runs
        target = TileRowInput(0, length, limit, codes)
        _convert(inputs, inputs.numel() // length, pitch, [target], converters)
        return codes

    def to_row_codes(
        self, inputs: Tensor, rows: Sequence[TileRowInput], converters: Converters
    ) -> None:
        """See ``TileOps``."""
        channels = inputs.shape[1]
        _convert(inputs, inputs.numel() // channels, channels, rows, converters)

    def lay_out(
        self,
        pixels: Tensor,
        vectors: VectorMap,
        scaling: Scaling,
        converters: Converters,
        first: int,
        codes: Tensor,
        sizes: Tensor,
        powers: Tensor,
    ) -> None:
        """See ``TileOps``."""
        work = np.zeros((), PATCH_WORK)
        work["source"], work["codes"] = pixels.data_ptr(), codes.data_ptr()
        work["sizes"], work["powers"] = sizes.data_ptr(), powers.data_ptr()
        pieces, rests = vectors.pieces
        work["pieces"], work["number"] = pieces.ctypes.data, len(pieces)
        work["rests"], work["others"] = rests.ctypes.data, len(rests)
        work["first"], work["vectors"] = first * vectors.groups, sizes.numel()
        work["pitch"], work["groups"] = codes.shape[2], vectors.groups
        work["positions"], work["steps"] = vectors.positions, vectors.steps
        work["gain"] = np.float32(1) / np.float32(converters.dac_step or 1.0)
        work["bound"], work["rounds"] = converters.inp_bound, converters.dac_step > 0
        work["limit"], work["threshold"] = scaling.limit, scaling.threshold
        work["unit"], work["mask"] = scaling.unit, _COUNTED_BITS[scaling.kind]
        share_work(convert_vectors, work, codes.numel())

    def add_outputs(
        self,
        sums: Tensor,
        total: Tensor,
        readout: OutputStage,
        *,
        first: int = 0,
        record: ClippingRecord | None = None,
    ) -> int:
        """See ``TileOps``."""
        clipped = np.zeros(1, np.int64)
        work = _adc_work(sums, total, readout, first)
        for name, values in (("spread", readout.spread), ("factor", readout.factor)):
            if values is not None:
                work[name] = values.data_ptr()
                work[f"{name}_columns"] = sums.numel() // values.numel()
        if record is not None:
            work["fits"], work["clipped"] = record.fits.data_ptr(), clipped.ctypes.data
            work["codes"] = 0 if record.codes is None else record.codes.data_ptr()
            work["bytes"] = record.codes is not None and record.codes.dtype is torch.int8
        share_work(convert_outputs, work, sums.numel())
        return int(clipped[0])


def _convert(
    inputs: Tensor, positions: int, pitch: int, rows: Sequence[TileRowInput], converters: Converters
) -> None:
    elements = positions * sum(row.stop - row.start for row in rows)
    if elements == 0:
        return
    runs, levels = [], []
    for row in rows:
        length = row.stop - row.start
        for done in range(0, length, _LONGEST_RUN):
            part = min(_LONGEST_RUN, length - done)
            runs.append((row.start + done, part, row.codes.data_ptr() + 4 * done, length))
            levels.append((converters.input_gain(row.limit), converters.largest_code(row.limit)))
    table = [(*run, len(runs) * _positions_behind(run[1], run[3])) for run in runs]
    run_table, level_table = np.array(table, np.int64), np.array(levels, np.float32)
    work = np.zeros((), DAC_WORK)
    work["source"], work["positions"], work["pitch"] = inputs.data_ptr(), positions, pitch
    work["extent"] = (positions - 1) * pitch + max(row.stop for row in rows)
    work["runs"], work["levels"] = run_table.ctypes.data, level_table.ctypes.data
    work["number"], work["rounds"] = len(runs), converters.dac_step > 0
    work["share"] = max(1, ELEMENTS_A_THREAD * positions * len(runs) // elements)
    share_work(convert_inputs, work, elements)


def _positions_behind(length: int, pitch: int) -> int:
    """Return the positions until LANES more codes are written after a run of this length."""
    return -(-LANES // length) if length == pitch else 1 << 40


def _adc_work(sums: Tensor, total: Tensor, readout: OutputStage, first: int) -> np.ndarray:
    entry, draw, converters = sums[0].numel(), readout.draw, readout.converters
    whole = len(total) % draw.samples == 0
    part = total[first : first + len(sums)]
    work = np.zeros((), ADC_WORK)
    work["sums"], work["total"] = sums.data_ptr(), part.data_ptr()
    work["scale"], work["bias"] = readout.scale.data_ptr(), readout.bias.data_ptr()
    work["size"], work["first"] = sums.numel(), first * entry
    work["sample_size"] = entry * (len(total) // draw.samples if whole else len(total))
    work["columns"] = sums.shape[1]
    work["inner"] = entry // sums.shape[1] if sums.is_contiguous() else 1
    work["key"], work["sample"], work["use"] = draw.key, draw.first_sample, draw.use
    work["row"], work["adds"] = readout.row, readout.row > 0
    work["noise"], work["bound"] = converters.noise, converters.out_bound
    work["rounds"] = converters.adc_step > 0
    return work
