"""Reader of NIfTI files with full validation of bytes, header, geometry and voxels."""

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast, get_args

import numpy as np

from analogmed.data.readers.files import check_not_placeholder
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import read_head
from analogmed.foundation.settings.checks import require_choice

if TYPE_CHECKING:
    import nibabel as nib

    from analogmed.data.readers.nifti_header import Layout

NanPolicy = Literal["error", "zero"]

DEFAULT_MAX_VOXELS = 2**28
"""Default limit on the number of voxels: 512 x 512 x 1024, or 1 GiB as float32."""

_HEADER_SIZES = (348, 540)
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_EXTENSION_BYTES = 2**26
_CHUNK_BYTES = 2**20


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
    needs_spacing: bool = True,
) -> Volume:
    """Read a ``.nii`` or ``.nii.gz`` file completely and validate it.

    The header is validated before memory is allocated for the voxels. The gzip checksum is always
    verified (nibabel stops before it).

    Args:
        path: NIfTI file.
        max_voxels: limit on the number of float32 voxels; 8-byte voxels count twice. Larger volumes
            raise before they are read.
        nan_policy: treatment of NaN and Inf voxels: ``"error"``, or ``"zero"`` to set them to 0.
        needs_spacing: whether a voxel size or affine that is missing or impossible is an error;
            ``False`` replaces it by 1 mm along the axes of the file.

    Returns:
        The volume. Axes beyond the third that have length 1 are dropped.

    Raises:
        ConfigError: ``nan_policy`` is unknown.
        DataError: the file is missing, damaged, too large, not NIfTI, has an impossible geometry,
            or contains NaN or Inf.
    """
    nan_policy = require_choice("nan_policy", nan_policy, get_args(NanPolicy))
    path = Path(path)
    from analogmed.data.readers.nifti_header import geometry_of, layout_of

    with _opened(path) as stream:
        header = _read_header(stream, path)
        layout = layout_of(header, path, max_voxels)
        affine, spacing_mm = geometry_of(header, path, needs_spacing=needs_spacing)
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
        if size in _HEADER_SIZES:
            return size, order
    return None


def _read_header(stream: BinaryIO, path: Path) -> "nib.Nifti1Header":
    # nibabel takes half a second, which names and options of tasks do not need
    from analogmed.data.readers.nifti_header import parse_header

    start = stream.read(4)
    found = _header_size(start)
    if found is None:
        raise DataError(f"{path}: not a NIfTI file (no header of 348 or 540 bytes)")
    size, order = found
    block = start + stream.read(size - len(start))
    if len(block) < size:
        raise DataError(f"{path}: ends in its header, {len(block)} of {size} bytes; download again")
    return parse_header(block, order, path)


def _skip_to_voxels(stream: BinaryIO, header: "nib.Nifti1Header", path: Path) -> None:
    header_size = header.sizeof_hdr
    offset = float(header["vox_offset"])
    largest = header_size + _MAX_EXTENSION_BYTES
    if not (math.isfinite(offset) and 0 <= offset <= largest):
        raise DataError(f"{path}: voxels start at byte {offset} by the header; limit {largest}")
    skipped = max(int(offset), header_size + 4) - header_size
    if len(_read_up_to(stream, skipped)) < skipped:
        raise DataError(f"{path}: ends before its voxels; download it again")


def _read_voxels(
    stream: BinaryIO, layout: "Layout", path: Path, nan_policy: NanPolicy
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
            f"{path}: has more than the {expected} bytes of voxels that its header declares for "
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
