"""Temporary folders that the next process removes if theirs was killed."""

import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from analogmed.foundation.locks import FileLock

_LOCK = ".lock"


@contextmanager
def temporary_folder(parent: Path, name: str) -> Iterator[Path]:
    """Create a hidden folder ``.<name>-<16 hexadecimal digits>`` and remove it at the end.

    Its process holds a lock in it. Folders of this name in ``parent`` whose lock is free are those
    of killed processes; they are removed first.

    Args:
        parent: existing folder.
        name: what the folder is for.
    """
    _remove_abandoned(parent, name)
    folder, lock = _locked_folder(parent, name)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _locked_folder(parent: Path, name: str) -> tuple[Path, FileLock]:
    while True:
        folder = parent / f".{name}-{secrets.token_hex(8)}"
        folder.mkdir()
        lock = FileLock(folder / _LOCK)
        with suppress(FileNotFoundError):  # another process took it for an abandoned one
            if _acquire(lock) and lock.path.exists():
                return folder, lock
        lock.release()


def _remove_abandoned(parent: Path, name: str) -> None:
    own_name = re.compile(rf"\.{re.escape(name)}-[0-9a-f]{{16}}")
    for folder in parent.glob(".*"):
        if not own_name.fullmatch(folder.name):
            continue
        lock = FileLock(folder / _LOCK)
        with suppress(OSError):  # another process removes it, or there are no locks here
            if lock.acquire(wait=False):
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()


def _acquire(lock: FileLock) -> bool:
    try:
        return lock.acquire(wait=False)
    except FileNotFoundError:
        raise
    except OSError:  # a file system without locks: the folder is removed by its own process only
        lock.path.touch()
        return True
