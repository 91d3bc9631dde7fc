"""Training of many candidates, each without a progress bar and lines of epochs of its own."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO

from analogmed.training.log import LOGGER as TRAINING


@contextmanager
def without_progress() -> Iterator[None]:
    """Warnings are told; progress bars and epochs, which are many candidates', are not."""
    epochs = logging.getLogger(TRAINING)
    level = epochs.level
    epochs.setLevel(logging.WARNING)
    try:
        with redirect_stderr(_NoTerminal(sys.stderr)):
            yield
    finally:
        epochs.setLevel(level)


class _NoTerminal(io.TextIOBase):
    """Passes text on, but is no terminal, so that no progress bar is drawn.

    Args:
        stream: where to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Pass it on."""
        return self._stream.write(text)
