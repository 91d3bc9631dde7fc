"""Log messages of a run on stderr where no terminal shows a progress bar."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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
