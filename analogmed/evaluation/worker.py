"""What computes a unit of a sweep, alone or beside others: everything is loaded once."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import nn

from analogmed.config import Experiment
from analogmed.data import Task
from analogmed.errors import (
    AnalogmedError,
    CheckpointError,
    ConfigError,
    CoverageError,
    DataError,
)
from analogmed.evaluation.metrics import note_with_batch
from analogmed.evaluation.plan import PlannedUnit, file_digest
from analogmed.evaluation.run_folder import to_table
from analogmed.evaluation.store import Store
from analogmed.evaluation.sweep import Cases, Row, Unit, make_analog, run_unit
from analogmed.training import Checkpoint, load_checkpoint
from analogmed.training.memory import is_out_of_memory

CONCERNS_ALL = (ConfigError, DataError, CheckpointError, CoverageError)
"""Errors that other units would have too: they stop the sweep."""


@dataclass(frozen=True)
class Outcome:
    """What became of a unit.

    Attributes:
        unit: which.
        failure: class and message of the error; empty if its result is in the store.
        stop: error that concerns all units.
        warnings: what was warned of, where this was in another process.
    """

    unit: PlannedUnit
    failure: str = ""
    stop: AnalogmedError | None = None
    warnings: tuple[str, ...] = ()


class Worker:
    """Computes units, one after the other, and puts their results into the store.

    Data, the last network and its analog twin are kept from one unit to the next.

    Args:
        experiment: all settings.
        store: where results go.
        task: the data, if they are loaded already.
    """

    def __init__(self, experiment: Experiment, store: Store, task: Task | None = None) -> None:
        self.experiment, self.store = experiment, store
        self._cases = Cases(task or experiment.task.load())
        self._checkpoint: Checkpoint | None = None
        self._digest = ""
        self._analog: nn.Module | None = None
        self._calibrated_by = 0

    def compute(self, unit: PlannedUnit, on_case: Callable[[], object]) -> Outcome:
        """Compute a unit.

        Out of memory, it is computed once more with half the batch.

        Args:
            unit: which.
            on_case: called after each case.

        Returns:
            that it is done, or its error.
        """
        try:
            rows, batch_size = self._rows(unit, on_case)
            asked = self.experiment.batch_size
            if batch_size != asked:
                rows = [
                    row | {"note": note_with_batch(str(row["note"]), batch_size)} for row in rows
                ]
            self.store.write(
                unit.description,
                to_table(rows),
                batch_size=batch_size if batch_size != asked else None,
            )
        except CONCERNS_ALL as error:
            return Outcome(unit, stop=error)
        except Exception as error:
            return Outcome(unit, failure=_told(error))
        return Outcome(unit)

    def _rows(self, unit: PlannedUnit, on_case: Callable[[], object]) -> tuple[list[Row], int]:
        asked = self.experiment.batch_size
        try:
            return self._rows_at(unit, self.experiment, on_case), asked
        except Exception as error:
            if not is_out_of_memory(error) or asked == 1:
                raise
        half = asked // 2
        warnings.warn(f"{unit.title}: out of memory; trying batch_size {half}", stacklevel=2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._rows_at(unit, replace(self.experiment, batch_size=half), on_case), half

    def _rows_at(
        self, unit: PlannedUnit, experiment: Experiment, on_case: Callable[[], object]
    ) -> list[Row]:
        checkpoint = self._load(unit)
        on_tiles = None if unit.chip is None else self._on_tiles(checkpoint, experiment)
        with one_thread() if _depends_on_threads(unit, experiment) else _as_it_is():
            return run_unit(Unit(checkpoint, unit.chip), on_tiles, self._cases, experiment, on_case)

    def _load(self, unit: PlannedUnit) -> Checkpoint:
        wanted = unit.description["checkpoint"]
        if self._checkpoint is None or self._digest != wanted:
            found = file_digest(unit.checkpoint)
            if found != wanted:
                raise CheckpointError(
                    f"checkpoint {unit.checkpoint} is another here than where the sweep was "
                    "planned, or was replaced since: start again"
                )
            self._checkpoint = load_checkpoint(unit.checkpoint, factories=self.experiment.factories)
            self._digest, self._analog = wanted, None
        return self._checkpoint

    def _on_tiles(self, checkpoint: Checkpoint, experiment: Experiment) -> nn.Module:
        """The analog twin; its input ranges depend on the batches that it is calibrated by."""
        if self._analog is None or self._calibrated_by != experiment.batch_size:
            with one_thread():
                self._analog = make_analog(checkpoint, experiment, self._cases.task)
            self._calibrated_by = experiment.batch_size
        return self._analog


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one of torch's threads, as its digital layers round by their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


def _depends_on_threads(unit: PlannedUnit, experiment: Experiment) -> bool:
    """Whether layers are computed digitally, or by aihwkit: ours are equal on any threads."""
    if unit.chip is None or experiment.backend == "aihwkit":
        return True
    return bool(unit.description["digital_layers"])


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST]


_LONGEST = 500
