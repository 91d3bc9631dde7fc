"""Plan of a sweep: units of work, each identified by everything that its result depends on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analogmed.data import Task
from analogmed.evaluation.deploy import digital_layers_of
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.unit_inputs import (
    inputs_of_all,
    inputs_of_chips,
    inputs_of_network,
    threads_of,
    unit_title,
)
from analogmed.execution.unit import Unit
from analogmed.training import Checkpoint

COMPUTES = "analogmed.evaluation.studies.robustness.worker"
"""Module that computes the units."""


@dataclass(frozen=True)
class PlannedUnit(Unit):
    """Unit of a sweep: a network's digital run, or one chip at all times and reads.

    Attributes:
        checkpoint: file of the network.
        chip: number of the chip; ``None`` for the digital run.
    """

    checkpoint: Path
    chip: int | None


class Plan:
    """Planner of the units of one experiment; each file is read once.

    Args:
        experiment: all settings.
        task: data of the experiment.
        checkpoints: networks of the experiment.

    Raises:
        ConfigError: the source of a network that a factory builds cannot be read, or has changed
            since it was imported.
        DataError: a file of a case cannot be read.
    """

    def __init__(
        self, experiment: Experiment, task: Task, checkpoints: Sequence[Checkpoint]
    ) -> None:
        self.experiment = experiment
        self.checkpoints = list(checkpoints)
        self._threads = threads_of(experiment.engine)
        self._digital = inputs_of_all(experiment, task, COMPUTES)
        self._analog = self._digital | inputs_of_chips(experiment, task)
        self._networks = {c.path: inputs_of_network(c) for c in checkpoints}

    def digital(self, checkpoint: Checkpoint) -> PlannedUnit:
        """Return the unit of the digital run of a network."""
        described = self._digital | self._networks[checkpoint.path] | {"chip": None, "threads": 1}
        title = unit_title(checkpoint, "digital run")
        return PlannedUnit(described, title, 1, checkpoint.path, None)

    def chip(self, checkpoint: Checkpoint, number: int) -> PlannedUnit:
        """Return the unit of one chip of a network."""
        digital_layers = sorted(digital_layers_of(checkpoint, self.experiment))
        on_one = digital_layers or self.experiment.backend == "aihwkit"
        described = self._analog | {
            **self._networks[checkpoint.path],
            "chip": number,
            "digital_layers": digital_layers,
            "threads": 1 if on_one else self._threads,
        }
        passes = len(self.experiment.sweep.readings)
        title = unit_title(checkpoint, f"chip {number}")
        return PlannedUnit(described, title, passes, checkpoint.path, number)

    def units(self, chips: Mapping[Path, int]) -> list[PlannedUnit]:
        """Return all units in order: the digital run of each network, then its chips.

        Args:
            chips: number of chips by file of the network.
        """
        return [
            unit
            for checkpoint in self.checkpoints
            for unit in (
                self.digital(checkpoint),
                *(self.chip(checkpoint, number) for number in range(chips[checkpoint.path])),
            )
        ]
