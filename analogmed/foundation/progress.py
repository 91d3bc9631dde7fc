"""Progress of a computation: a bar in a terminal or a notebook, otherwise a line now and then."""

import logging
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from tqdm import TqdmWarning, tqdm

INTERVAL_S = 30.0
"""Shortest time between two lines, in s."""
ENOUGH, ENOUGH_S = 0.05, 60.0
"""Share of the parts, or time in s, after the first part from which the time left is shown."""
_FORMAT = "{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} [{{elapsed}}<{left}, {{rate_fmt}}{{postfix}}]"
"""Format of a bar: that of tqdm with an own estimate of the time left."""
_shown = ContextVar("shown", default=True)


def announce(text: str) -> None:
    """Print in a terminal what is done while no bar can count parts, unless progress is hidden."""
    if _shown.get() and sys.stderr.isatty():
        print(f"{text} ...", file=sys.stderr, flush=True)


class ProgressBar:
    """Number of finished parts of a computation, shown on stderr.

    A terminal and a notebook show a bar. Elsewhere, such as in a log file, a line with the finished
    parts and the remaining time is printed when a part is finished, at most every 30 s. The
    remaining time is that at the speed since the first part, which includes the preparation; it is
    not shown before 5 % of the parts are finished, or a minute has passed.

    Args:
        total: number of parts, or ``None`` if unknown.
        unit: name of one part.
        title: what is computed.
        done: number of parts that were finished before.
        shown: whether anything is shown.
        scaled: write large numbers with a prefix, for instance bytes as ``1.23MB``.

    Attributes:
        done: number of finished parts.
    """

    def __init__(
        self,
        total: int | None,
        *,
        unit: str,
        title: str = "",
        done: int = 0,
        shown: bool = True,
        scaled: bool = False,
    ) -> None:
        self.done = done
        self._first: tuple[int, float] | None = None
        self._total, self._unit, self._title, self._scaled = total, unit, title, scaled
        self._note = ""
        self._last = time.monotonic()
        shown = shown and _shown.get()
        kind = _bar() if shown else None
        self._has_lines = shown and kind is None
        self._bar = kind and kind(
            total=total, initial=done, desc=title, unit=unit, unit_scale=scaled, smoothing=0.05
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def expect(self, parts: int) -> None:
        """Add parts to the total."""
        self._total = (self._total or 0) + parts
        if self._bar is not None:
            self._bar.total = self._total
            self._bar.refresh()

    def describe(self, title: str = "", note: str = "") -> None:
        """Replace the title, or the note behind the numbers, from the next update on."""
        self._title, self._note = title or self._title, note or self._note
        if self._bar is not None:
            self._bar.set_description(self._title, refresh=False)
            self._bar.set_postfix_str(self._note, refresh=False)

    def update(self, parts: int = 1) -> None:
        """Count finished parts."""
        self.done += parts
        self._first = self._first or (self.done, time.monotonic())
        if self._bar is not None:
            if self._total:
                self._bar.bar_format = _FORMAT.format(left=self._left() or "?")
            self._bar.update(parts)
        elif self._has_lines and time.monotonic() - self._last >= INTERVAL_S:
            self._last = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def log(self, logger: logging.Logger, text: str) -> None:
        """Log a text at level INFO, which replaces the next line if it is shown."""
        logger.info(text)
        if logger.isEnabledFor(logging.INFO):
            self._last = time.monotonic()

    def _line(self) -> str:
        done, total = self._number(self.done), self._number(self._total)
        parts = [f"{done} of {total}" if total else done]
        parts += [f"{left} left"] if (left := self._left()) else []
        parts += [self._note] if self._note else []
        named = "" if self._scaled else f"{self._unit} "
        return f"{self._title or 'progress'}: {named}{', '.join(parts)}"

    def _left(self) -> str:
        """Return the remaining time; empty as long as too few parts are finished."""
        if self._first is None or self._total is None:
            return ""
        done, at_s = self._first
        finished, passed_s = self.done - done, time.monotonic() - at_s
        if finished <= 0 or (finished < ENOUGH * self._total and passed_s < ENOUGH_S):
            return ""
        return tqdm.format_interval(max(0, self._total - self.done) * passed_s / finished)

    def _number(self, parts: int | None) -> str:
        if parts is None:
            return ""
        return tqdm.format_sizeof(parts, self._unit) if self._scaled else str(parts)


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
    """Hide progress, and log messages below level WARNING.

    Args:
        logger: name of the logger.
    """
    target = logging.getLogger(logger)
    level = target.level
    target.setLevel(logging.WARNING)
    hidden = _shown.set(False)
    try:
        yield
    finally:
        _shown.reset(hidden)
        target.setLevel(level)


def _bar() -> Any:
    """Return the class of bars that stderr can show, or ``None``."""
    if sys.stderr.isatty():
        return tqdm
    if not _is_notebook():
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # without ipywidgets, the bar is of text
        from tqdm.auto import tqdm as notebook_bar
    return notebook_bar


def _is_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return shell is not None and "IPKernelApp" in shell.config
