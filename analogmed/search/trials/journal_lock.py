"""Lock of Optuna's journal file."""

import os
from pathlib import Path

from analogmed.foundation.locks import FileLock


class JournalLock(FileLock):
    """Lock of Optuna's journal file, whose writers may be killed at any moment.

    It is released when its process ends; a partial line that a killed writer has left at the end of
    the file is removed before the next one writes.

    Args:
        journal: journal file.
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
