"""Progress output of a run on stderr: logged without a terminal, or silenced."""

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO


@contextmanager
def log_to_stderr(logger: str) -> Iterator[None]:
    """Print log messages of level INFO on stderr if no terminal can show a progress bar.

    Args:
        logger: name of the logger.
    """
    if sys.stderr.isatty():
        yield
        return
    target, handler = logging.getLogger(logger), logging.StreamHandler()
    level = target.level
    target.setLevel(logging.INFO)
    target.addHandler(handler)
    try:
        yield
    finally:
        target.removeHandler(handler)
        target.setLevel(level)


@contextmanager
def without_progress(logger: str) -> Iterator[None]:
    """Hide progress bars and log messages below level WARNING.

    Args:
        logger: name of the logger.
    """
    target = logging.getLogger(logger)
    level = target.level
    target.setLevel(logging.WARNING)
    try:
        with redirect_stderr(_NoTerminal(sys.stderr)):
            yield
    finally:
        target.setLevel(level)


class _NoTerminal(io.TextIOBase):
    """Stream that reports not to be a terminal, so that no progress bar is drawn.

    Args:
        stream: stream that receives the text.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text to the stream."""
        return self._stream.write(text)
