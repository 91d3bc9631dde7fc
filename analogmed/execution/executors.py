"""Selection of an executor: this process, several processes of this machine, or Ray."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from analogmed.execution.compute import Compute, Outcome, evaluate
from analogmed.execution.processes import ProcessExecutor
from analogmed.execution.settings import EngineConfig
from analogmed.execution.unit import Unit


class Executor(Protocol):
    """Executor of units.

    Attributes:
        slots: number of units that are computed at once.
    """

    slots: int

    def submit(self, unit: Any) -> None:
        """Accept a unit."""

    def next(self) -> Outcome:
        """Wait for the next finished unit."""

    def close(self) -> None:
        """Stop running units."""


class SerialExecutor:
    """Executor that computes units one by one in this process.

    Args:
        compute: callable that computes the units.
        on_step: callback with the unit after each of its cases.
    """

    slots = 1

    def __init__(
        self, compute: Compute, on_step: Callable[[Any], object] = lambda unit: None
    ) -> None:
        self._compute, self._on_step = compute, on_step
        self._waiting: deque[Any] = deque()

    def submit(self, unit: Any) -> None:
        """Accept a unit."""
        self._waiting.append(unit)

    def next(self) -> Outcome:
        """Compute the next unit."""
        unit = self._waiting.popleft()
        return evaluate(self._compute, unit, lambda: self._on_step(unit))

    def close(self) -> None:
        """Do nothing, since no unit is running."""


def make_executor(
    engine: EngineConfig,
    make: Callable[[], Compute],
    *,
    threads: int = 1,
    device: str = "cpu",
    on_step: Callable[[Any], object] = lambda unit: None,
) -> Executor:
    """Return the executor that the settings select.

    Args:
        engine: settings of the executor.
        make: factory of the compute, called once in each process; for other processes it must be
            picklable, and equal by value in two equal runs.
        threads: number of torch's threads in other processes.
        device: device for the units; each process uses the next GPU of ``"cuda"``.
        on_step: callback with the unit after each of its cases; Ray does not report cases.

    Raises:
        ConfigError: Ray is not installed, its cluster does not respond, or the cluster lacks the
            resources of a unit.
    """
    if engine.is_serial:
        return SerialExecutor(make(), on_step)
    if engine.name == "ray":
        from analogmed.execution.ray_cluster import RayExecutor

        return RayExecutor(engine, make, threads)
    return ProcessExecutor(
        engine.workers or 1, make, threads=threads, device=device, on_step=on_step
    )


def outcomes_of(executor: Executor, units: Iterable[Unit]) -> Iterator[Outcome]:
    """Compute units in all slots of the executor, and yield their outcomes as they finish."""
    waiting, running = deque(units), 0
    while waiting or running:
        while waiting and running < executor.slots:
            executor.submit(waiting.popleft())
            running += 1
        yield executor.next()
        running -= 1
