"""Writes that leave either the old file or the whole new one, never a part."""

import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from analogmed.errors import ConfigError


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file, then rename it to ``path`` in one step.

    The temporary file lies in a hidden folder next to ``path``, with whatever else the writer
    creates next to it. A process that is killed leaves at most this folder; see
    :func:`remove_leftovers`.

    Args:
        path: finished file; its folder is created if missing.
        write: called with the temporary path, which has the name of ``path``.

    Returns:
        ``path``, with the permissions of an ordinary new file. If ``write`` fails, the temporary
        file is gone and an old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_folder(path.parent) as folder:
        temporary = folder / path.name
        temporary.touch(exist_ok=False)
        permissions = stat.S_IMODE(temporary.stat().st_mode)  # some writers set others
        write(temporary)
        temporary.chmod(permissions)
        _flush_to_disk(temporary)
        temporary.replace(path)
    return path


def remove_leftovers(folder: Path | str) -> None:
    """Remove what killed processes left of their writes; no other process may be writing there."""
    for path in Path(folder).glob(".analogmed-*"):
        if _TEMPORARY.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def write_text_atomically(path: Path | str, text: str) -> Path:
    """Write ``text`` as UTF-8 with :func:`write_atomically`."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def ensure_writable(folder: Path | str) -> Path:
    """Make a folder and see that a file can be written there, before work is put into its content.

    Raises:
        ConfigError: the folder cannot be made or written, or is a file.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(folder) as probe:
            (probe / "writable").write_bytes(b"\0" * 4096)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}; give another with --out") from error
    return folder


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
