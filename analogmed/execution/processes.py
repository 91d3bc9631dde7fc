"""Execution in several processes of this machine; the unit of a killed process is retried."""

import atexit
import os
import signal
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from analogmed.execution.compute import Compute, CreatedOnFirstUse, Outcome, evaluate
from analogmed.foundation.errors import AnalogmedError
from analogmed.foundation.process import keep_freed_memory

TRIES = 2
"""Maximum number of processes that are killed while they compute one unit."""

_SPAWN = get_context("spawn")
if sys.platform == "linux":
    _CONTEXT = get_context("forkserver")
else:
    _CONTEXT = _SPAWN
"""Start of processes: on Linux, as copies of one that has imported what all of them need."""
_SAFE_PATH = "PYTHONSAFEPATH"


@dataclass
class _Process:
    """Worker process and the unit that it computes."""

    process: BaseProcess
    connection: Connection
    unit: Any = None
    ready: bool = False

    @property
    def handles(self) -> tuple[Any, Any]:
        return self.connection, self.process.sentinel


@dataclass
class _Task:
    """Unfinished unit and the number of processes that ended while they computed it."""

    unit: Any
    ended: int = 0


class ProcessExecutor:
    """Executor with several processes, which end with this one.

    If the process of a unit is killed, the unit is computed once more in a new process. If that is
    killed too, the unit has failed.

    Args:
        workers: number of processes.
        make: factory of the compute, called once in each process.
        threads: number of torch's threads in each process.
        device: device for the units; each process uses the next GPU of ``"cuda"``.
        on_step: callback with the unit after each of its cases.
    """

    def __init__(
        self,
        workers: int,
        make: Callable[[], Compute],
        *,
        threads: int = 1,
        device: str = "cpu",
        on_step: Callable[[Any], object] = lambda unit: None,
    ) -> None:
        self.slots = workers
        self._job = (make, threads, device)
        self._on_step = on_step
        self._processes: list[_Process] = []
        self._waiting: deque[_Task] = deque()
        self._started = 0
        atexit.register(self.close)

    def submit(self, unit: Any) -> None:
        """Accept a unit."""
        self._waiting.append(_Task(unit))
        self._dispatch()

    def next(self) -> Outcome:
        """Wait for the next finished unit.

        Raises:
            AnalogmedError: a process cannot start.
        """
        while True:
            self._dispatch()
            for process in self._poll():
                outcome = self._handle(process, _receive(process))
                if outcome is not None:
                    return outcome

    def close(self) -> None:
        """End all workers immediately; units in progress are lost.

        On Linux, the process that they were copied from stays for later ones, and ends with this.
        """
        for process in self._processes:
            process.process.kill()
        for process in self._processes:
            process.process.join()
            process.connection.close()
        self._processes = []
        atexit.unregister(self.close)

    def _dispatch(self) -> None:
        while self._waiting and (process := self._idle()):
            task = self._waiting.popleft()
            process.unit = task
            with suppress(OSError):  # the process has ended: handled when it is polled
                process.connection.send(task.unit)

    def _idle(self) -> _Process | None:
        for process in self._processes:
            if process.unit is None:
                return process
        return self._start() if len(self._processes) < self.slots else None

    def _start(self) -> _Process:
        ours, theirs = _CONTEXT.Pipe()
        process = _started_process(theirs, *self._job, self._started)
        theirs.close()
        self._started += 1
        self._processes.append(_Process(process, ours))
        return self._processes[-1]

    def _poll(self) -> list[_Process]:
        ready = set(wait([handle for one in self._processes for handle in one.handles]))
        return [one for one in self._processes if ready & set(one.handles)]

    def _handle(self, process: _Process, message: Any) -> Outcome | None:
        process.ready |= message == "ready"
        if message == "step" and process.unit:
            self._on_step(process.unit.unit)
        if isinstance(message, Outcome):
            process.unit = None
            return message
        return self._handle_exit(process) if message is None else None

    def _handle_exit(self, process: _Process) -> Outcome | None:
        process.process.join()
        process.connection.close()
        self._processes.remove(process)
        code = process.process.exitcode or 0
        task, how = process.unit, _ending(code)
        if code > 0 and not process.ready:
            raise AnalogmedError(
                f"engine.workers: a worker process {how} while it started, see above; a script "
                "that uses several workers starts them below if __name__ == '__main__'"
            )
        if task is None:
            return None
        task.ended += 1
        if task.ended == TRIES:
            failure = f"WorkerDied: its process {how}, {TRIES} times"
            return Outcome(task.unit, failure=failure)
        warnings.warn(f"{task.unit.title}: its process {how}; it is computed again", stacklevel=4)
        self._waiting.appendleft(task)
        return None


def _started_process(*job: Any) -> BaseProcess:
    """Start a process with a job; see :func:`worker_loop`."""
    arguments = (dict(os.environ), *job)
    process: BaseProcess = _CONTEXT.Process(target=worker_loop, args=arguments)
    try:
        with _preloading():
            process.start()
    except (OSError, EOFError):  # such as a temporary folder whose path is too long for a socket
        process = _SPAWN.Process(target=worker_loop, args=arguments)
        process.start()
    return process


@contextmanager
def _preloading() -> Iterator[None]:
    """Let the process that is copied, which the first start starts, import what this one has.

    It must not import from the current folder, in which another copy of the package may be.
    """
    _CONTEXT.set_forkserver_preload(imported())
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def imported() -> list[str]:
    """Return the modules of this package that this process has imported, and MONAI if it has."""
    package = __name__.partition(".")[0]
    loaded = [name for name in sys.modules if name.partition(".")[0] == package or name == "monai"]
    return [name for name in loaded if not name.endswith("__main__")]


def worker_loop(
    environment: dict[str, str],
    connection: Connection,
    make: Callable[[], Compute],
    threads: int,
    device: str,
    number: int,
) -> None:
    """Compute the units received over a connection, until the parent process ends.

    Args:
        environment: environment of the parent process, which may have changed since the process
            that was copied started.
        connection: connection that receives units, and sends ``"ready"``, ``"step"`` after each
            case, and outcomes.
        make: factory of the compute.
        threads: number of torch's threads.
        device: device for the units.
        number: number of the process, which selects its GPU.
    """
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process handles interrupts
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.cuda.set_device(number % torch.cuda.device_count())
    compute = CreatedOnFirstUse(make, {})
    with suppress(EOFError, OSError):
        connection.send("ready")
        while True:
            unit = connection.recv()
            connection.send(evaluate(compute, unit, lambda: connection.send("step")))


def _end_with_parent() -> None:
    parent: Any = parent_process()
    parent.join()
    os._exit(1)


def _receive(process: _Process) -> Any:
    """Return the next message; ``None`` if the process has ended and all messages are read."""
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
