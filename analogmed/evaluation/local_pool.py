"""Processes on this machine that compute units; one that is killed costs only its unit."""

import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from analogmed.config import Experiment
from analogmed.evaluation.plan import PlannedUnit, threads_of
from analogmed.evaluation.store import Store
from analogmed.evaluation.worker import CONCERNS_ALL, Outcome, Worker
from analogmed.foundation.errors import AnalogmedError
from analogmed.foundation.process import keep_freed_memory

ATTEMPTS = 2

_SPAWN = get_context("spawn")


@dataclass
class _Process:
    """One worker process, and the unit that it computes."""

    process: SpawnProcess
    connection: Connection
    unit: PlannedUnit | None = None
    ready: bool = False

    @property
    def handles(self) -> tuple[Any, Any]:
        return self.connection, self.process.sentinel


class LocalPool:
    """Several processes, each with its share of the processor's cores.

    Args:
        experiment: all settings.
        store: where results go.
        workers: processes.
    """

    def __init__(self, experiment: Experiment, store: Store, workers: int) -> None:
        self._job = (experiment, store.url)
        self._workers = workers
        self._threads = threads_of(experiment.engine)
        self._processes: list[_Process] = []
        self._started = 0

    def run(
        self, units: Sequence[PlannedUnit], on_case: Callable[[PlannedUnit], object]
    ) -> Iterator[Outcome]:
        """What became of each unit, as they are done.

        A unit whose process is killed is computed once more, in a new one.

        Raises:
            AnalogmedError: a process cannot start.
        """
        waiting = deque(units)
        attempts = dict.fromkeys((unit.key for unit in units), 0)
        while waiting or any(process.unit for process in self._processes):
            self._hand_out(waiting)
            for process in self._heard_of():
                message = _receive(process)
                process.ready |= message == "ready"
                if message == "case" and process.unit:
                    on_case(process.unit)
                elif isinstance(message, Outcome):
                    process.unit = None
                    yield message
                elif message is None:
                    yield from self._bury(process, waiting, attempts)

    def close(self) -> None:
        """Stop all processes at once; what they compute is lost, what is finished is kept."""
        for process in self._processes:
            process.process.kill()
        for process in self._processes:
            process.process.join()
            process.connection.close()
        self._processes = []

    def _hand_out(self, waiting: deque[PlannedUnit]) -> None:
        while waiting and (process := self._idle()):
            unit = waiting.popleft()
            process.unit = unit
            with suppress(OSError):  # it has died: seen below
                process.connection.send(unit)

    def _idle(self) -> _Process | None:
        for process in self._processes:
            if process.unit is None:
                return process
        return self._start() if len(self._processes) < self._workers else None

    def _start(self) -> _Process:
        ours, theirs = _SPAWN.Pipe()
        arguments = (theirs, *self._job, self._threads, self._started)
        process = _SPAWN.Process(target=serve, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._started += 1
        self._processes.append(_Process(process, ours))
        return self._processes[-1]

    def _heard_of(self) -> list[_Process]:
        ready = set(wait([handle for one in self._processes for handle in one.handles]))
        return [one for one in self._processes if ready & set(one.handles)]

    def _bury(
        self, process: _Process, waiting: deque[PlannedUnit], attempts: dict[str, int]
    ) -> Iterator[Outcome]:
        process.process.join()
        process.connection.close()
        self._processes.remove(process)
        code = process.process.exitcode or 0
        unit, how = process.unit, _ending(code)
        if code > 0 and not process.ready:
            raise AnalogmedError(
                f"a worker process {how} while it started, see above; a script that evaluates with "
                "several workers calls evaluate() below if __name__ == '__main__'"
            )
        if unit is None:
            return
        attempts[unit.key] += 1
        if attempts[unit.key] < ATTEMPTS:
            warnings.warn(f"{unit.title}: its process {how}; it is computed again", stacklevel=3)
            waiting.appendleft(unit)
        else:
            yield Outcome(unit, failure=f"WorkerDied: its process {how}, {ATTEMPTS} times")


def serve(
    connection: Connection, experiment: Experiment, store: str, threads: int, number: int
) -> None:
    """What a worker process does: compute the units that it is sent, until nobody listens.

    Args:
        connection: units come in; ``"ready"``, ``"case"`` after each case and outcomes go out.
        experiment: all settings.
        store: where results go.
        threads: that torch computes with.
        number: of the process, for its GPU.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started it decides
    keep_freed_memory()
    torch.set_num_threads(threads)
    if experiment.device == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())
    worker: Worker | None = None
    with suppress(EOFError, OSError):
        connection.send("ready")
        while True:
            unit = connection.recv()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                try:
                    worker = worker or Worker(experiment, Store(store))
                    outcome = worker.compute(unit, lambda: connection.send("case"))
                except CONCERNS_ALL as error:
                    outcome = Outcome(unit, stop=error)
            told = tuple(dict.fromkeys(str(warning.message) for warning in caught))
            connection.send(replace(outcome, warnings=told))


def _receive(process: _Process) -> Any:
    """The next message; ``None`` once the process has ended and said all."""
    try:
        if process.connection.poll():
            return process.connection.recv()
    except (EOFError, OSError):
        return None
    return "alive" if process.process.is_alive() else None


def _ending(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"was ended by {name}{memory}"
    return f"ended with status {code}"
