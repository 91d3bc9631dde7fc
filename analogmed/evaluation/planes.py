"""Planes in which the slices of a case are shown."""

from dataclasses import dataclass

import numpy as np

from analogmed.data import Sample, Task

_UPRIGHT = "zyx"
_NAMES = {"z": "axial", "y": "coronal", "x": "sagittal"}
"""Plane name by the axis that it is perpendicular to."""
_ALONE = "slice"


@dataclass(frozen=True)
class Plane:
    """Slice position in a case.

    Attributes:
        name: axial, coronal, sagittal, an axis of the files, or slice.
        order: axes of the arrays (N, *spatial) as they are shown: (N, Z, Y, X), or (N, Y, X).
        axis: slicing axis among them; 0 for one of N images.
        index: number of the slice.
        upwards: whether rows count upwards, as in NIfTI files (front and head have high numbers).
    """

    name: str
    order: tuple[int, ...]
    axis: int
    index: int
    upwards: bool

    def cut(self, array: np.ndarray) -> np.ndarray:
        """Return the slice of an array (N, *spatial), shape (H, W), with its first row on top."""
        picture = np.take(array.transpose(self.order), self.index, self.axis)
        picture = picture if self.axis == 0 else picture[0]
        return np.ascontiguousarray(picture[::-1] if self.upwards else picture)

    def spacing(self, sizes: tuple[float, ...]) -> tuple[float, float]:
        """Return the spacing of rows and columns.

        Args:
            sizes: voxel size of a sample; three of N slices that form a stack.
        """
        *slices, rows, columns = self.order[1:]
        if len(sizes) > len(self.order) - 1:  # between slices, first
            sizes = sizes[1:]
        shown = [sizes[axis - 1] for axis in (*slices, rows, columns)]
        kept = [size for axis, size in enumerate(shown, start=1) if axis != self.axis]
        return kept[-2], kept[-1]


def choose_planes(sample: Sample, task: Task) -> list[Plane]:
    """Return the slice with the largest reference area, along each axis of a volume."""
    order = _order(sample.label.ndim, task)
    label = sample.label.transpose(order)
    planes = []
    for axis in range(1, label.ndim) if task.spatial_dims == 3 else (0,):
        others = tuple(other for other in range(label.ndim) if other != axis)
        area = (label > 0).sum(axis=others)
        index = int(area.argmax()) if area.any() else len(area) // 2
        planes.append(Plane(_name(axis, task), order, axis, index, task.spacing_unit == "mm"))
    return planes


def _order(n_axes: int, task: Task) -> tuple[int, ...]:
    """Return the axes of arrays (N, *spatial) with Z, then Y, then X."""
    letters = (task.axes or _UPRIGHT)[1 - n_axes :]
    return (0, *(1 + letters.index(letter) for letter in sorted(letters, reverse=True)))


def _name(axis: int, task: Task) -> str:
    if axis == 0:
        return _ALONE
    letter = _UPRIGHT[axis - 1]
    return _NAMES[letter] if task.is_oriented else letter
