"""Strided tensors as equal runs of memory, which a kernel reads without a copy."""

import torch
from torch import Tensor


def as_runs(
    values: Tensor, layout: torch.memory_format = torch.contiguous_format
) -> tuple[int, int] | None:
    """Length and stride of equal runs that hold the values in the order of a layout.

    Returns:
        a stride of 0 if all values lie side by side; ``None`` if there are no such runs.
    """
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
    return sizes[0], 0 if len(sizes) == 1 else strides[1]
