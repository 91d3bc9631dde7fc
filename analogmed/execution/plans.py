"""Execution of a plan: stored units are reused, missing units are computed and stored."""

import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar

from analogmed.execution.compute import Compute, Outcome, Step
from analogmed.execution.executors import Executor, SerialExecutor, make_executor, outcomes_of
from analogmed.execution.progress import Progress
from analogmed.execution.settings import EngineConfig
from analogmed.execution.store import Store, UnitResult
from analogmed.execution.unit import Unit
from analogmed.foundation.errors import AnalogmedError, ConfigError

R = TypeVar("R")
Results = Mapping[str, UnitResult]
Rounds = Generator[Sequence[Unit], Results, R]
"""Generator that yields units in rounds, is sent all results by key, and returns a value."""


@dataclass(frozen=True)
class Finished(Generic[R]):
    """Result of a plan.

    Attributes:
        value: value that the plan returned.
        units: number of units of the plan.
        reused: number of units that were already in the store.
        failures: title and cause of each failed unit.
        computed: times at which the first and the last reused unit were computed; ``None`` if none
            was reused, or the store does not record it.
    """

    value: R
    units: int
    reused: int
    failures: tuple[str, ...] = ()
    computed: tuple[datetime, datetime] | None = None


@dataclass(frozen=True)
class StoringCompute:
    """Compute that writes the results of another one into a store.

    Attributes:
        compute: compute that returns a ``UnitResult`` for each unit.
        store: store for the results.
    """

    compute: Compute
    store: Store

    @property
    def fatal(self) -> tuple[type[Exception], ...]:
        """Classes of errors that would occur for all units."""
        return self.compute.fatal

    def __call__(self, unit: Unit, step: Step) -> None:
        """Compute a unit and store its result."""
        self.store.write(unit.description, self.compute(unit, step))


@dataclass(frozen=True)
class MakeStoring:
    """Factory of a storing compute in another process.

    Attributes:
        make: factory of the compute.
        store: URL of the store.
    """

    make: Callable[[], Compute]
    store: str

    def __call__(self) -> StoringCompute:
        """Return the compute."""
        return StoringCompute(self.make(), Store(self.store))


@dataclass(frozen=True)
class Workers:
    """Computation of the units of a plan.

    Attributes:
        compute: compute in this process, used if the engine is serial.
        make: factory of the compute for other processes: picklable, and equal by value in two equal
            runs.
        engine: settings of the executor.
        threads: number of torch's threads in other processes.
        device: device for the units.
    """

    compute: Compute
    make: Callable[[], Compute]
    engine: EngineConfig
    threads: int = 1
    device: str = "cpu"

    def executor(self, store: Store, on_step: Callable[[Unit], object]) -> Executor:
        """Return the executor of the settings, which writes results into a store.

        Raises:
            ConfigError: the executor's package is not installed, its cluster does not respond, or
                other processes cannot access the store.
        """
        if self.engine.is_serial:
            return SerialExecutor(StoringCompute(self.compute, store), on_step)
        if store.in_memory:
            raise ConfigError(
                f"--store {store}: a store in memory is seen by one process only; expected a "
                "folder or URL for several processes. Leave out --engine, or give another --store."
            )
        return make_executor(
            self.engine,
            MakeStoring(self.make, store.url),
            threads=self.threads,
            device=self.device,
            on_step=on_step,
        )


def run_plan(
    plan: Rounds[R],
    workers: Workers,
    store: Store,
    *,
    cases: int = 1,
    restart: bool = False,
    failed: Callable[[Outcome], UnitResult] | None = None,
) -> Finished[R]:
    """Compute the units of a plan that are missing from the store.

    Args:
        plan: generator of rounds of units; a unit may be part of several rounds.
        workers: computation of the units.
        store: store of finished units.
        cases: number of cases of one pass, for the progress bar.
        restart: compute stored units again and replace them.
        failed: function that returns the result in place of a failed unit's; ``None`` if a failed
            unit ends the run.

    Raises:
        AnalogmedError: an error concerns all units, a unit has failed without a replacement, or all
            units have failed.
        KeyboardInterrupt: the run was interrupted; the message reports the number of stored units
            and how to resume.
    """
    return _PlanRunner(plan, store, restart, failed).run(workers, cases)


class _PlanRunner(Generic[R]):
    def __init__(
        self,
        plan: Rounds[R],
        store: Store,
        restart: bool,
        failed: Callable[[Outcome], UnitResult] | None,
    ) -> None:
        self._plan, self._store, self._restart, self._replacement = plan, store, restart, failed
        self._units: dict[str, Unit] = {}
        self._results: dict[str, UnitResult] = {}
        self._reused: dict[str, datetime | None] = {}
        self._failures: dict[str, str] = {}

    def run(self, workers: Workers, cases: int) -> Finished[R]:
        try:
            with (
                Progress(cases) as progress,
                closing(workers.executor(self._store, progress.case)) as executor,
            ):
                value = self._rounds(executor, progress)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_resume()) from None
        times = [time for time in self._reused.values() if time is not None]
        computed = (min(times), max(times)) if times else None
        return Finished(value, len(self._units), len(self._reused), self._all_failed(), computed)

    def _rounds(self, executor: Executor, progress: Progress) -> R:
        results: Results | None = None
        while True:
            try:
                units = next(self._plan) if results is None else self._plan.send(results)
            except StopIteration as end:
                value: R = end.value
                return value
            for unit in units:  # the order of failures is that of the last round
                self._units.pop(unit.key, None)
                self._units[unit.key] = unit
            self._complete(units, executor, progress)
            results = self._results

    def _complete(self, units: Sequence[Unit], executor: Executor, progress: Progress) -> None:
        stored = self._store.keys()
        distinct = {unit.key: unit for unit in units if unit.key not in self._results}
        missing = [unit for unit in distinct.values() if not self._take(unit, stored)]
        progress.expect(missing)
        for outcome in outcomes_of(executor, missing):
            for text in outcome.warnings:
                warnings.warn(text, stacklevel=2)
            if outcome.stop is not None:
                raise outcome.stop
            self._keep(outcome)
            progress.finish(outcome.unit)

    def _take(self, unit: Unit, stored: set[str]) -> bool:
        """Take the result of a unit from the store, if it is present, intact and usable."""
        if unit.key not in stored:
            return False
        if self._restart:
            self._store.remove(unit.key)
            return False
        written = self._store.written_at(unit.key)
        result = self._store.read(unit.key)
        if result is None:
            return False
        self._results[unit.key] = result
        self._reused[unit.key] = written
        return True

    def _keep(self, outcome: Outcome) -> None:
        unit = outcome.unit
        result = None if outcome.failure else self._store.read(unit.key)
        if result is None:
            lost = f"StoreError: its result is not in the store {self._store}"
            outcome = Outcome(unit, failure=outcome.failure or lost)
            self._failures[unit.key] = f"{unit.title}: {outcome.failure}"
            if self._replacement is None:
                raise AnalogmedError(self._failures[unit.key])
            result = self._replacement(outcome)
        self._results[unit.key] = result

    def _all_failed(self) -> tuple[str, ...]:
        """Return title and cause of each failed unit; raise an error if all units failed."""
        failed = tuple(self._failures[key] for key in self._units if key in self._failures)
        if failed and len(failed) == len(self._units):
            raise AnalogmedError(f"all {len(failed)} units failed; first {failed[0]}")
        return failed

    def _how_to_resume(self) -> str:
        kept = len(self._store.keys() & self._units.keys())
        return (
            f"interrupted: {kept} of {len(self._units)} units are stored in {self._store}. "
            "Rerun the same command to resume."
        )
