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
