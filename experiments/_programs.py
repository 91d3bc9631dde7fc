"""Programs and functions that experiments run in parallel, and tables that they write."""

import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from analogmed.evaluation.summaries.runs import present_structures
from analogmed.execution.compute import Step
from analogmed.execution.executors import make_executor, outcomes_of
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.errors import AnalogmedError
from analogmed.foundation.files import write_text_atomically
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


def train_pair(
    training: Sequence[str], model: Sequence[str], out: Path, *, hwa: Sequence[str] = ()
) -> tuple[Path, Path, Path]:
    """Train a network digitally, and from this start once digitally and once hardware-aware.

    Args:
        training: settings of all three trainings.
        model: settings of the network.
        out: folder of the runs ``start``, ``digital`` and ``hwa``.
        hwa: further settings of the hardware-aware training.

    Returns:
        the three run folders.
    """
    start, digital, aware = (out / name for name in ("start", "digital", "hwa"))
    further = [*training, f"--init={start}"]
    run_program("train", [*training, *model, f"--out={start}"])
    run_program("train", [*further, f"--out={digital}"])
    run_program("train", [*further, "--training=hwa", *hwa, f"--out={aware}"])
    return start, digital, aware


def evaluate_networks(
    data: Sequence[str],
    networks: Sequence[Path],
    out: Path,
    *,
    chips: int,
    times_s: Sequence[int],
    further: Sequence[str] = (),
) -> None:
    """Evaluate networks on the same chips, with ``python -m analogmed.eval``.

    Args:
        data: settings of the task.
        networks: files or run folders of the networks.
        out: run folder of the evaluation.
        chips: number of chips.
        times_s: times after programming, in s.
        further: further settings.
    """
    checkpoints = f"--checkpoints=[{', '.join(map(str, networks))}]"
    sweep = [f"--sweep.chips={chips}", f"--sweep.times_s={list(times_s)}", "--batch_size=32"]
    run_program("eval", [*data, checkpoints, *sweep, *further, f"--out={out}"])


def case_values(results: pd.DataFrame, metric: str = "dice") -> dict[object, pd.DataFrame]:
    """Return the values of each case: those of the digital run, and those at each time on chips.

    Args:
        results: rows of one network in the table ``results.parquet`` of an evaluation.
        metric: name of the metric; a case has the mean over its classes, without those that the
            task scores on their own, and structures that it lacks.

    Returns:
        one row per patient and case, one column per chip (one in all for the digital run), by time
        in s, and by ``"digital"``.
    """
    table = present_structures(results[results["metric"] == metric])
    table = table.assign(chip=table["chip"].fillna(-1))
    return {
        "digital" if pd.isna(time_s) else time_s: rows.pivot_table(
            "value", ["patient", "case"], "chip", "mean"
        )
        for time_s, rows in table.groupby("time_s", dropna=False)
    }


def write_table(folder: Path, name: str, table: pd.DataFrame, text: str = "") -> None:
    """Write a table as ``NAME.csv`` and its text, if any, as ``NAME.md``, each atomically."""
    write_text_atomically(folder / f"{name}.csv", table.to_csv(index=False))
    if text:
        write_text_atomically(folder / f"{name}.md", text)


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
