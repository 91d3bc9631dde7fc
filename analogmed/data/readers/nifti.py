"""Reader of NIfTI files with full validation of bytes, header, geometry and voxels."""

import gzip
import math
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.spatialimages import HeaderDataError
from nibabel.volumeutils import apply_read_scaling

from analogmed.data.readers.files import check_not_placeholder
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import read_head

NanPolicy = Literal["error", "zero"]

DEFAULT_MAX_VOXELS = 2**28
"""Default limit on the number of voxels: 512 x 512 x 1024, or 1 GiB as float32."""

_HEADERS: dict[int, tuple[type[nib.Nifti1Header], bytes]] = {
    348: (nib.Nifti1Header, b"n+1"),
    540: (nib.Nifti2Header, b"n+2"),
}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_EXTENSION_BYTES = 2**26
_CHUNK_BYTES = 2**20
_MM_PER_UNIT = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
_SPACING_TOLERANCE = 0.01
_MIN_SINE = 1e-3


@dataclass(frozen=True)
class Volume:
    """Voxels of a NIfTI file and their geometry.

    Attributes:
        data: shape (X, Y, Z), or (X, Y, Z, C) with C > 1; integers as stored, otherwise float32.
        spacing_mm: voxel size along X, Y and Z.
        affine: float64 (4, 4), from voxel indices to mm.
        path: source file.
    """

    data: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    path: Path


def read_nifti(
    path: Path | str,
    *,
    max_voxels: int = DEFAULT_MAX_VOXELS,
    nan_policy: NanPolicy = "error",
) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file completely and validate it.

    The header is validated before memory is allocated for the voxels. The gzip checksum is always
    verified (nibabel stops before it).

    Args:
        path: NIfTI file.
        max_voxels: limit on the number of float32 voxels; 8-byte voxels count twice. Larger volumes
            raise before they are read.
        nan_policy: treatment of NaN and Inf voxels: ``"error"``, or ``"zero"`` to set them to 0.

    Returns:
        The volume. Axes beyond the third that have length 1 are dropped.

    Raises:
        ConfigError: ``nan_policy`` is unknown.
        DataError: the file is missing, damaged, too large, not NIfTI, has an impossible geometry,
            or contains NaN or Inf.
    """
    if nan_policy not in ("error", "zero"):
        raise ConfigError(f"nan_policy must be 'error' or 'zero', not {nan_policy!r}")
    path = Path(path)
    with _opened(path) as stream:
        header = _read_header(stream, path)
        layout = _layout(header, path, max_voxels)
        affine, spacing_mm = _geometry(header, path)
        _skip_to_voxels(stream, header, path)
        data = _read_voxels(stream, layout, path, nan_policy)
    return Volume(data, spacing_mm, affine, path)


def read_to_end(path: Path | str) -> int:
    """Read a file to its end; for a ``.gz`` file, this verifies its checksum.

    Args:
        path: file, optionally gzip-compressed.

    Returns:
        Number of bytes after decompression.

    Raises:
        DataError: the file is missing, empty or truncated, or its checksum is wrong.
    """
    path = Path(path)
    n_bytes = 0
    with _opened(path) as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            n_bytes += len(chunk)
    return n_bytes


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Yield the (decompressed) bytes of a file; read errors become DataError with the path."""
    head = read_head(path)
    _check_compression(head, path)
    try:
        if path.suffix == ".gz":
            with gzip.open(path, "rb") as compressed:
                yield cast(BinaryIO, compressed)
        else:
            with path.open("rb") as plain:
                yield plain
    except EOFError as error:
        raise DataError(f"{path}: gzip stream ends early (truncated); download again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip ({error}); download it again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _check_compression(head: bytes, path: Path) -> None:
    check_not_placeholder(head, path)
    compressed = head.startswith(_GZIP_MAGIC)
    if path.suffix == ".gz" and not compressed:
        if _header_size(head) is not None:
            plain = path.with_suffix("").name
            raise DataError(f"{path}: an uncompressed NIfTI file; rename it to {plain}")
        raise DataError(f"{path}: not a gzip file (starts with {head[:4]!r}); download it again")
    if path.suffix != ".gz" and compressed:
        raise DataError(f"{path}: a gzip file; rename it to {path.name}.gz")


def _header_size(head: bytes) -> tuple[int, str] | None:
    """Return header length (348 or 540) and byte order, or ``None`` for another format."""
    for order, name in (("<", "little"), (">", "big")):
        size = int.from_bytes(head[:4], name)  # type: ignore[arg-type]
        if size in _HEADERS:
            return size, order
    return None


def _read_header(stream: BinaryIO, path: Path) -> nib.Nifti1Header:
    start = stream.read(4)
    found = _header_size(start)
    if found is None:
        raise DataError(f"{path}: not a NIfTI file (no header of 348 or 540 bytes)")
    size, order = found
    header_class, magic = _HEADERS[size]
    block = start + stream.read(size - len(start))
    if len(block) < size:
        raise DataError(f"{path}: ends in its header, {len(block)} of {size} bytes; download again")
    header = header_class(block, endianness=order, check=False)
    if not bytes(header["magic"]).startswith(magic):
        found_magic = bytes(header["magic"])
        raise DataError(
            f"{path}: magic {found_magic!r}, expected {magic!r}: only single-file NIfTI is read; "
            "convert .hdr/.img pairs and ANALYZE files first"
        )
    return header


@dataclass(frozen=True)
class _Layout:
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


def _layout(header: nib.Nifti1Header, path: Path, max_voxels: int) -> _Layout:
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
    return _Layout(shape, stored, result, slope, intercept)


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


def _geometry(
    header: nib.Nifti1Header, path: Path
) -> tuple[np.ndarray, tuple[float, float, float]]:
    pixdim = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if not np.all(np.isfinite(pixdim) & (pixdim > 0)):
        raise DataError(
            f"{path}: voxel size {pixdim.tolist()} in the header (pixdim), expected three "
            "positive numbers; correct the header from the scan's protocol"
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
            stacklevel=3,
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


def _skip_to_voxels(stream: BinaryIO, header: nib.Nifti1Header, path: Path) -> None:
    header_size = header.sizeof_hdr
    offset = float(header["vox_offset"])
    largest = header_size + _MAX_EXTENSION_BYTES
    if not (math.isfinite(offset) and 0 <= offset <= largest):
        raise DataError(f"{path}: voxels start at byte {offset} by the header; limit {largest}")
    skipped = max(int(offset), header_size + 4) - header_size
    if len(_read_up_to(stream, skipped)) < skipped:
        raise DataError(f"{path}: ends before its voxels; download it again")


def _read_voxels(
    stream: BinaryIO, layout: _Layout, path: Path, nan_policy: NanPolicy
) -> np.ndarray:
    """Read, scale and check the voxels in chunks, so that memory contains them only once.

    Returns:
        Array (X, Y, Z) or (X, Y, Z, C) in Fortran order.
    """
    n_voxels = math.prod(layout.shape)
    voxels = np.empty(n_voxels, layout.result)
    expected = n_voxels * layout.stored.itemsize
    step = _CHUNK_BYTES // layout.stored.itemsize
    n_bad = 0
    for start in range(0, n_voxels, step):
        part = voxels[start : start + step]
        raw = _read_up_to(stream, part.size * layout.stored.itemsize)
        if len(raw) < part.size * layout.stored.itemsize:
            n_bytes = start * layout.stored.itemsize + len(raw)
            raise DataError(
                f"{path}: {n_bytes} bytes of voxels, expected {expected} for {layout.shape} of "
                f"{layout.stored}; download it again"
            )
        # Values beyond float32 become Inf, which raises an error.
        with np.errstate(over="ignore"):
            part[:] = layout.scaled(np.frombuffer(raw, layout.stored))
        n_bad += _zero_without_number(part)
    if stream.read(1):
        raise DataError(
            f"{path}: goes on after the {expected} bytes of voxels that its header declares for "
            f"{layout.shape} of {layout.stored}; the header is damaged: download it again"
        )
    if n_bad and nan_policy == "error":
        raise DataError(
            f"{path}: {n_bad} of {n_voxels} voxels are NaN or Inf; repair the file, or set "
            "nan_policy to 'zero'"
        )
    kept = layout.shape[:3] + tuple(n for n in layout.shape[3:] if n > 1)
    return voxels.reshape(kept, order="F")


def _zero_without_number(values: np.ndarray) -> int:
    """Set NaN and Inf to 0; return their number."""
    if values.dtype.kind != "f":
        return 0
    bad = ~np.isfinite(values)
    values[bad] = 0
    return int(np.count_nonzero(bad))


def _read_up_to(stream: BinaryIO, limit: int) -> bytes:
    """Return ``limit`` bytes, or fewer at the end of the stream."""
    pieces: list[bytes] = []
    missing = limit
    while missing > 0 and (piece := stream.read(min(_CHUNK_BYTES, missing))):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
