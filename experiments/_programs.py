"""Parallel execution of programs and functions, and formatting of their tables."""

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from typing import TypeVar

import pandas as pd

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

    Args:
        run: function of a module, or ``partial`` of one.
        items: its arguments.
        workers: processes; 1 computes here, in the order of the items.
    """
    if workers == 1:
        yield from map(run, items)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for done in as_completed([pool.submit(run, item) for item in items]):
                yield done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def markdown(table: pd.DataFrame) -> str:
    """Return a table of texts and numbers in Markdown, all aligned to the left."""
    heads = list(map(str, table.columns))
    rows = [list(map(str, row)) for row in table.itertuples(index=False)]
    return pipe_table(heads, rows, len(heads)) + "\n"


def replace_between(text: str, name: str, table: str) -> str:
    """Return the text of a page with a table between the markers of its name.

    The markers are ``<!-- NAME -->`` and ``<!-- end of NAME -->``.
    """
    start, stop = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if start not in text or stop not in text:
        raise SystemExit(f"the document has no '{start}' and '{stop}' to put the table between")
    return text[: text.index(start) + len(start)] + f"\n{table}\n" + text[text.index(stop) :]


def with_interval(value: float, low: float, high: float, form: str = ".3f") -> str:
    """Return an estimate with its interval, such as ``0.850 (0.805 to 0.872)``."""
    return f"{value:{form}} ({low:{form}} to {high:{form}})"
