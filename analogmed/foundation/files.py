"""Files and folders: atomic writes, and checks before reading."""

import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.temporary import temporary_folder


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file, then rename it to ``path`` in one step.

    The temporary file is created in a hidden folder next to ``path``; other files of the writer are
    created there too. A killed process leaves at most this folder; see :func:`remove_leftovers`.

    Args:
        path: target file; its folder is created if missing.
        write: function called with the temporary path, whose file name is that of ``path``.

    Returns:
        ``path``, with the permissions of an ordinary new file. If ``write`` fails, the temporary
            file is removed and an existing file stays unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        temporary.touch(exist_ok=False)
        permissions = stat.S_IMODE(temporary.stat().st_mode)  # some writers set other permissions
        write(temporary)
        temporary.chmod(permissions)
        _flush_to_disk(temporary)
        temporary.replace(path)
    return path


def remove_leftovers(folder: Path | str) -> None:
    """Remove leftovers of killed writers; no other process may be writing to the folder."""
    for path in Path(folder).glob(".analogmed-*"):
        if _TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def write_text_atomically(path: Path | str, text: str) -> Path:
    """Write ``text`` as UTF-8 with :func:`write_atomically`."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def ensure_writable(folder: Path | str) -> Path:
    """Create a folder and verify that a file can be written to it, before expensive work starts.

    Raises:
        ConfigError: the folder cannot be created or written to, or is a file.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(folder) as probe:
            (probe / "writable").write_bytes(b"\0" * 4096)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}; give another with --out") from error
    return folder


class NewFiles:
    """Files and folders that a run creates in a folder, removed if it ends without any result.

    Args:
        folder: folder before the run; it may be missing.
    """

    def __init__(self, folder: Path | str) -> None:
        self._folder = Path(folder)
        self._missing = [
            path for path in (self._folder, *self._folder.parents) if not path.exists()
        ]
        self._present = set(self._entries())

    def remove(self, *traces: str) -> None:
        """Remove new files that are no results, and new empty folders; with a result, all stay.

        Args:
            *traces: names of files in the folder that are no results, such as locks.
        """
        with suppress(OSError):  # the error that ended the run is the one to report
            new = [path for path in self._entries() if path not in self._present]
            for path in new:
                remove_empty_folders(path)
            left = [path for path in new if path.exists()]
            if all(path.name in traces for path in left):
                for path in left:
                    path.unlink()
                for path in self._missing:
                    path.rmdir()

    def _entries(self) -> list[Path]:
        return list(self._folder.iterdir()) if self._folder.is_dir() else []


def remove_empty_folders(folder: Path) -> None:
    """Remove the folders without files below a folder, and the folder itself if none is left."""
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):  # not empty
            Path(path).rmdir()


@contextmanager
def removed_if_refused(folder: Path | str, *traces: str) -> Iterator[Path]:
    """Create a folder for a block of code; remove it if the block raises an error without a result.

    Args:
        folder: folder that the block writes to.
        *traces: names of files in the folder that are no results.

    Raises:
        ConfigError: see :func:`ensure_writable`.
    """
    new = NewFiles(folder)
    try:
        yield ensure_writable(folder)
    except BaseException:
        new.remove(*traces)
        raise


def require_folder(path: Path | str) -> Path:
    """Return the path of a folder that must exist.

    Raises:
        DataError: the path does not exist or is a file.
    """
    path = Path(path)
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"{path}: a file, not a folder; check the path")
    raise DataError(f"{path}: no such folder; check the path")


@contextmanager
def write_folder_atomically(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes ``folder`` when the block ends without an error.

    The temporary folder is next to ``folder``, so that a single rename replaces it. A killed
    process leaves at most a hidden ``.<name>-*`` folder, which the next call removes, and never
    partial data under the final name.

    Args:
        folder: final path; missing or empty. Its parent is created.

    Yields:
        An empty folder to fill.

    Raises:
        FileExistsError: ``folder`` is not empty; it is left unchanged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent, folder.name) as workplace:
        part = workplace / folder.name
        part.mkdir()
        yield part
        try:
            part.rename(folder)
        except OSError as error:
            if is_occupied(folder):
                raise FileExistsError(f"{folder}: already there") from error
            raise


def is_occupied(path: Path) -> bool:
    """Return whether a path exists and is not an empty folder."""
    if path.is_dir():
        return any(path.iterdir())
    return path.exists()


def read_head(path: Path) -> bytes:
    """Return the first kilobyte of a file, which must exist and not be empty.

    Args:
        path: the file.

    Returns:
        Up to 1024 bytes, at least one.

    Raises:
        DataError: the file is missing, is a folder, a pipe or a device, is empty, or cannot be
            opened.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DataError(f"{path}: expected a file, found a folder, pipe or device")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing file; check the download or the list of cases") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path!r}: cannot be read ({error})") from error
    if not head:
        raise DataError(f"{path}: empty file (0 bytes); download it again")
    return head


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file as 64 hex digits.

    Raises:
        DataError: the file is missing, empty or unreadable.
    """
    read_head(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_HEAD_BYTES = 1024
_TEMPORARY = re.compile(r"\.analogmed-[0-9a-f]{16}")


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
    folder = parent / f".analogmed-{secrets.token_hex(8)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
