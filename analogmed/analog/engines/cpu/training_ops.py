"""The passes of training on CPUs, on torch's threads."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from analogmed.analog.engines.converters import layout_of
from analogmed.analog.engines.cpu.kernels.masks import MASK_WORK, mask, pack
from analogmed.analog.engines.cpu.kernels.products import PRODUCT_WORK, sum_products
from analogmed.analog.engines.cpu.kernels.slices import SLICE_WORK, convert_slices, merge_slices
from analogmed.analog.engines.cpu.ops import NumbaOps
from analogmed.analog.engines.cpu.threads import share_work
from analogmed.analog.engines.training_passes import ChannelSlices

_TASKS = 64  # parts of a pass with sums, so that these do not depend on the threads


class NumbaTrainingOps(NumbaOps):
    """``TrainingOps`` of :mod:`analogmed.analog.engines.training_passes`, for float32 on CPUs."""

    def to_slice_codes(
        self, inputs: Tensor, batches: Sequence[ChannelSlices], layout: torch.memory_format
    ) -> list[Tensor]:
        """See ``TrainingOps``."""
        codes = [
            torch.empty(
                (len(inputs), batch.channels, *inputs.shape[2:]),
                dtype=inputs.dtype,
                device=inputs.device,
                memory_format=layout,
            )
            for batch in batches
        ]
        work, tables = _slice_work(inputs, codes, batches, layout)
        share_work(convert_slices, work, sum(each.numel() for each in codes))
        del tables
        return codes

    def merge_slice_gradients(
        self,
        gradients: Sequence[Tensor],
        inputs: Tensor,
        batches: Sequence[ChannelSlices],
        total: Tensor,
        layout: torch.memory_format,
        *,
        records: bool,
    ) -> Tensor | None:
        """See ``TrainingOps``."""
        work, tables = _slice_work(inputs, gradients, batches, layout)
        work["total"] = total.data_ptr()
        sums = np.zeros((_tasks(work), int(work["number_rows"]), 3))
        work["sums"] = sums.ctypes.data if records else 0
        share_work(merge_slices, work, sum(each.numel() for each in gradients))
        del tables
        return torch.from_numpy(sums.sum(0)) if records else None

    def pack(self, fits: Tensor, packed: Tensor) -> None:
        """See ``TrainingOps``."""
        work = _mask_work(fits, packed)
        work["flags"] = fits.data_ptr()
        share_work(pack, work, fits.numel())

    def where_fits(self, gradient: Tensor, packed: Tensor) -> Tensor:
        """See ``TrainingOps``."""
        masked = torch.empty_like(gradient)
        work = _mask_work(gradient, packed)
        work["values"], work["masked"] = gradient.data_ptr(), masked.data_ptr()
        share_work(mask, work, gradient.numel())
        return masked

    def sum_products(self, gradient: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """See ``TrainingOps``."""
        layout = torch.contiguous_format if gradient.is_contiguous() else layout_of(gradient)
        outer, inner = _loops(gradient, layout)  # the codes have the same number of columns
        columns = gradient.shape[1]
        addresses = np.array([one.data_ptr() for one in codes])
        work = np.zeros((), PRODUCT_WORK)
        work["gradient"], work["codes"] = gradient.data_ptr(), addresses.ctypes.data
        work["rows"], work["columns"], work["inner"] = len(codes), columns, inner
        work["outer"], work["step"] = outer, -(-outer // _TASKS)
        work["bytes"] = codes[0].dtype is torch.int8
        sums = np.zeros((_tasks(work), len(codes), columns))
        work["sums"] = sums.ctypes.data
        share_work(sum_products, work, gradient.numel())
        return torch.from_numpy(sums.sum(0))


def _mask_work(values: Tensor, packed: Tensor) -> np.ndarray:
    work = np.zeros((), MASK_WORK)
    work["bits"], work["entries"], work["size"] = packed.data_ptr(), len(values), values[0].numel()
    if values[0].numel() % 8 == 0:  # all bytes are full
        work["entries"], work["size"] = 1, values.numel()
    return work


def _slice_work(
    inputs: Tensor,
    seen: Sequence[Tensor],
    batches: Sequence[ChannelSlices],
    layout: torch.memory_format,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the work record, and the tables that it points to."""
    outer, inner = _loops(inputs, layout)
    runs: list[tuple[int, ...]] = []
    rows: list[tuple[float, ...]] = []
    for values, batch in zip(seen, batches, strict=True):
        pitch, place = 4 * inner * batch.channels, values.data_ptr()
        for first, length, row, adds in _runs(batch, inputs.shape[1] // batch.groups):
            runs.append((inner * first, place, pitch, inner * length, len(rows) + row, adds))
            place += 4 * inner * length
        rows += _levels(batch)
    run_table, row_table = np.array(runs, np.int64), np.array(rows, np.float32)
    work = np.zeros((), SLICE_WORK)
    work["inputs"], work["pitch"] = inputs.data_ptr(), inputs.shape[1] * inner
    work["runs"], work["number"] = run_table.ctypes.data, len(runs)
    work["rows"], work["number_rows"] = row_table.ctypes.data, len(rows)
    work["outer"], work["step"] = outer, -(-outer // _TASKS)
    work["rounds"] = batches[0].converters.dac_step > 0
    return work, [run_table, row_table]


def _levels(batch: ChannelSlices) -> list[tuple[float, ...]]:
    """Return input range, factor to a code, converter bound and code of the range of each row."""
    converters, limits = batch.converters, [one.limit for one in batch.slices]
    gain, unbounded = converters.input_gain, replace(converters, inp_bound=math.inf)
    return [
        (limit, gain(limit), converters.inp_bound, unbounded.largest_code(limit))
        for limit in limits
    ]


def _runs(batch: ChannelSlices, channels: int) -> Iterator[tuple[int, int, int, bool]]:
    """Yield first channel, number of channels, row, and whether the run adds to the total."""
    if len(batch.slices) == 1 and batch.slices[0].fresh == (0, channels):
        yield 0, batch.groups * channels, 0, False
        return
    for group in range(batch.groups):
        for row, one in enumerate(batch.slices):
            start, stop = one.fresh
            parts = (one.first, start, True), (start, stop, False), (stop, one.last, True)
            for first, last, adds in parts:
                if first < last:
                    yield group * channels + first, last - first, row, adds


def _loops(values: Tensor, layout: torch.memory_format) -> tuple[int, int]:
    """Return how often the channels repeat in memory, and the adjacent values per channel.

    The strides do not show the layout: a map with one channel is contiguous in each of them, and
    its slices, which have more channels, are not.
    """
    inner = values[0, 0].numel() if layout is torch.contiguous_format else 1
    return values.numel() // (values.shape[1] * inner), inner


def _tasks(work: np.ndarray) -> int:
    return -(-int(work["outer"]) // int(work["step"]))
