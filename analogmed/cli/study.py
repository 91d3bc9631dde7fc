"""Runs of studies and trainings from the command line."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from analogmed.cli.commands import COMMANDS
from analogmed.cli.main import load
from analogmed.cli.options import CONFIG_FILES, to_options
from analogmed.cli.parse import parse
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.progress import log_to_stderr
from analogmed.foundation.settings.fields import positional_names
from analogmed.foundation.text import command_line
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
    print(f"a page of them: {command_line('report', settings.folder)}")
    return found


def next_command(name: str, settings: Any) -> str:
    """Return the command that continues with these settings, as short as it can be.

    The settings file of the running command is in it if the command accepts the file.

    Args:
        name: name of the command.
        settings: its settings, or those of its settings class that it takes from here.
    """
    accepts = load(f"analogmed.{COMMANDS[name].settings}")
    found = [_words(settings, accepts())]
    if len(files := CONFIG_FILES.get()) == 1:
        of_file = ["--config", *files]
        with suppress(ConfigError):
            words = [*_words(settings, parse(accepts, of_file, prog=name), of_file)]
            if _agree(settings, parse(accepts, words, prog=name)):
                found.append(words)
    words = min(found, key=lambda each: len(command_line(*each)))
    return command_line(*name.split(), *words)


def _words(settings: Any, base: Any, given: Sequence[str] = ()) -> list[str]:
    """Return plain arguments, given options, and options for what differs from a base."""
    plain: list[str] = []
    for name in positional_names(type(base)):
        plain += map(str, getattr(settings, name))
        settings = replace(settings, **{name: getattr(base, name)})
    return [*plain, *given, *to_options(settings, base=base)]


def _agree(settings: Any, parsed: Any) -> bool:
    return all(getattr(parsed, f.name) == getattr(settings, f.name) for f in fields(settings))


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
