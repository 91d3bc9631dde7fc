"""Patches of arrays."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def cropped(
    array: np.ndarray, corner: Sequence[int], window: tuple[int, ...], *, fill: int = 0
) -> "Tensor":
    """Return a copy of a patch of an array, padded if the array is too small.

    Args:
        array: shape (C, *spatial).
        corner: lowest corner of the patch.
        window: size of the patch.
        fill: value of the padding.

    Returns:
        shape (C, *window).
    """
    import torch

    box = tuple(slice(low, low + size) for low, size in zip(corner, window, strict=True))
    patch = array[:, *box]
    if patch.shape[1:] == window:
        return torch.from_numpy(patch.copy())
    missing = np.subtract(window, patch.shape[1:])
    widths = [(0, 0), *((lack // 2, lack - lack // 2) for lack in missing.tolist())]
    return torch.from_numpy(np.pad(patch, widths, constant_values=fill))
