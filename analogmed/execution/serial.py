"""Execution in this process."""

from collections import deque
from collections.abc import Callable
from typing import Any

from analogmed.execution.compute import Compute, Outcome, evaluate


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
