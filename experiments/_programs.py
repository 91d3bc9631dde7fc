"""Parallel execution of programs and functions, and formatting of their tables."""

import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from analogmed.execution.compute import Step
from analogmed.execution.executors import make_executor, outcomes_of
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.errors import AnalogmedError
from analogmed.report.text_table import pipe_table

T = TypeVar("T")
R = TypeVar("R")


def run_program(verb: str, arguments: Iterable[object]) -> None:
    """Print and run ``python -m analogmed.VERB`` on one thread; exit with its error message."""
    command = [f"analogmed.{verb}", *map(str, arguments)]
    print("$ python -m", shlex.join(command), flush=True)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        check=False,
        env={"OMP_NUM_THREADS": "1", **os.environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"failed: python -m {shlex.join(command)}\n{done.stderr}")


def in_parallel(run: Callable[[T], R], items: Iterable[T], workers: int) -> list[R]:
    """Return the results of a function that runs programs, in the order of the items."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, items))


def in_processes(run: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield the results of a function that computes, each as soon as it is known.

    If a process is killed, its item is computed once more in a new one.

    Args:
        run: function of a module, or ``partial`` of one.
        items: its arguments.
        workers: processes; 1 computes here, in the order of the items.

    Raises:
        Exception: the error of the function for an item.
        AnalogmedError: the processes of an item were killed twice.
    """
    executor = make_executor(EngineConfig(workers=workers), _MakeCalls(run))
    with closing(executor):
        for outcome in outcomes_of(executor, map(_Item, items)):
            for text in outcome.warnings:
                warnings.warn(text, stacklevel=2)
            if outcome.stop is not None:
                raise outcome.stop
            if outcome.failure:
                raise AnalogmedError(f"{outcome.unit.title}: {outcome.failure}")
            yield outcome.value


@dataclass(frozen=True)
class _Item:
    """Argument of a function, as a unit of work."""

    value: Any

    @property
    def title(self) -> str:
        """Name of the item in messages."""
        return str(self.value)


@dataclass(frozen=True)
class _Calls:
    """Compute that calls a function with each item; its first error ends the work."""

    run: Callable[[Any], Any]
    fatal = (Exception,)

    def __call__(self, item: _Item, step: Step) -> Any:
        return self.run(item.value)


@dataclass(frozen=True)
class _MakeCalls:
    """Factory of the calls of a function in each process."""

    run: Callable[[Any], Any]

    def __call__(self) -> _Calls:
        return _Calls(self.run)


def markdown(table: pd.DataFrame) -> str:
    """Return a table of texts and numbers in Markdown, all aligned to the left."""
    heads = list(map(str, table.columns))
    rows = [list(map(str, row)) for row in table.itertuples(index=False)]
    return pipe_table(heads, rows, len(heads)) + "\n"


def with_interval(value: float, low: float, high: float, form: str = ".3f") -> str:
    """Return an estimate with its interval, such as ``0.850 (0.805 to 0.872)``."""
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
