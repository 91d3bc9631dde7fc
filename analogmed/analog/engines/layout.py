"""Memory layout of feature maps: torch's memory formats, and strided runs for kernels."""

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Channels-last format by number of dimensions, where one exists."""


def format_of(values: Tensor) -> torch.memory_format:
    """Return the memory format of a tensor.

    A map with one channel or one position is contiguous in both formats. Its strides determine
    which of them applies: ``to(memory_format=...)`` sets them, ``contiguous(memory_format=...)``
    does not.

    Args:
        values: shape (B, channels, *positions); a tensor of another rank counts as contiguous.
    """
    last = CHANNELS_LAST.get(values.ndim)
    if last is None or not values.is_contiguous(memory_format=last):
        return torch.contiguous_format
    by_strides = values.stride(1) == 1 and values.stride(-1) == values.shape[1]
    applies = by_strides and values[0].numel() > 1
    return last if applies or not values.is_contiguous() else torch.contiguous_format


@torch.no_grad()
def with_strides_of(values: Tensor, layout: torch.memory_format) -> Tensor:
    """Return a tensor that is contiguous in a format, with the strides of that format.

    The result shares the memory, but is not a view: autograd rejects in-place operations on a view
    that a custom function returns.
    """
    if values.ndim not in CHANNELS_LAST or format_of(values) is layout:
        return values
    strides = torch.empty(values.shape, device="meta").to(memory_format=layout).stride()
    alias = torch.empty(0, dtype=values.dtype, device=values.device)
    return alias.set_(values.untyped_storage(), values.storage_offset(), values.shape, strides)


def plain_if_one_channel(values: Tensor) -> Tensor:
    """Return a map of one channel with contiguous strides, and any other map unchanged.

    With the strides of channels_last, torch 2.13 computes some convolutions of one channel
    incorrectly on CPUs, or writes outside their memory: those with a stride along the last axis and
    one output position there. The result shares the memory and is differentiable.
    """
    if values.shape[1] > 1 or not values.is_contiguous():
        return values
    return values.flatten().view(values.shape)


def as_runs(
    values: Tensor, layout: torch.memory_format = torch.contiguous_format
) -> tuple[int, int] | None:
    """Return length and stride of equal runs that contain the values in the order of a layout.

    Kernels read such runs without a copy of the values.

    Returns:
        Length and stride; the stride is 0 if all values are adjacent. ``None`` if there are no such
        runs.
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
