"""Computation of units and their outcomes."""

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from analogmed.execution.unit import Unit
from analogmed.foundation.credentials import masked

Step = Callable[[], object]


class Compute(Protocol):
    """Callable that computes units one by one, and reuses loaded data between them.

    It is created once in each process.
    """

    @property
    def fatal(self) -> tuple[type[Exception], ...]:
        """Classes of errors that would occur for all units."""

    def __call__(self, unit: Any, step: Step) -> Any:
        """Return the result of a unit.

        Args:
            unit: unit of work.
            step: callback after each case.
        """


@dataclass(frozen=True)
class Outcome:
    """Outcome of a unit.

    Attributes:
        unit: unit of work.
        value: result of the unit; ``None`` if it failed.
        failure: class and message of the error; empty if there is a result.
        stop: error that concerns all units.
        seconds: computing time in s.
        warnings: texts of the warnings during the computation.
    """

    unit: Any
    value: Any = None
    failure: str = ""
    stop: Exception | None = None
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def evaluate(compute: Compute, unit: Unit, step: Step = lambda: None) -> Outcome:
    """Compute a unit, and return an outcome that includes its errors and warnings.

    Args:
        compute: callable that computes the unit.
        unit: unit of work.
        step: callback after each case.
    """
    start = time.monotonic()
    value, failure, stop = None, "", None  # type: Any, str, Exception | None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            value = compute(unit, step)
        except compute.fatal as error:
            stop = error
        except Exception as error:
            failure = failure_text(error)
    texts = tuple(dict.fromkeys(str(warning.message) for warning in caught))
    return Outcome(unit, value, failure, stop, time.monotonic() - start, texts)


class CreatedOnFirstUse:
    """Compute that is created at the first unit of a process.

    Errors of its creation are therefore errors of a unit.

    Args:
        make: factory of the compute.
        created: computes of this process by the ``repr`` of their factory; at most one is kept.
    """

    def __init__(self, make: Callable[[], Compute], created: dict[str, Compute]) -> None:
        self._make, self._name, self._created = make, repr(make), created

    @property
    def fatal(self) -> tuple[type[Exception], ...]:
        """Errors of all units: any error of the creation, then those of the compute."""
        return self._created[self._name].fatal if self._name in self._created else (Exception,)

    def __call__(self, unit: Any, step: Step) -> Any:
        """Return the result of a unit."""
        if self._name not in self._created:
            self._created.clear()
            self._created[self._name] = self._make()
        return self._created[self._name](unit, step)


def failure_text(error: BaseException) -> str:
    """Return class and message of an error on one line, without credentials."""
    text = masked(" ".join(str(error).split()))
    return f"{type(error).__name__}: {text}"[:_LONGEST]


_LONGEST = 500
