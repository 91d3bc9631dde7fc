"""Who computes the units of a sweep: this process, several on this machine, or a Ray cluster."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from analogmed.config import Experiment
from analogmed.data import Task
from analogmed.evaluation.local_pool import LocalPool
from analogmed.evaluation.plan import PlannedUnit
from analogmed.evaluation.store import Store
from analogmed.evaluation.worker import Outcome, Worker
from analogmed.foundation.errors import ConfigError

OnCase = Callable[[PlannedUnit], object]


class Engine(Protocol):
    """Computes units; their results go into the store."""

    def run(self, units: Sequence[PlannedUnit], on_case: OnCase) -> Iterator[Outcome]:
        """What became of each unit, as they are done, in any order.

        Args:
            units: what to compute.
            on_case: called with the unit after each case, where the engine hears of cases.
        """

    def close(self) -> None:
        """Stop what is still running."""


class InThisProcess:
    """Computes one unit after the other, here.

    Args:
        experiment: all settings.
        store: where results go.
        task: the data.
    """

    def __init__(self, experiment: Experiment, store: Store, task: Task) -> None:
        self._worker = Worker(experiment, store, task)

    def run(self, units: Sequence[PlannedUnit], on_case: OnCase) -> Iterator[Outcome]:
        """What became of each unit, in order."""
        for unit in units:
            yield self._worker.compute(unit, lambda unit=unit: on_case(unit))  # type: ignore[misc]

    def close(self) -> None:
        """Nothing is running."""


def make_engine(experiment: Experiment, store: Store, task: Task) -> Engine:
    """The engine that an experiment asks for.

    Raises:
        ConfigError: its package is not installed, its cluster does not answer, or other processes
            do not see the store.
    """
    engine = experiment.engine
    alone = engine.name == "local" and engine.workers in (None, 1)
    if store.in_memory and not alone:
        raise ConfigError(
            f"store {store} is seen by one process only: leave out engine, or take a folder"
        )
    if alone:
        return InThisProcess(experiment, store, task)
    if engine.name == "ray":
        from analogmed.evaluation.ray_engine import RayEngine

        return RayEngine(experiment, store)
    return LocalPool(experiment, store, engine.workers or 1)


def finished(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    """Outcomes with their warnings told, until one concerns all units.

    Raises:
        AnalogmedError: the error that does.
    """
    for outcome in outcomes:
        for text in outcome.warnings:
            warnings.warn(text, stacklevel=2)
        if outcome.stop is not None:
            raise outcome.stop
        yield outcome
