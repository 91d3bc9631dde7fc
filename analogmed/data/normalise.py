"""Normalisation of intensities and sizes: CT windows, z-scores, resizing."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from analogmed.foundation.errors import ConfigError, ShapeError

_MAX_BOX_SHARE = 0.75
_STEP = 32
"""Classified images are padded to multiples of this size, which five reductions need."""


def ct_window(data: np.ndarray, low_hu: float = -150.0, high_hu: float = 250.0) -> np.ndarray:
    """Clip a CT to a window and scale it to [0, 1].

    Values are not shifted further, so air and zero-padded borders are 0.

    Args:
        data: CT values in Hounsfield units, any shape.
        low_hu: value mapped to 0; lower values also become 0.
        high_hu: value mapped to 1; higher values also become 1. The defaults are a soft-tissue
            window.

    Returns:
        float32 array of the same shape.

    Raises:
        ConfigError: the window is empty or not finite.
    """
    check_ct_window(low_hu, high_hu)
    scaled = (np.asarray(data, dtype=np.float32) - np.float32(low_hu)) / (high_hu - low_hu)
    return np.clip(scaled, 0.0, 1.0).astype(np.float32, copy=False)


def check_ct_window(low_hu: float, high_hu: float) -> None:
    """Raise ConfigError if a CT window is empty or not finite.

    Raises:
        ConfigError: ``low_hu`` is not below ``high_hu``.
    """
    if not (math.isfinite(low_hu) and math.isfinite(high_hu) and low_hu < high_hu):
        raise ConfigError(f"CT window ({low_hu}, {high_hu}) HU: needs two numbers, low < high")


def z_score(data: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Normalise one channel of an image or volume to mean 0 and standard deviation 1.

    Args:
        data: intensities, any shape.
        mask: bool, same shape: voxels included in the statistics, for instance ``data != 0``
            for a skull-stripped brain. The others become 0. All are included by default.

    Returns:
        float32 array; all 0 if the included voxels are constant, or if none is included.

    Raises:
        ShapeError: the mask has another shape.
    """
    if mask is not None and mask.shape != data.shape:
        raise ShapeError(f"mask of shape {mask.shape} for data of shape {data.shape}")
    counted = data if mask is None else data[mask]
    if counted.size == 0 or counted.min() == counted.max():
        return np.zeros(data.shape, dtype=np.float32)
    mean = counted.mean(dtype=np.float64)
    deviation = counted.std(dtype=np.float64)
    scored = ((data - mean) / deviation).astype(np.float32)
    return scored if mask is None else np.where(mask, scored, np.float32(0))


def foreground_mask(channels: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the region of a scan that is neither masked out nor air, if it is small enough.

    The region is the union of the voxels that are not 0 in any channel, with its holes filled, so
    that it includes dark voxels inside tissue. As in nnU-Net, it is used only if its bounding
    box is smaller than three quarters of the volume.

    Args:
        channels: intensities of one scan, arrays of one shape.

    Returns:
        bool array of that shape, or ``None`` if all voxels are included.

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z
    """
    mask = np.logical_or.reduce([channel != 0 for channel in channels])
    box = ndimage.find_objects(mask.view(np.uint8), max_label=1)[0]
    if box is None or mask[box].size >= _MAX_BOX_SHARE * mask.size:
        return None
    # Everything outside the box reaches the border of the volume, so the box contains all holes.
    mask[box] = ndimage.binary_fill_holes(mask[box])
    return mask


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize the last axes by linear interpolation, with anti-aliasing when shrinking.

    Args:
        image: shape (..., *spatial).
        size: new length of each of the last ``len(size)`` axes.

    Returns:
        float32 array (..., *size) with the same field of view.

    Raises:
        ShapeError: ``size`` has more values than the image has axes, or one below 1.
    """
    spatial = _spatial_shape(image, size)
    image = np.asarray(image, dtype=np.float32)
    if spatial == tuple(size):
        return image
    # Half a new voxel minus half an old one: removes detail that the coarser grid cannot represent.
    sigmas = [max(0.0, (old / new - 1) / 2) for old, new in zip(spatial, size, strict=True)]
    flat = image.reshape(-1, *spatial)
    resized = [_zoom(ndimage.gaussian_filter(one, sigmas, mode="nearest"), size, 1) for one in flat]
    return np.stack(resized).reshape(*image.shape[: -len(spatial)], *size)


def padded_size(size: Sequence[int]) -> tuple[int, ...]:
    """Return the size of classified images after :func:`pad_image`: multiples of 32."""
    return tuple(_STEP * math.ceil(length / _STEP) for length in size)


def pad_image(image: np.ndarray, value: float) -> np.ndarray:
    """Return classified images (N, C, H, W), padded evenly to a multiple of 32 pixels.

    Args:
        image: shape (N, C, H, W).
        value: intensity of the padding.
    """
    lacks = np.subtract(padded_size(image.shape[2:]), image.shape[2:]).tolist()
    widths = [(0, 0), (0, 0), *((lack // 2, lack - lack // 2) for lack in lacks)]
    return np.pad(image, widths, constant_values=value)


def resize_label(label: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize the last axes of class indices by nearest-neighbour interpolation.

    Args:
        label: integers, shape (..., *spatial).
        size: as in :func:`resize_image`.

    Returns:
        Array (..., *size) of the same dtype, without any new values.

    Raises:
        ShapeError: as in :func:`resize_image`.
    """
    spatial = _spatial_shape(label, size)
    if spatial == tuple(size):
        return label
    flat = label.reshape(-1, *spatial)
    resized = [_zoom(one, size, 0) for one in flat]
    return np.stack(resized).reshape(*label.shape[: -len(spatial)], *size)


def resized_spacing(
    spacing: Sequence[float], shape: Sequence[int], size: Sequence[int]
) -> tuple[float, ...]:
    """Return the voxel size after a resize.

    Args:
        spacing: voxel size before the resize, one value per axis.
        shape: size before the resize.
        size: size after the resize.

    Returns:
        The spacing that preserves the extent of each axis.
    """
    return tuple(float(s * old / new) for s, old, new in zip(spacing, shape, size, strict=True))


def checked_size(
    size: Sequence[int] | None, spatial_dims: int, name: str = "size"
) -> tuple[int, ...] | None:
    """Return a spatial size as a tuple, or ``None`` if it is ``None``.

    Raises:
        ConfigError: the size is not ``spatial_dims`` positive integers.
    """
    if size is None:
        return None
    sizes = tuple(size) if isinstance(size, list | tuple) else (size,)
    if len(sizes) != spatial_dims or not all(isinstance(n, int) and n > 0 for n in sizes):
        raise ConfigError(
            f"{name} {sizes}: a {spatial_dims}D task needs {spatial_dims} positive integers. Give "
            "as many, or set task.spatial_dims"
        )
    return sizes


def _spatial_shape(array: np.ndarray, size: Sequence[int]) -> tuple[int, ...]:
    if not 1 <= len(size) <= array.ndim or min(size) < 1:
        raise ShapeError(f"size {tuple(size)} does not fit an array of shape {array.shape}")
    return array.shape[-len(size) :]


def _zoom(array: np.ndarray, size: Sequence[int], order: int) -> np.ndarray:
    factors = [new / old for old, new in zip(array.shape, size, strict=True)]
    return ndimage.zoom(array, factors, order=order, mode="nearest", grid_mode=True)
