"""Computation of the units of a sweep, with data and networks loaded once per process."""

import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from analogmed.data import Task
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.session import Cases, Deployment, Row
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.studies.robustness.sweep import run_unit
from analogmed.evaluation.studies.robustness.unit_code import network_code
from analogmed.evaluation.studies.robustness.units import PlannedUnit, of_chips, of_every_unit
from analogmed.execution.compute import Step
from analogmed.execution.store import Store
from analogmed.execution.threads import one_thread, threads
from analogmed.foundation.errors import (
    CheckpointError,
    ConfigError,
    CoverageError,
    DataError,
)
from analogmed.foundation.files import file_digest
from analogmed.metrics.notes import note_with_batch
from analogmed.tables.results import to_table
from analogmed.training import Checkpoint, load_checkpoint
from analogmed.training.memory import is_out_of_memory


@dataclass(frozen=True)
class MakeWorker:
    """Factory of a worker in another process.

    Attributes:
        experiment: all settings.
        store: URL of the store for results.
    """

    experiment: Experiment
    store: str

    def __call__(self) -> "Worker":
        """Return a worker with loaded data."""
        return Worker(self.experiment, Store(self.store))


class Worker:
    """Worker that computes units one by one and writes their results into the store.

    Data, the last network and its analog version are reused for the next unit.

    Args:
        experiment: all settings.
        store: store for results.
        task: data that the units were planned with; by default they are loaded and compared with
            each unit.
    """

    fatal = (ConfigError, DataError, CheckpointError, CoverageError)

    def __init__(self, experiment: Experiment, store: Store, task: Task | None = None) -> None:
        self.experiment, self.store = experiment, store
        self._inputs: dict[str, Any] | None = None if task else {}
        self._cases = Cases(task or experiment.task.load())
        self._checkpoint: Checkpoint | None = None
        self._network = "", ""
        self._analog: nn.Module | None = None
        self._calibrated_by = 0

    def __call__(self, unit: PlannedUnit, step: Step) -> None:
        """Compute a unit and store its rows.

        If memory runs out, the unit is computed once more with half the batch size.

        Args:
            unit: unit of work.
            step: callback after each case.
        """
        self._require_inputs(unit)
        rows, batch_size = self._rows(unit, step)
        asked = self.experiment.batch_size
        if batch_size != asked:
            rows = [row | {"note": note_with_batch(str(row["note"]), batch_size)} for row in rows]
        self.store.write(
            unit.description,
            to_table(rows),
            batch_size=batch_size if batch_size != asked else None,
        )

    def _rows(self, unit: PlannedUnit, step: Step) -> tuple[list[Row], int]:
        asked = self.experiment.batch_size
        try:
            return self._rows_at(unit, self.experiment, step), asked
        except Exception as error:
            if not is_out_of_memory(error) or asked == 1:
                raise
        half = asked // 2
        warnings.warn(f"{unit.title}: out of memory; trying batch_size {half}", stacklevel=2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._rows_at(unit, replace(self.experiment, batch_size=half), step), half

    def _rows_at(self, unit: PlannedUnit, experiment: Experiment, step: Step) -> list[Row]:
        checkpoint = self._load(unit)
        on_tiles = None if unit.chip is None else self._on_tiles(checkpoint, experiment)
        with threads(unit.description["threads"]):
            return run_unit(
                Deployment(checkpoint, unit.chip), on_tiles, self._cases, experiment, step
            )

    def _require_inputs(self, unit: PlannedUnit) -> None:
        """Raise an error if code, processor or data differ from those of the unit's plan.

        Data that have changed since they were loaded are reloaded.
        """
        if self._inputs is None:
            return
        if not self._inputs:
            self._inputs = self._found()
        elif _differing(self._inputs, unit, _DATA):
            self._cases = Cases(self.experiment.task.load())
            self._analog, self._inputs = None, self._found()
        if names := _differing(self._inputs, unit, _DATA):
            raise DataError(
                f"task {self._cases.task.name}: its files differ from those that the sweep was "
                f"planned with ({', '.join(names)}). Run the same command again."
            )
        if names := _differing(self._inputs, unit, _MACHINE):
            raise ConfigError(
                f"engine: a worker on {platform.node()} has another {' and '.join(names)} than the "
                "process that planned the sweep, so its results would differ. Use the same "
                "version of analogmed and the same kind of processor for both."
            )

    def _found(self) -> dict[str, Any]:
        task = self._cases.task
        return of_every_unit(self.experiment, task) | of_chips(self.experiment, task)

    def _load(self, unit: PlannedUnit) -> Checkpoint:
        wanted = unit.description["checkpoint"], unit.description["network_code"]
        if self._checkpoint is None or self._network != wanted:
            if file_digest(unit.checkpoint) != wanted[0]:
                raise CheckpointError(
                    f"checkpoint {unit.checkpoint}: the file differs from the one that the sweep "
                    "was planned with. Run the same command again."
                )
            loaded = load_checkpoint(unit.checkpoint, factories=self.experiment.factories)
            if network_code(loaded.info.model) != wanted[1]:
                raise CheckpointError(
                    f"checkpoint {unit.checkpoint}: the source of {loaded.info.model} differs from "
                    "the one that the sweep was planned with. Run the same command again."
                )
            self._checkpoint, self._network, self._analog = loaded, wanted, None
        return self._checkpoint

    def _on_tiles(self, checkpoint: Checkpoint, experiment: Experiment) -> nn.Module:
        """Return the analog network; its input ranges depend on the calibration batches."""
        if self._analog is None or self._calibrated_by != experiment.batch_size:
            with one_thread():
                self._analog = make_analog(checkpoint, experiment, self._cases.task)
            self._calibrated_by = experiment.batch_size
        return self._analog


def _differing(found: Mapping[str, Any], unit: PlannedUnit, names: Sequence[str]) -> list[str]:
    described = unit.description
    return [n for n in names if n in described and described[n] != found[n]]


_DATA = ("cases_digest", "calibration_digest", "window")
_MACHINE = ("code", "task_code", "metric_code", "versions", "processor", "gpu")
