"""Locks of files that the kernel gives free when their process dies, however it dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class FileLock:
    """A lock on a file; processes that share its folder take turns.

    Args:
        path: of the file; it is made, and stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock.

        Args:
            wait: until it is free; otherwise only look whether it is.

        Returns:
            whether this process holds it now.
        """
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(handle)
            return False
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle
        return True

    def release(self) -> None:
        """Give it free."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold it meanwhile."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


class JournalLock(FileLock):
    """The lock of Optuna's journal file, whose writers may be killed at any moment.

    It ends with its process; and the piece of a line that a killed writer has left at the end of
    the file is cut off before the next one writes.

    Args:
        journal: the file.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(journal.with_name(f".{journal.name}.lock"))
        self._journal = journal

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock."""
        taken = super().acquire(wait=wait)
        if taken:
            _cut_off_piece(self._journal)
        return taken


def _cut_off_piece(path: Path) -> None:
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


_BLOCK_BYTES = 4096
