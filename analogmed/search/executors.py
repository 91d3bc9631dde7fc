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

from analogmed.config import EngineConfig
from analogmed.foundation.errors import AnalogmedError, CheckpointError, ConfigError, DataError
from analogmed.foundation.process import keep_freed_memory
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


class _Slot:
    """One process, and the network that it evaluates.

    Args:
        make_evaluator: called once in the process.
    """

    def __init__(self, make_evaluator: MakeEvaluator) -> None:
        self.pool = ProcessPoolExecutor(
            1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(make_evaluator,),
        )
        self._started = self.pool.submit(os.getpid)

    @property
    def has_started(self) -> bool:
        """Whether the process has computed anything before it ended."""
        return self._started.done() and self._started.exception() is None

    def end(self) -> None:
        """End the process, at once if it is at work."""
        processes = list((self.pool._processes or {}).values())
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
            process.join()


@dataclass
class _Task:
    """A network in a slot, and how many processes were ended while they evaluated it."""

    claim: Claim
    folder: Path
    slot: _Slot
    ended: int = 0


class Processes:
    """Several processes. They end with this one.

    A network whose process is killed is evaluated once more, in a new process; if that is killed
    too, the network has failed.

    Args:
        workers: processes.
        make_evaluator: called once in each of them.
    """

    def __init__(self, workers: int, make_evaluator: MakeEvaluator) -> None:
        self.slots = workers
        self._make_evaluator = make_evaluator
        self._idle: list[_Slot] = []
        self._running: dict[Future[Outcome], _Task] = {}

    def submit(self, claim: Claim, folder: Path) -> None:
        """Take a network on."""
        slot = self._idle.pop() if self._idle else _Slot(self._make_evaluator)
        self._evaluate(_Task(claim, folder, slot))

    def next(self) -> Outcome:
        """Wait for one that is done.

        Raises:
            AnalogmedError: a process cannot start.
        """
        while True:
            done = next(iter(wait(self._running, return_when=FIRST_COMPLETED).done))
            task = self._running.pop(done)
            try:
                outcome = done.result()
            except BrokenProcessPool:
                task.ended += 1
            else:
                self._idle.append(task.slot)
                return outcome
            if not task.slot.has_started:
                raise AnalogmedError(
                    "engine.workers: a process ended while it started, see above; a script that "
                    "searches with several workers calls search() below if __name__ == '__main__'"
                )
            task.slot.end()
            number = task.claim.number
            if task.ended == _TRIES:
                how = f"WorkerDied: its process was killed {_TRIES} times"
                return Outcome(task.claim, failure=f"{how}, perhaps because memory ran out")
            warnings.warn(f"trial {number}: its process was killed; evaluated again", stacklevel=2)
            task.slot = _Slot(self._make_evaluator)
            self._evaluate(task)

    def close(self) -> None:
        """End all processes, and at once where they are at work; what they evaluate is lost."""
        for slot in self._idle:
            slot.pool.shutdown()
        for task in self._running.values():
            task.slot.end()

    def _evaluate(self, task: _Task) -> None:
        future = task.slot.pool.submit(_evaluate, task.claim, task.folder)
        self._running[future] = task


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
_TRIES = 2
_evaluator: list[Evaluator] = []
"""What a worker process has made."""


def _start(make_evaluator: MakeEvaluator) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(1)  # trainings set their own number
    _evaluator[:] = [make_evaluator()]


def _end_with_parent() -> None:
    parent: Any = multiprocessing.parent_process()
    parent.join()
    os._exit(1)


def _evaluate(claim: Claim, folder: Path) -> Outcome:
    return evaluated(_evaluator[0], claim, folder)
