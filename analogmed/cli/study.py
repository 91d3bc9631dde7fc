"""Runs of studies and trainings from the command line."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from analogmed.evaluation.settings import Experiment
from analogmed.foundation.progress import log_to_stderr
from analogmed.training.log import LOGGER


class _Found(Protocol):
    @property
    def reuse(self) -> str:
        """Sentence on reused results; empty if all are new."""


C = TypeVar("C", bound=Experiment)
F = TypeVar("F", bound=_Found)


def run_study(study: Callable[[C], F], settings: C, render: Callable[[F], Iterable[str]]) -> F:
    """Run a study; print what was reused, its tables, its time, its folder and how to see a page.

    Args:
        study: function from the settings to the result.
        settings: settings of the study.
        render: function that yields the tables of the result as text.

    Returns:
        The result of the study.
    """
    start = time.monotonic()
    found = study(settings)
    if found.reuse:
        print(found.reuse)
    for text in render(found):
        print(text)
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {settings.folder}/")
    print(f"a page of them: {shlex.join(['analogmed', 'report', str(settings.folder)])}")
    return found


@contextmanager
def logged_training(folder: Path) -> Iterator[None]:
    """Log a training to stderr; after an interruption, print how it resumes.

    Args:
        folder: run folder of the training.
    """
    try:
        with log_to_stderr(LOGGER):
            yield
    except KeyboardInterrupt:
        print(f"the same command resumes after the last epoch in {folder}", file=sys.stderr)
        raise


def is_first_process() -> bool:
    """Return whether this is the process of a training that prints its results."""
    return int(os.environ.get("RANK", "0")) == 0
