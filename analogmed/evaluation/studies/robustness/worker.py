"""Computation of the units of a sweep, with data and networks loaded once per process."""

import warnings
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.session import Cases, Deployment, Row
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.studies.robustness.sweep import run_unit
from analogmed.evaluation.studies.robustness.units import COMPUTES, PlannedUnit
from analogmed.evaluation.unit_inputs import inputs_of_all, inputs_of_chips
from analogmed.evaluation.unit_worker import UnitWorker
from analogmed.execution.compute import Step
from analogmed.execution.store import UnitResult
from analogmed.execution.threads import one_thread, threads
from analogmed.foundation.errors import (
    CheckpointError,
    ConfigError,
    CoverageError,
    DataError,
)
from analogmed.metrics.notes import note_with_batch
from analogmed.network.probe import is_out_of_memory
from analogmed.tables.results import to_table
from analogmed.training import Checkpoint


class Worker(UnitWorker[Experiment]):
    """Worker that computes the units of a sweep one by one.

    Data, the last network and its analog version are reused for the next unit.

    Args:
        config: all settings.
        task: data that the units were planned with; by default they are loaded and compared with
            each unit.
    """

    fatal = (ConfigError, DataError, CheckpointError, CoverageError)

    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the units, without their networks, as this process has them."""
        common = inputs_of_all(self.config, self.task, COMPUTES)
        return common | inputs_of_chips(self.config, self.task)

    def forget(self) -> None:
        """Drop samples and the analog network, since the data have changed."""
        self._cases = Cases(self.task)
        self._analog: tuple[Checkpoint, int, nn.Module] | None = None

    def __call__(self, unit: PlannedUnit, step: Step) -> UnitResult:
        """Compute the rows of a unit.

        If memory runs out, the unit is computed once more with half the batch size.

        Args:
            unit: unit of work.
            step: callback after each case.
        """
        self.require_inputs(unit)
        rows, batch_size = self._rows(unit, step)
        if batch_size == self.config.images_per_pass:
            return UnitResult(to_table(rows))
        rows = [row | {"note": note_with_batch(str(row["note"]), batch_size)} for row in rows]
        return UnitResult(to_table(rows), batch_size=batch_size)

    def _rows(self, unit: PlannedUnit, step: Step) -> tuple[list[Row], int]:
        asked = self.config.images_per_pass
        try:
            return self._rows_at(unit, self.config, step), asked
        except Exception as error:
            if not is_out_of_memory(error) or asked == 1:
                raise
        half = asked // 2
        warnings.warn(f"{unit.title}: out of memory; trying batch_size {half}", stacklevel=2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self._rows_at(unit, replace(self.config, batch_size=half), step), half

    def _rows_at(self, unit: PlannedUnit, experiment: Experiment, step: Step) -> list[Row]:
        (checkpoint,) = self.load([(unit.checkpoint, unit.description)])
        on_tiles = None if unit.chip is None else self._on_tiles(checkpoint, experiment)
        with threads(unit.description["threads"]):
            return run_unit(
                Deployment(checkpoint, unit.chip), on_tiles, self._cases, experiment, step
            )

    def _on_tiles(self, checkpoint: Checkpoint, experiment: Experiment) -> nn.Module:
        """Return the analog network; its input ranges depend on the calibration batches."""
        if self._analog is not None:
            mapped, batch_size, analog = self._analog
            if mapped is checkpoint and batch_size == experiment.images_per_pass:
                return analog
        self._analog = None
        with one_thread():
            analog = make_analog(checkpoint, experiment, self.task)
        self._analog = checkpoint, experiment.images_per_pass, analog
        return analog
