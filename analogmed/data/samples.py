"""Checks and conversions from files to a sample, shared by all data sets."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from analogmed.data.case import Case, Sample
from analogmed.data.normalise import resize_image, resize_label, resized_spacing
from analogmed.foundation.errors import AnalogmedError, DataError

MAX_CLASSES = 255
"""Largest number of foreground classes; a label stores class indices in one byte."""

_INTEGER_TOLERANCE = 1e-3
_MAX_LABEL_RANGE = 65_536
_MAX_LISTED = 10
_BINARY_VALUES = ({0}, {1}, {255}, {0, 1}, {0, 255})


@contextmanager
def naming_case(case: Case) -> Iterator[None]:
    """Prefix the message of every analogmed error raised inside the block with the case id."""
    try:
        yield
    except AnalogmedError as error:
        raise type(error)(f"case {case.case_id}: {error}") from error


def class_indices(
    label: np.ndarray,
    classes: Sequence[Collection[int]],
    allowed: Collection[int] | None,
    path: Path,
) -> np.ndarray:
    """Convert the values of a label file to class indices.

    Args:
        label: values as stored, any numeric type and shape.
        classes: label values of each foreground class; class ``i`` becomes ``i + 1``.
        allowed: all values allowed in the file; ``None`` for any. Values that belong to no class
            become background, 0.
        path: path of the file, for errors.

    Returns:
        uint8 array of the same shape.

    Raises:
        DataError: a value is further than 0.001 from an integer, or is not allowed.
    """
    shifted, _, low, high = _counted(label, allowed, path)
    index_of = np.zeros(high - low + 1, dtype=np.uint8)
    for index, members in enumerate(classes, start=1):
        present = [value - low for value in members if low <= value <= high]
        index_of[present] = index
    return index_of[shifted]


def label_values(label: np.ndarray, allowed: Collection[int] | None, path: Path) -> list[int]:
    """Return the values of a label file, sorted; arguments and errors as of ``class_indices``."""
    return _counted(label, allowed, path)[1]


def _counted(
    label: np.ndarray, allowed: Collection[int] | None, path: Path
) -> tuple[np.ndarray, list[int], int, int]:
    """Return the values minus the lowest one, all that occur, the lowest and the highest one."""
    values = _as_integers(label, path)
    low, high = int(values.min()), int(values.max())
    if high - low >= _MAX_LABEL_RANGE:
        raise DataError(f"{path}: label values from {low} to {high}; not a label file?")
    shifted = values - low
    found = (np.flatnonzero(np.bincount(shifted.ravel())) + low).tolist()
    if allowed is not None:
        _check_allowed(found, allowed, path)
    return shifted, found, low, high


def binary_mask(mask: np.ndarray, path: Path) -> np.ndarray:
    """Convert a mask file of 0 and 255 (or 0 and 1) to a bool array.

    Args:
        mask: pixels as stored: (H, W), or (H, W, C) with equal colours and an alpha channel.
        path: path of the file, for errors.

    Returns:
        bool array (H, W).

    Raises:
        DataError: the mask contains other values, or its colours differ.
    """
    mask = one_channel(mask, path, "a mask of 0 and 255")
    values = np.flatnonzero(np.bincount(mask.ravel())).tolist()
    if set(values) not in _BINARY_VALUES:
        raise DataError(f"{path}: mask values {_listed(values)}; expected 0 and 255")
    return mask > 0


def one_channel(pixels: np.ndarray, path: Path, expected: str) -> np.ndarray:
    """Return the pixels (H, W) of an image whose colours are equal, without its alpha channel.

    Args:
        pixels: pixels as stored: (H, W), or (H, W, C) with equal colours and an alpha channel.
        path: path of the file, for errors.
        expected: description of the image, for errors.

    Raises:
        DataError: the colours differ.
    """
    if pixels.ndim == 2:
        return pixels
    colours = pixels[..., :3]
    if not (colours == colours[..., :1]).all():
        raise DataError(f"{path}: a colour image; expected {expected}")
    return np.ascontiguousarray(colours[..., 0])


def check_same_shape(
    shape: tuple[int, ...], path: Path, other_shape: tuple[int, ...], other_path: Path
) -> None:
    """Raise DataError if two related files have different spatial shapes.

    Raises:
        DataError: names both files and both shapes.
    """
    if shape != other_shape:
        raise DataError(f"{path} has shape {shape}, but {other_path} has shape {other_shape}")


def image_sample(
    image: np.ndarray, label: np.ndarray, size: tuple[int, ...] | None, case: Case
) -> Sample:
    """Return a sample of images without voxel size, resampled if a size is given.

    Args:
        image: shape (N, C, H, W).
        label: class indices, shape (N, H, W).
        size: (H, W) to resample to; ``None`` keeps the pixels.
        case: source of the images.

    Returns:
        Sample with its spacing (H, W) in pixels of the file.
    """
    shape = label.shape[1:]
    size = size or shape
    spacing = resized_spacing((1.0, 1.0), shape, size)
    return Sample(resize_image(image, size), resize_label(label, size), spacing, case)


def _as_integers(label: np.ndarray, path: Path) -> np.ndarray:
    if label.dtype.kind in "iub":
        return label.astype(np.int64)
    rounded = np.rint(label)
    # Inf - Inf is NaN, which is not within the tolerance either.
    with np.errstate(invalid="ignore"):
        off = ~(np.abs(label - rounded) <= _INTEGER_TOLERANCE)
    if off.any():
        values = np.unique(label[off]).tolist()
        raise DataError(f"{path}: label values {_listed(values)} are not integers")
    return rounded.astype(np.int64)


def _check_allowed(found: list[int], allowed: Collection[int], path: Path) -> None:
    outside = [value for value in found if value not in allowed]
    if outside:
        raise DataError(
            f"{path}: label values {_listed(outside)} are outside the task's set {sorted(allowed)}"
        )


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:_MAX_LISTED])
    more = len(values) - _MAX_LISTED
    return f"{shown} and {more} more" if more > 0 else shown
