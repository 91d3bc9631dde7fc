"""File locks that the kernel releases when their process ends for any reason."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: as a file system without locks
    fcntl = None  # type: ignore[assignment]


class FileLock:
    """Exclusive lock on a file, shared by all processes that can access its folder.

    Args:
        path: lock file; created if missing. Only a process that holds the lock may delete it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock.

        Args:
            wait: whether to wait until the lock is free; otherwise return at once.

        Returns:
            Whether this process holds the lock now.

        Raises:
            OSError: the file cannot be opened, or its file system or the operating system has no
                locks.
        """
        if fcntl is None:
            raise OSError(errno.ENOTSUP, "this operating system has no fcntl.flock")
        while True:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                os.close(handle)
                return False
            except BaseException:
                os.close(handle)
                raise
            if self._is_of(handle):
                self._handle = handle
                return True
            os.close(handle)

    def _is_of(self, handle: int) -> bool:
        """Return whether an open file is still the lock file, which its last holder may delete."""
        try:
            return os.path.samestat(os.fstat(handle), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Release the lock, if this process holds it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock during a ``with`` block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()
