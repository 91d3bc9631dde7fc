"""Execution of the units of a study with the engine and store of its settings."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from analogmed.data import Task
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.unit_inputs import threads_of
from analogmed.execution.compute import Compute, Outcome
from analogmed.execution.plans import Finished, Rounds, Workers, run_plan
from analogmed.execution.store import Store, UnitResult
from analogmed.foundation.credentials import masked
from analogmed.foundation.progress import announce

C = TypeVar("C", bound=Experiment)
R = TypeVar("R")


@dataclass(frozen=True)
class MakeCompute(Generic[C]):
    """Factory of the compute of a study in another process.

    Attributes:
        compute: class of the compute.
        config: settings of the study.
    """

    compute: Callable[[C, Task | None], Compute]
    config: C

    def __call__(self) -> Compute:
        """Return a compute that loads the data and compares them with each unit."""
        return self.compute(self.config, None)


def open_store(config: Experiment) -> Store:
    """Return the store of the settings, by default in the run folder.

    Raises:
        ConfigError: the store cannot be written.
    """
    store = Store(config.store or config.folder)
    store.ensure_writable()
    return store


def run_units(
    plan: Rounds[R],
    compute: Callable[[C, Task | None], Compute],
    config: C,
    task: Task,
    store: Store,
    *,
    cases: int,
    failed: Callable[[Outcome], UnitResult] | None = None,
) -> Finished[R]:
    """Compute the units of a study that are missing from the store.

    Args:
        plan: generator of rounds of units.
        compute: class of the compute, called with the settings, and with the data in this process.
        config: settings of the study.
        task: data of the study.
        store: store of finished units.
        cases: number of cases of one pass, for the progress bar.
        failed: function that returns the result in place of a failed unit's; ``None`` if a failed
            unit ends the run.

    Raises:
        AnalogmedError, KeyboardInterrupt: see :func:`run_plan`.
    """
    workers = Workers(
        compute(config, task),
        MakeCompute(compute, config),
        config.engine,
        threads_of(config.engine),
        config.device,
    )
    done = run_plan(plan, workers, store, cases=cases, restart=config.restart, failed=failed)
    announce("computing intervals, tables and figures")
    return done


class Reused(Protocol):
    """Numbers of units, and when the reused ones were computed."""

    @property
    def units(self) -> int:
        """Number of units."""

    @property
    def reused(self) -> int:
        """Number of units that were already in the store."""

    @property
    def computed(self) -> tuple[datetime, datetime] | None:
        """Times at which the first and the last reused unit were computed, if recorded."""


def describe_reuse(found: Reused, config: Experiment, what: str = "units") -> str:
    """Return a sentence about the reused results of a study; empty if all are new.

    Args:
        found: numbers of units.
        config: settings of the study.
        what: name of the units in the plural.
    """
    if not found.reused:
        return ""
    store = masked(str(config.store or config.folder))
    times = [time.astimezone().strftime("%Y-%m-%d %H:%M") for time in found.computed or ()]
    when = f", computed {' to '.join(dict.fromkeys(times))}" if times else ""
    return (
        f"{found.reused} of {found.units} {what} are reused from {store}{when}; "
        "--restart true computes them again"
    )
