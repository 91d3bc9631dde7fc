"""Checks of files before parsing: existence, emptiness and placeholder content."""

import hashlib
import re
from pathlib import Path

from analogmed.foundation.errors import DataError
from analogmed.foundation.files import read_head

_END_BYTES = 2**16
_PARTS = 16
_WEB_PAGE_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml")
_LFS_START = b"version https://git-lfs"


def check_not_placeholder(head: bytes, path: Path) -> None:
    """Raise DataError for content that a failed download leaves in place of the data.

    Args:
        head: first bytes of the file.
        path: path of the file, for the error.

    Raises:
        DataError: the file is a web page or a Git LFS pointer.
    """
    if head.lstrip().lower().startswith(_WEB_PAGE_STARTS):
        raise DataError(f"{path}: a web page, saved under this name; download the file again")
    if head.startswith(_LFS_START):
        raise DataError(f"{path}: a Git LFS pointer, not the data; fetch it with 'git lfs pull'")


def file_size(path: Path) -> int:
    """Return the length of a file in bytes.

    Raises:
        DataError: the file is missing or cannot be examined.
    """
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing file; check the download or the list of cases") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path!r}: cannot be read ({error})") from error


def digest_of_ends(path: Path) -> str:
    """Return the SHA-256 digest of the first and last 64 KiB of a file as 64 hex digits.

    Raises:
        DataError: the file is missing, empty or unreadable.
    """
    read_head(path)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    return digest.hexdigest()


def digest_of_parts(path: Path) -> str:
    """Return the SHA-256 digest of 17 parts of a file, spread evenly, as 64 hex digits.

    Ends of uncompressed scans can be equal, since their voxels are background; other parts differ.

    Raises:
        DataError: the file is missing, empty or unreadable.
    """
    read_head(path)
    last = max(0, file_size(path) - _END_BYTES)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for offset in sorted({last * part // _PARTS for part in range(_PARTS + 1)}):
            file.seek(offset)
            digest.update(file.read(_END_BYTES))
    return digest.hexdigest()


def is_hidden(path: Path, below: Path | None = None) -> bool:
    """Return whether a file is hidden, such as the ``._*`` files that macOS adds to archives.

    Args:
        path: the file.
        below: ancestor folder; hidden folders below it count too: ``.snapshot/case/image.nii``.
    """
    parts = path.relative_to(below).parts if below else (path.name,)
    return any(part.startswith(".") for part in parts)


def natural_order(name: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a sort key that orders ``scan_2`` before ``scan_10``."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((bool(n % 2), int(part) if n % 2 else 0, part) for n, part in enumerate(parts))
