"""Run of a study from the command line."""

import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from analogmed.evaluation.settings import Experiment


class _Found(Protocol):
    @property
    def reuse(self) -> str:
        """Sentence on reused results; empty if all are new."""


C = TypeVar("C", bound=Experiment)
F = TypeVar("F", bound=_Found)


def run_study(study: Callable[[C], F], settings: C, render: Callable[[F], Iterable[str]]) -> F:
    """Run a study; print what was reused, its tables, the time it took and its folder.

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
    return found
