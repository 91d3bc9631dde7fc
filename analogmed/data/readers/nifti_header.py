"""Header of a NIfTI file: type and shape of the voxels, and their geometry."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from analogmed.foundation.errors import DataError

_HEADERS: dict[int, tuple[type[nib.Nifti1Header], bytes]] = {
    348: (nib.Nifti1Header, b"n+1"),
    540: (nib.Nifti2Header, b"n+2"),
}
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_SPACING_TOLERANCE = 0.01
_MIN_SINE = 1e-3


def parse_header(block: bytes, order: str, path: Path) -> nib.Nifti1Header:
    """Return the header of a single-file NIfTI.

    Args:
        block: its 348 or 540 bytes.
        order: byte order, ``"<"`` or ``">"``.
        path: file, for messages.

    Raises:
        DataError: the header is that of another format.
    """
    header_class, magic = _HEADERS[len(block)]
    header = header_class(block, endianness=order, check=False)
    if not bytes(header["magic"]).startswith(magic):
        found_magic = bytes(header["magic"])
        raise DataError(
            f"{path}: magic {found_magic!r}, expected {magic!r}: only single-file NIfTI is read; "
            "convert .hdr/.img pairs and ANALYZE files first"
        )
    return header


@dataclass(frozen=True)
class Layout:
    """Shape of the voxels, and their types in the file and in memory.

    Attributes:
        slope, intercept: scaling of the values; ``None`` if they are used as stored.
    """

    shape: tuple[int, ...]
    stored: np.dtype
    result: np.dtype
    slope: float | None
    intercept: float | None

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """Return the values, scaled as the header specifies."""
        if self.slope is None:
            return values
        return apply_read_scaling(values, self.slope, self.intercept)


def layout_of(header: nib.Nifti1Header, path: Path, max_voxels: int) -> Layout:
    """Return shape, types and scaling of the voxels.

    Raises:
        DataError: the header is damaged, or describes no volume or more than ``max_voxels``.
    """
    shape = _shape(header, path)
    stored = _dtype(header, path)
    slope, intercept = _scaling(header, path)
    as_stored = slope is None and stored.kind != "f"
    result = stored.newbyteorder("=") if as_stored else np.dtype(np.float32)
    limit = max_voxels * 4 // max(4, result.itemsize)
    n_voxels = math.prod(shape)
    if n_voxels > limit:
        raise DataError(
            f"{path}: header claims {n_voxels} voxels {shape}, more than the limit of "
            f"{limit} of {result}; raise max_voxels if this is meant"
        )
    return Layout(shape, stored, result, slope, intercept)


def _scaling(header: nib.Nifti1Header, path: Path) -> tuple[float | None, float | None]:
    """Return slope and intercept, or ``None`` for both if values are used as stored."""
    try:
        slope, intercept = header.get_slope_inter()
    except HeaderDataError as error:
        raise DataError(f"{path}: scaling in the header is not a number ({error})") from error
    if (slope, intercept) in ((None, None), (1.0, 0.0)):
        return None, None
    return slope, intercept


def _shape(header: nib.Nifti1Header, path: Path) -> tuple[int, ...]:
    dims = [int(n) for n in header["dim"]]
    if not 3 <= dims[0] <= 7:
        raise DataError(f"{path}: {dims[0]} dimensions in the header, expected 3 or 4")
    shape = tuple(dims[1 : dims[0] + 1])
    if min(shape) < 1:
        raise DataError(f"{path}: dimensions {shape} in the header; each must be at least 1")
    if sum(n > 1 for n in shape[3:]) > 1:
        raise DataError(f"{path}: shape {shape}; expected a volume (X, Y, Z) or (X, Y, Z, C)")
    return shape


def _dtype(header: nib.Nifti1Header, path: Path) -> np.dtype:
    code = int(header["datatype"])
    try:
        dtype = np.dtype(header.get_data_dtype())
    except (HeaderDataError, KeyError) as error:
        raise DataError(f"{path}: unknown data type code {code} in the header") from error
    if dtype.kind not in "iuf":
        raise DataError(f"{path}: data type {dtype} (code {code}); expected integers or floats")
    if int(header["bitpix"]) != 8 * dtype.itemsize:
        raise DataError(
            f"{path}: the header declares {dtype} with {int(header['bitpix'])} bits per voxel, "
            f"expected {8 * dtype.itemsize}; the header is damaged: download it again"
        )
    return dtype


def geometry_of(
    header: nib.Nifti1Header, path: Path, *, needs_spacing: bool = True
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Return affine and voxel size, both in mm.

    Args:
        header: header of the file.
        path: file, for messages.
        needs_spacing: whether a missing or impossible geometry is an error; ``False`` returns the
            identity and 1 mm instead.

    Raises:
        DataError: the geometry is missing or impossible.
    """
    try:
        return _geometry_of(header, path)
    except DataError:
        if needs_spacing:
            raise
        return np.eye(4), (1.0, 1.0, 1.0)


def _geometry_of(
    header: nib.Nifti1Header, path: Path
) -> tuple[np.ndarray, tuple[float, float, float]]:
    pixdim = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.all(np.isfinite(pixdim) & (pixdim > 0)):
        raise DataError(
            f"{path}: voxel size {pixdim.tolist()} in the header (pixdim), expected three "
            "positive numbers; correct the header from the scan's protocol, or set "
            "task.options.spacing_mm"
        )
    if header["pixdim"][0] == 0:  # qfac: the standard treats 0 as 1
        header["pixdim"][0] = 1
    try:
        affine = np.array(header.get_best_affine(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise DataError(f"{path}: no affine in the header ({error})") from error
    _check_affine(affine, path)
    sizes = voxel_sizes(affine)
    if not np.allclose(sizes, pixdim, rtol=_SPACING_TOLERANCE):
        warnings.warn(
            f"{path}: voxel size {pixdim.tolist()} (pixdim) and {sizes.tolist()} (affine) "
            "differ; the affine is used",
            stacklevel=4,
        )
    mm_per_unit = _MM_PER_UNIT.get(int(header["xyzt_units"]) & 7, 1.0)
    affine[:3] *= mm_per_unit
    x, y, z = (float(size * mm_per_unit) for size in sizes)
    return affine, (x, y, z)


def _check_affine(affine: np.ndarray, path: Path) -> None:
    if not np.isfinite(affine).all():
        raise DataError(f"{path}: NaN or Inf in the affine {affine.tolist()}")
    sizes = voxel_sizes(affine)
    if sizes.min() == 0 or abs(np.linalg.det(affine[:3, :3] / sizes)) < _MIN_SINE:
        raise DataError(
            f"{path}: singular affine {affine.tolist()}; correct the header, or write the volume "
            "again from its source"
        )
