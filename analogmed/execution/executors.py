"""The choice of an executor: this process, several on this machine, or Ray."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from analogmed.execution.compute import Compute, Outcome
from analogmed.execution.processes import ProcessExecutor
from analogmed.execution.serial import SerialExecutor
from analogmed.execution.settings import EngineConfig
from analogmed.execution.unit import Unit


class Executor(Protocol):
    """Computes units.

    Attributes:
        slots: number of units that it computes at once.
    """

    slots: int

    def submit(self, unit: Any) -> None:
        """Accept a unit."""

    def next(self) -> Outcome:
        """Wait for the next unit that is done."""

    def close(self) -> None:
        """Stop what is still running."""


def make_executor(
    engine: EngineConfig,
    make: Callable[[], Compute],
    *,
    threads: int = 1,
    device: str = "cpu",
    on_step: Callable[[Any], object] = lambda unit: None,
) -> Executor:
    """Return the executor that the settings name.

    Args:
        engine: its settings.
        make: makes what computes the units, once in each process; where this is not this process,
            it has to be picklable, and equal by value in two runs that are equal.
        threads: number of torch's threads in other processes.
        device: where units are computed; each process takes the next GPU of ``"cuda"``.
        on_step: called with the unit after each of its cases; Ray does not report cases.

    Raises:
        ConfigError: Ray is not installed, its cluster does not answer, or lacks what a unit needs.
    """
    if engine.name == "ray":
        from analogmed.execution.ray_cluster import RayExecutor

        return RayExecutor(engine, make, threads)
    if engine.workers in (None, 1):
        return SerialExecutor(make(), on_step)
    return ProcessExecutor(
        engine.workers or 1, make, threads=threads, device=device, on_step=on_step
    )


def outcomes_of(executor: Executor, units: Iterable[Unit]) -> Iterator[Outcome]:
    """Compute units, as many at once as the executor has slots for; yield them as they are done."""
    waiting, running = deque(units), 0
    while waiting or running:
        while waiting and running < executor.slots:
            executor.submit(waiting.popleft())
            running += 1
        yield executor.next()
        running -= 1
