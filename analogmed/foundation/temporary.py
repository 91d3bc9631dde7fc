"""Temporary folders; the next process removes those of killed processes."""

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
    """Create a hidden folder ``.<name>-<16 hexadecimal digits>`` and remove it on exit.

    The process holds a lock on a file in the folder. Folders of this name in ``parent`` whose lock
    is free belong to killed processes and are removed first.

    Args:
        parent: existing folder.
        name: purpose of the folder, part of its name.
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
        with suppress(FileNotFoundError):  # another process has removed it as abandoned
            if _acquire(lock) and lock.path.exists():
                return folder, lock
        lock.release()


def _remove_abandoned(parent: Path, name: str) -> None:
    own_name = re.compile(rf"\.{re.escape(name)}-[0-9a-f]{{16}}")
    for folder in parent.glob(".*"):
        if not own_name.fullmatch(folder.name):
            continue
        lock = FileLock(folder / _LOCK)
        with suppress(OSError):  # removed by another process, or no locks available
            if lock.acquire(wait=False):
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()


def _acquire(lock: FileLock) -> bool:
    try:
        return lock.acquire(wait=False)
    except FileNotFoundError:
        raise
    except OSError:  # no locks on this file system: only its own process removes the folder
        lock.path.touch()
        return True
