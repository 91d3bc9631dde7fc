"""Who evaluates the networks of a search: this process, several on this machine, or Ray."""

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from analogmed.allocator import keep_freed_memory
from analogmed.config import EngineConfig
from analogmed.errors import AnalogmedError, CheckpointError, ConfigError, DataError
from analogmed.search.evaluator import Evaluator
from analogmed.search.ledger import Claim

CONCERNS_ALL = (ConfigError, DataError, CheckpointError, OSError)
"""Errors that other candidates would have too: they stop the search."""

MakeEvaluator = Callable[[], Evaluator]


@dataclass(frozen=True)
class Outcome:
    """What became of a network.

    Attributes:
        claim: which.
        metrics: what was found of it; empty if it failed.
        failure: class and message of its error.
        seconds: that it took.
        stop: error that concerns the whole search.
        warnings: what was warned of.
    """

    claim: Claim
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    seconds: float = 0.0
    stop: Exception | None = None
    warnings: tuple[str, ...] = ()


class Executor(Protocol):
    """Evaluates networks.

    Attributes:
        slots: networks that it evaluates at once.
    """

    slots: int

    def submit(self, claim: Claim, folder: Path) -> None:
        """Take a network on."""

    def next(self) -> Outcome:
        """Wait for one that is done."""

    def close(self) -> None:
        """Stop what is still in work."""


def make_executor(engine: EngineConfig, make_evaluator: MakeEvaluator) -> Executor:
    """The executor that a search asks for.

    Args:
        engine: kind, and how many networks at once.
        make_evaluator: called once in each process that evaluates.

    Raises:
        ConfigError: its package is not installed, or its cluster does not answer.
    """
    if engine.name == "ray":
        from analogmed.search.ray_executor import RayExecutor

        return RayExecutor(engine, make_evaluator)
    if engine.workers in (None, 1):
        return InThisProcess(make_evaluator())
    return Processes(engine.workers or 1, make_evaluator)


class InThisProcess:
    """Evaluates one network after the other, here.

    Args:
        evaluator: of networks.
    """

    slots = 1

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator
        self._waiting: list[tuple[Claim, Path]] = []

    def submit(self, claim: Claim, folder: Path) -> None:
        """Take a network on."""
        self._waiting.append((claim, folder))

    def next(self) -> Outcome:
        """Evaluate it."""
        return evaluated(self._evaluator, *self._waiting.pop(0))

    def close(self) -> None:
        """Nothing is running."""


class Processes:
    """Several processes, each with its share of the processor's cores. They end with this one.

    Args:
        workers: processes.
        make_evaluator: called once in each of them.
    """

    def __init__(self, workers: int, make_evaluator: MakeEvaluator) -> None:
        self.slots = workers
        threads = max(1, len(os.sched_getaffinity(0)) // workers)
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(make_evaluator, threads),
        )
        self._running: dict[Future[Outcome], Claim] = {}

    def submit(self, claim: Claim, folder: Path) -> None:
        """Take a network on."""
        self._running[self._pool.submit(_evaluate, claim, folder)] = claim

    def next(self) -> Outcome:
        """Wait for one that is done.

        Raises:
            AnalogmedError: a process was ended from outside.
        """
        done = next(iter(wait(self._running, return_when=FIRST_COMPLETED).done))
        del self._running[done]
        try:
            return done.result()
        except BrokenProcessPool as error:
            raise AnalogmedError(
                "a process that evaluates was ended, perhaps for want of memory: give fewer "
                "--engine.workers; the same command goes on"
            ) from error

    def close(self) -> None:
        """End all processes, and at once where they are at work; what they evaluate is lost."""
        if not self._running:
            self._pool.shutdown()
            return
        processes = list((self._pool._processes or {}).values())
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            process.join()


def evaluated(evaluator: Evaluator, claim: Claim, folder: Path) -> Outcome:
    """Evaluate a network; its errors and warnings are part of the outcome."""
    start = time.monotonic()
    metrics: Mapping[str, float] = {}
    failure, stop = "", None  # type: str, Exception | None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            metrics = evaluator.evaluate(claim.genotype, folder)
        except CONCERNS_ALL as error:
            stop = error
        except Exception as error:  # of one network: the search goes on
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST]
    told = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return Outcome(claim, metrics, failure, time.monotonic() - start, stop, told)


_LONGEST = 500
_evaluator: list[Evaluator] = []
"""What a worker process has made."""


def _start(make_evaluator: MakeEvaluator, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    _evaluator[:] = [make_evaluator()]


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)


def _evaluate(claim: Claim, folder: Path) -> Outcome:
    return evaluated(_evaluator[0], claim, folder)
