"""Safe extraction of archives: complete, inside their folder and within limits, or not at all."""

import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Protocol

from analogmed.data.readers.files import check_not_placeholder
from analogmed.foundation.errors import DataError, SecurityError
from analogmed.foundation.files import is_occupied, read_head, write_folder_atomically

DEFAULT_MAX_BYTES = 2**37
"""128 GiB; the largest task of the Decathlon (liver) unpacks to about 30 GiB."""

DEFAULT_MAX_FILES = 500_000

_MAX_TAR_EXTENSION_BYTES = 2**20
_MAX_TAR_PADDING_BYTES = 2**26
_TAR_BLOCK = 512
_CHUNK_BYTES = 2**20


def extract(
    archive: Path | str,
    destination: Path | str,
    *,
    max_bytes: int = DEFAULT_MAX_BYTES,
    max_files: int = DEFAULT_MAX_FILES,
) -> Path:
    """Unpack a tar (optionally gzip, bzip2 or xz) or zip archive into a new folder.

    All entries are checked before the first one is written, and the folder appears only when it is
    complete. If the archive contains a single folder with the name of the destination, this folder
    becomes the destination: ``Task09_Spleen.tar`` unpacks to ``root/Task09_Spleen``.

    Args:
        archive: path of the archive.
        destination: target folder; missing or empty.
        max_bytes: limit on the unpacked size in bytes.
        max_files: limit on the number of entries.

    Returns:
        ``destination``.

    Raises:
        SecurityError: an entry has an absolute path or ``..``, is a link or a device, or the
            archive exceeds the limits. Nothing is written.
        DataError: the archive is missing, damaged, truncated or of an unsupported format, or the
            destination is not empty. Nothing is written.
    """
    archive, destination = Path(archive), Path(destination)
    if is_occupied(destination):
        raise DataError(f"{destination}: already there; move it away to unpack {archive} again")
    check_not_placeholder(read_head(archive), archive)
    with _naming_damage(archive):
        with _open(archive) as entries:
            names = _checked(archive, entries, max_bytes, max_files)
        is_wrapped = {name.parts[0] for name in names} == {destination.name}
        inner = (destination.name,) if is_wrapped else ()
        with write_folder_atomically(destination) as part, _open(archive) as entries:
            for entry in entries:
                if name := _safe_name(archive, entry.name).parts:
                    _write_entry(entry, part.joinpath(*name[len(inner) :]), archive)
    return destination


@dataclass(frozen=True)
class _Entry:
    """A member of an archive; ``kind`` is "file", "folder", or a description of anything else."""

    name: str
    kind: str
    size: int
    open: "_Opener"


class _Opener(Protocol):
    def __call__(self) -> IO[bytes] | None: ...


@contextmanager
def _naming_damage(archive: Path) -> Iterator[None]:
    """Convert decoder exceptions into errors with the path of the archive."""
    try:
        yield
    except DataError:
        raise
    except _Oversized as error:
        raise SecurityError(f"{archive}: {error}") from error
    except EOFError as error:
        raise DataError(f"{archive}: truncated archive; download it again") from error
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DataError(f"{archive}: damaged archive ({error}); download it again") from error
    except (OSError, RuntimeError, ValueError, LookupError, ArithmeticError, struct.error) as error:
        raise DataError(f"{archive}: cannot be unpacked ({error})") from error


@contextmanager
def _open(archive: Path) -> Iterator[Iterator[_Entry]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened_zip:
            yield _zip_entries(opened_zip)
        return
    try:
        opened_tar = tarfile.open(archive, tarinfo=_BoundedTarInfo)  # noqa: SIM115
    except tarfile.ReadError as error:
        raise DataError(
            f"{archive}: neither a tar nor a zip archive, or damaged; download it again"
        ) from error
    with opened_tar:
        yield _tar_entries(opened_tar)


class _Oversized(tarfile.TarError):
    """A part of a tar archive is implausibly large."""


class _BoundedTarInfo(tarfile.TarInfo):
    """TarInfo that rejects extension headers, which tarfile would read into memory at any size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_BoundedTarInfo":
        info = super().frombuf(buf, encoding, errors)
        is_extension = info.type not in tarfile.SUPPORTED_TYPES or info.type in _TAR_EXTENSIONS
        if is_extension and info.size > _MAX_TAR_EXTENSION_BYTES:
            raise _Oversized(
                f"tar header {info.name!r} announces {info.size} bytes; "
                f"limit {_MAX_TAR_EXTENSION_BYTES}"
            )
        return info


_TAR_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


def _tar_entries(opened: tarfile.TarFile) -> Iterator[_Entry]:
    for info in opened:
        kind = "file" if info.isreg() else "folder" if info.isdir() else _tar_oddity(info)
        yield _Entry(info.name, kind, info.size, lambda info=info: opened.extractfile(info))
    _check_tar_end(opened)


def _tar_oddity(info: tarfile.TarInfo) -> str:
    return "link" if info.issym() or info.islnk() else "device or special file"


def _check_tar_end(opened: tarfile.TarFile) -> None:
    """Read to the end of the compressed stream, where its checksum is verified.

    An archive truncated between two entries lacks only its end marker.
    """
    stream = opened.fileobj
    assert stream is not None
    stream.seek(opened.offset)
    if len(end := stream.read(2 * _TAR_BLOCK)) < 2 * _TAR_BLOCK:
        raise EOFError("no end-of-archive marker")
    if any(end):
        raise tarfile.ReadError(f"no entry and no end-of-archive marker at byte {opened.offset}")
    padding = 0
    while chunk := stream.read(_CHUNK_BYTES):
        padding += len(chunk)
        if padding > _MAX_TAR_PADDING_BYTES:
            raise _Oversized(f"more than {_MAX_TAR_PADDING_BYTES} bytes after the last entry")
    if padding % _TAR_BLOCK:
        raise EOFError("the last block is cut")


def _zip_entries(opened: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in opened.infolist():
        mode = stat.S_IFMT(info.external_attr >> 16)
        kind = "folder" if info.is_dir() else "file"
        if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
            kind = "link" if mode == stat.S_IFLNK else "device or special file"
        yield _Entry(info.orig_filename, kind, info.file_size, lambda info=info: opened.open(info))


def _checked(
    archive: Path, entries: Iterator[_Entry], max_bytes: int, max_files: int
) -> set[PurePosixPath]:
    """Return the names of all entries after checking that each one is safe."""
    names: set[PurePosixPath] = set()
    total = 0
    for count, entry in enumerate(entries, start=1):
        total += entry.size
        if count > max_files:
            raise SecurityError(f"{archive}: more than {max_files} entries (max_files)")
        if total > max_bytes:
            raise SecurityError(f"{archive}: unpacks to more than {max_bytes} bytes (max_bytes)")
        if entry.kind not in ("file", "folder"):
            raise SecurityError(f"{archive}: {entry.name!r} is a {entry.kind}; expected files only")
        name = _safe_name(archive, entry.name)
        if name in names and entry.kind == "file":
            raise DataError(f"{archive}: {entry.name!r} is in it twice")
        names.add(name)
    names.discard(PurePosixPath())
    if not names:
        raise DataError(f"{archive}: empty archive; download it again")
    return names


def _safe_name(archive: Path, name: str) -> PurePosixPath:
    windows, posix = PureWindowsPath(name), PurePosixPath(name)
    leaves = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if leaves or "\0" in name:
        raise SecurityError(f"{archive}: {name!r} would be written outside the folder")
    return posix


def _write_entry(entry: _Entry, path: Path, archive: Path) -> None:
    if entry.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = entry.open()
    assert source is not None
    with source, path.open("xb") as file:
        shutil.copyfileobj(source, file, _CHUNK_BYTES)
        written = file.tell()
    if written != entry.size:
        raise DataError(f"{archive}: {entry.name!r} ends after {written} of {entry.size} bytes")
