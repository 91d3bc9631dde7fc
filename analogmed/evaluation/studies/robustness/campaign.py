"""Execution of a sweep: stored units are reused, missing units are computed."""

import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from analogmed.data import Task
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.studies.robustness.failures import failure_table
from analogmed.evaluation.studies.robustness.units import Plan, PlannedUnit, threads_of
from analogmed.evaluation.studies.robustness.worker import MakeWorker, Worker
from analogmed.evaluation.summaries.sequential import first_chips, more_chips
from analogmed.execution.compute import Outcome
from analogmed.execution.executors import Executor, make_executor, outcomes_of
from analogmed.execution.progress import Progress
from analogmed.execution.serial import SerialExecutor
from analogmed.execution.store import Store
from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.tables.results import COLUMNS
from analogmed.training import Checkpoint


@dataclass(frozen=True)
class SweepResult:
    """Result of a sweep.

    Attributes:
        table: long results table.
        units: number of units in the table.
        reused: number of units that were already in the store.
        failures: title and cause of each failed unit.
        computed: times at which the first and the last reused unit were computed; ``None`` if none
            was reused, or the store does not record it.
    """

    table: pd.DataFrame
    units: int
    reused: int
    failures: tuple[str, ...] = ()
    computed: tuple[datetime, datetime] | None = None


class SweepRunner:
    """Sweep of one experiment.

    Args:
        experiment: all settings.
        task: data of the experiment.
        checkpoints: networks of the experiment.
        store: store of finished units.
    """

    def __init__(
        self,
        experiment: Experiment,
        task: Task,
        checkpoints: Sequence[Checkpoint],
        store: Store,
    ) -> None:
        self._experiment, self._task, self._store = experiment, task, store
        self._infos = {checkpoint.path: checkpoint.info for checkpoint in checkpoints}
        self._plan = Plan(experiment, task, checkpoints)
        self._tables: dict[str, pd.DataFrame] = {}
        self._reused: dict[str, datetime | None] = {}
        self._failures: dict[str, str] = {}

    def run(self) -> SweepResult:
        """Compute the units missing from the store, and assemble the table in the plan's order.

        Raises:
            AnalogmedError: an error concerns all units, or all units have failed.
            KeyboardInterrupt: the sweep was interrupted; the message reports the number of stored
                units and how to resume.
        """
        units: list[PlannedUnit] = []
        try:
            with (
                Progress(len(self._task.test)) as progress,
                closing(self._executor(progress)) as executor,
            ):
                chips = first_chips(self._experiment, list(self._infos))
                while True:
                    units = self._plan.units(chips)
                    self._complete(units, executor, progress)
                    more = more_chips(self._experiment, self._infos, chips, self._table(units))
                    if more is None:
                        break
                    chips = more
        except KeyboardInterrupt:
            raise KeyboardInterrupt(self._how_to_go_on(units)) from None
        failures = self._failed(units)
        reused = [self._reused[unit.key] for unit in units if unit.key in self._reused]
        times = [time for time in reused if time is not None]
        computed = (min(times), max(times)) if times else None
        return SweepResult(self._table(units), len(units), len(reused), failures, computed)

    def _complete(
        self, units: Sequence[PlannedUnit], executor: Executor, progress: Progress
    ) -> None:
        stored = self._store.keys()
        missing = [u for u in units if u.key not in self._tables and not self._take(u, stored)]
        progress.expect(missing)
        for outcome in outcomes_of(executor, missing):
            for text in outcome.warnings:
                warnings.warn(text, stacklevel=2)
            if outcome.stop is not None:
                raise outcome.stop
            self._keep(outcome)
            progress.finish(outcome.unit)

    def _executor(self, progress: Progress) -> Executor:
        """Return the executor of the settings.

        Raises:
            ConfigError: the executor's package is not installed, its cluster does not respond, or
                other processes cannot access the store.
        """
        experiment, store, engine = self._experiment, self._store, self._experiment.engine
        if engine.is_serial:
            return SerialExecutor(Worker(experiment, store, self._task), progress.case)
        if store.in_memory:
            raise ConfigError(
                f"store {store} is seen by one process only: leave out engine, or take a folder"
            )
        return make_executor(
            engine,
            MakeWorker(experiment, store.url),
            threads=threads_of(engine),
            device=experiment.device,
            on_step=progress.case,
        )

    def _take(self, unit: PlannedUnit, stored: set[str]) -> bool:
        """Take the result of a unit from the store, if it is present, intact and usable."""
        if unit.key not in stored:
            return False
        if self._experiment.restart:
            self._store.remove(unit.key)
            return False
        written = self._store.written_at(unit.key)
        table = self._store.read(unit.key)
        if table is None:
            return False
        self._tables[unit.key] = table
        self._reused[unit.key] = written
        return True

    def _keep(self, outcome: Outcome) -> None:
        unit = outcome.unit
        table = None if outcome.failure else self._store.read(unit.key)
        if table is None:
            lost = f"StoreError: its result is not in the store {self._store}"
            outcome = Outcome(unit, failure=outcome.failure or lost)
            self._failures[unit.key] = f"{unit.title}: {outcome.failure}"
            info = self._infos[unit.checkpoint]
            table = failure_table(outcome, info, self._experiment, self._task)
        self._tables[unit.key] = table

    def _table(self, units: Sequence[PlannedUnit]) -> pd.DataFrame:
        tables = [self._tables[unit.key] for unit in units]
        return pd.concat(tables, ignore_index=True).astype(COLUMNS)

    def _failed(self, units: Sequence[PlannedUnit]) -> tuple[str, ...]:
        """Return title and cause of each failed unit; raise an error if all units failed."""
        failed = tuple(self._failures[unit.key] for unit in units if unit.key in self._failures)
        if len(failed) == len(units):
            raise AnalogmedError(f"all {len(units)} units of the sweep failed; first {failed[0]}")
        return failed

    def _how_to_go_on(self, units: Sequence[PlannedUnit]) -> str:
        kept = len(self._store.keys() & {unit.key for unit in units})
        return (
            f"stopped: {kept} of {len(units)} units are finished and kept in {self._store}; "
            "the same command goes on from there"
        )
