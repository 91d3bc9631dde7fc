"""Overhead of a sweep in addition to forward passes and the programming of chips.

    python benchmarks/sweep.py [--only shipped full] [--rounds 3] [--chips 5] [--json FILE]

A whole evaluation, from the settings to the written tables and figures, in this process with one
thread, into a new folder. The time in networks (including calibration) and in programming, ageing
and reading chips is measured per call. The rest is overhead: loading, planning, metrics, the store,
intervals and figures. ``shipped`` is the brain phantom in its default size (64 x 64), ``full`` has
slices of 256 x 256, as LGG. Shares refer to elapsed time; the table reports medians over the
rounds.
"""

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from _sweeps import SHIPPED, begun, finish, parser

from analogmed.analog import Chip, ChipSnapshot
from analogmed.config import Experiment, SweepConfig, TaskConfig
from analogmed.evaluation import deploy, evaluate, passes
from analogmed.evaluation.studies.robustness.study import Results
from analogmed.execution.store import Store
from analogmed.metrics import case
from analogmed.report.text_table import pipe_table

NETWORKS = ("unet-digital", "unet-hwa")
WORKLOADS: dict[str, dict[str, Any]] = {"shipped": {}, "full": {"phantom_size": 256}}
WORK = ("forward", "programming")
PARTS = (*WORK, "metrics", "store", "tables and figures", "rest")


def main() -> None:
    """Measure, print the table, and write JSON if requested."""
    arguments = _arguments()
    document = begun("sweep", arguments) | {"rows": []}
    for name in arguments.only:
        runs = [measure(name, arguments) for _ in range(arguments.rounds)]
        middle = {part: statistics.median(run[part] for run in runs) for part in runs[0]}
        overheads = [run["overhead"] for run in runs]
        spread = [min(overheads), max(overheads)]
        document["rows"].append({"workload": name, **middle, "range": spread})
    finish(document, as_table(document["rows"]), arguments.json, times=7, end="one thread")


def measure(workload: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Return the time of each part of one evaluation and in total, and the share of overhead."""
    options = WORKLOADS[workload] | json.loads(arguments.task_options)
    with tempfile.TemporaryDirectory() as name:
        experiment = Experiment(
            task=TaskConfig(options=options),
            checkpoints=tuple(
                arguments.checkpoints or [SHIPPED / f"{n}.safetensors" for n in NETWORKS]
            ),
            sweep=SweepConfig(chips=arguments.chips),
            out=Path(name),
        )
        experiment.task.load()  # generates the phantom, which is not part of a sweep
        clock = Clock()
        start = time.perf_counter()
        with warnings.catch_warnings(), counted(clock):
            warnings.simplefilter("ignore")
            evaluate(experiment)
        whole_s = time.perf_counter() - start
    seconds = {part: clock.seconds[part] for part in PARTS[:-1]}
    seconds["rest"] = whole_s - sum(seconds.values())
    overhead = 1.0 - sum(seconds[part] for part in WORK) / whole_s
    return seconds | {"whole": whole_s, "overhead": overhead}


class Clock:
    """Time by part; a part inside another one counts for the inner one only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[tuple[str, float]] = []

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are timed."""

        def call(*arguments: Any, **named: Any) -> Any:
            self._switch()
            self._open.append((part, time.perf_counter()))
            try:
                return function(*arguments, **named)
            finally:
                self._switch()
                self._open.pop()
                if self._open:
                    self._open[-1] = (self._open[-1][0], time.perf_counter())

        return call

    def _switch(self) -> None:
        """Add the time since the last switch to the innermost part."""
        if self._open:
            part, since = self._open[-1]
            self.seconds[part] += time.perf_counter() - since


@contextmanager
def counted(clock: Clock) -> Iterator[None]:
    """Time all parts of a sweep inside the block."""
    predict = passes.predict_each

    def predict_counted(network: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        timed = clock.timed("forward", network)
        return predict(timed, *arguments, **named)

    methods = {
        (Chip, "__init__"): "programming",
        (Chip, "at"): "programming",
        (ChipSnapshot, "restart"): "programming",
        (Store, "write"): "store",
        (Results, "write"): "tables and figures",
        (deploy, "calibrate"): "forward",
        (case, "case_metrics"): "metrics",
    }
    with ExitStack() as stack:
        stack.enter_context(patch.object(passes, "predict_each", predict_counted))
        for (owner, name), part in methods.items():
            timed = clock.timed(part, getattr(owner, name))
            stack.enter_context(patch.object(owner, name, timed))
        yield


def as_table(rows: list[dict[str, Any]]) -> str:
    """Return the rows in Markdown."""
    heads = ["workload", "whole s", *(f"{part} s" for part in PARTS), "overhead (spread)"]
    cells = []
    for row in rows:
        seconds = [f"{row[part]:.1f}" for part in ("whole", *PARTS)]
        low, high = row["range"]
        share = f"{row['overhead']:.1%} ({low:.1%} to {high:.1%})"
        cells.append([row["workload"], *seconds, share])
    return pipe_table(heads, cells)


def _arguments() -> argparse.Namespace:
    options = parser(__doc__, chips=5)
    options.add_argument("--only", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    return options.parse_args()


if __name__ == "__main__":
    main()
