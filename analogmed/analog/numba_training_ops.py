"""The passes of training on CPUs, on torch's threads."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from analogmed.analog.numba_kernels import (
    MASK_WORK,
    PRODUCT_WORK,
    SLICE_WORK,
    convert_slices,
    mask,
    merge_slices,
    sum_products,
)
from analogmed.analog.numba_ops import NumbaOps, _share
from analogmed.analog.training_ops import Slices

_TASKS = 64  # into which a pass with sums is cut, whatever the threads, so that the sums are equal


class NumbaTrainingOps(NumbaOps):
    """See :class:`analogmed.analog.training_ops.TrainingOps`; for CPU tensors in float32."""

    def to_slice_codes(self, inputs: Tensor, slices: Slices, layout: torch.memory_format) -> Tensor:
        """See ``TrainingOps``."""
        shape = (len(inputs), slices.channels, *inputs.shape[2:])
        codes = torch.empty(shape, memory_format=layout)
        work, tables = _slice_work(inputs, codes, slices)
        _share(convert_slices, work, codes.numel())
        del tables
        return codes

    def merge_slice_gradients(
        self, gradient: Tensor, inputs: Tensor, slices: Slices, total: Tensor, *, records: bool
    ) -> Tensor | None:
        """See ``TrainingOps``."""
        work, tables = _slice_work(inputs, gradient, slices)
        work["total"] = total.data_ptr()
        sums = np.zeros((_tasks(work), len(slices.slices), 3))
        work["sums"] = sums.ctypes.data if records else 0
        _share(merge_slices, work, gradient.numel())
        del tables
        return torch.from_numpy(sums.sum(0)) if records else None

    def where_fits(self, gradient: Tensor, fits: Tensor) -> Tensor:
        """See ``TrainingOps``."""
        masked = torch.empty_like(gradient)
        work = np.zeros((), MASK_WORK)
        work["values"], work["fits"] = gradient.data_ptr(), fits.data_ptr()
        work["masked"], work["size"] = masked.data_ptr(), gradient.numel()
        _share(mask, work, gradient.numel())
        return masked

    def sum_products(self, gradient: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """See ``TrainingOps``."""
        outer, inner = _loops(gradient)
        columns = gradient.shape[1]
        addresses = np.array([one.data_ptr() for one in codes])
        work = np.zeros((), PRODUCT_WORK)
        work["gradient"], work["codes"] = gradient.data_ptr(), addresses.ctypes.data
        work["rows"], work["columns"], work["inner"] = len(codes), columns, inner
        work["outer"], work["step"] = outer, -(-outer // _TASKS)
        work["bytes"] = codes[0].dtype is torch.int8
        sums = np.zeros((_tasks(work), len(codes), columns))
        work["sums"] = sums.ctypes.data
        _share(sum_products, work, gradient.numel())
        return torch.from_numpy(sums.sum(0))


def _slice_work(
    inputs: Tensor, seen: Tensor, slices: Slices
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The work, and the tables that it points to."""
    outer, inner = _loops(inputs)
    runs = _runs(slices, inputs.shape[1] // slices.groups)
    runs[:, :3] *= inner
    converters = slices.converters
    limits = [one.limit for one in slices.slices]
    gains = [converters.input_gain(limit) for limit in limits]
    tops = [replace(converters, inp_bound=math.inf).largest_code(limit) for limit in limits]
    bounds = [converters.inp_bound] * len(limits)
    rows = np.array([limits, gains, bounds, tops], np.float32).T.copy()
    work = np.zeros((), SLICE_WORK)
    work["inputs"], work["seen"] = inputs.data_ptr(), seen.data_ptr()
    work["runs"], work["number"] = runs.ctypes.data, len(runs)
    work["rows"], work["number_rows"] = rows.ctypes.data, len(rows)
    work["outer"], work["step"] = outer, -(-outer // _TASKS)
    work["pitch"], work["seen_pitch"] = inputs.shape[1] * inner, seen.shape[1] * inner
    work["rounds"] = converters.dac_step > 0
    return work, [runs, rows]


def _runs(slices: Slices, channels: int) -> np.ndarray:
    """Source, place among what is seen, length, row, and whether it adds; in channels."""
    if len(slices.slices) == 1 and slices.slices[0].width == channels:
        return np.array([[0, 0, slices.groups * channels, 0, 0]])
    runs, place = [], 0
    for group in range(slices.groups):
        for row, one in enumerate(slices.slices):
            start, stop = one.fresh
            parts = (one.first, start, True), (start, stop, False), (stop, one.last, True)
            for first, last, adds in parts:
                if first < last:
                    runs.append([group * channels + first, place, last - first, row, adds])
                    place += last - first
    return np.array(runs)


def _loops(values: Tensor) -> tuple[int, int]:
    """How often the channels follow each other in memory, and how many values of each do."""
    inner = values[0, 0].numel() if values.is_contiguous() else 1
    return values.numel() // (values.shape[1] * inner), inner


def _tasks(work: np.ndarray) -> int:
    return -(-int(work["outer"]) // int(work["step"]))
