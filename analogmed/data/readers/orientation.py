"""Axis order and direction of volumes, changed by permutation and flips without resampling."""

from dataclasses import replace
from typing import Literal

import numpy as np

from analogmed.data.readers.nifti import Volume

Orientation = Literal["ras", "file"]


def axis_codes(affine: np.ndarray) -> str:
    """Return the anatomical directions of the file axes, for instance ``"LPS"``.

    Args:
        affine: float64 (4, 4), from voxel indices to mm.

    Returns:
        One letter for each of X, Y and Z, the closest anatomical direction: R or L, A or P,
        S or I.
    """
    from nibabel.orientations import aff2axcodes  # takes half a second

    return "".join(aff2axcodes(affine))


def to_ras(volume: Volume, affine: np.ndarray | None = None) -> Volume:
    """Permute and flip the axes of a volume so that they point right, anterior and superior.

    The axes of an oblique volume are mapped to the closest direction. No voxel value changes.

    Args:
        volume: shape (X, Y, Z) or (X, Y, Z, C).
        affine: affine that determines the axes, so that all files of a case are treated alike; by
            default the affine of the volume.

    Returns:
        The volume with axes closest to RAS: the same object if no axis changes, otherwise views
            of its data.
    """
    from nibabel.affines import voxel_sizes  # takes half a second
    from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

    orientation = io_orientation(volume.affine if affine is None else affine)
    if np.array_equal(orientation, [[0, 1], [1, 1], [2, 1]]):
        return volume
    turned = volume.affine @ inv_ornt_aff(orientation, volume.data.shape[:3])
    x, y, z = (float(size) for size in voxel_sizes(turned))
    data = apply_orientation(volume.data, orientation)
    return replace(volume, data=data, spacing_mm=(x, y, z), affine=turned)
