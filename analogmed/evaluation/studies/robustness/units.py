"""Plan of a sweep: units of work, each identified by everything that its result depends on."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from analogmed.data import Case, Task
from analogmed.data.samples import naming_case
from analogmed.evaluation.deploy import calibration_cases, digital_layers_of
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.studies.robustness.unit_code import (
    code_of,
    metric_code,
    network_code,
    task_code,
)
from analogmed.execution.code_key import processor_kind
from analogmed.execution.settings import EngineConfig
from analogmed.execution.unit import Unit
from analogmed.foundation.files import file_digest
from analogmed.foundation.process import available_cores
from analogmed.foundation.settings.plain import to_plain
from analogmed.training import Checkpoint

FORMAT = 2

_PATHS = ("root", "split_file", "split_seed", "shares")
"""Settings of a task for its location and split, represented in the key by its files and cases."""


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
        self._digital = of_every_unit(experiment, task)
        self._analog = self._digital | of_chips(experiment, task)
        self._networks = {
            c.path: {"checkpoint": file_digest(c.path), "network_code": network_code(c.info.model)}
            for c in checkpoints
        }

    def digital(self, checkpoint: Checkpoint) -> PlannedUnit:
        """Return the unit of the digital run of a network."""
        described = self._digital | self._networks[checkpoint.path] | {"chip": None, "threads": 1}
        return PlannedUnit(described, _title(checkpoint, None), 1, checkpoint.path, None)

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
        sweep = self.experiment.sweep
        passes = len(sweep.times_s) * sweep.reads
        return PlannedUnit(described, _title(checkpoint, number), passes, checkpoint.path, number)

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


def threads_of(engine: EngineConfig) -> int:
    """Return the number of torch's threads that an engine uses for a unit.

    Digital runs, chips with digital layers and chips of aihwkit use one thread instead.
    """
    if engine.threads is not None:
        return engine.threads
    if engine.name == "ray":
        return max(1, int(engine.cpus))
    if engine.workers in (None, 1):
        return torch.get_num_threads()
    return max(1, available_cores() // engine.workers)


def _title(checkpoint: Checkpoint, chip: int | None) -> str:
    info = checkpoint.info
    run = "digital run" if chip is None else f"chip {chip}"
    return f"{info.model} {info.training}, {run}"


def of_every_unit(experiment: Experiment, task: Task) -> dict[str, Any]:
    """Return the inputs that every unit of a sweep depends on, except its network.

    Raises:
        DataError: a file of a test case cannot be read.
    """
    settings, metrics = to_plain(experiment.task), experiment.metrics_for(task)
    return {
        "format": FORMAT,
        **code_of(),
        "processor": processor_kind(),
        "task": {name: value for name, value in settings.items() if name not in _PATHS},
        "task_code": task_code(experiment.task.name),
        "window": list(task.window),
        "cases": len(task.test),
        "cases_digest": _digest(task.test),
        "metrics": list(metrics),
        "metric_code": metric_code(metrics),
        "tolerance": experiment.tolerance,
        "batch_size": experiment.batch_size,
        "device": experiment.device.partition(":")[0],
        "gpu": _gpu(experiment.device),
    }


def of_chips(experiment: Experiment, task: Task) -> dict[str, Any]:
    """Return the further inputs that every chip of a sweep depends on.

    Raises:
        DataError: a file of a case for calibration cannot be read.
    """
    return {
        "hardware": to_plain(experiment.hardware),
        "row_split": experiment.row_split,
        "backend": experiment.backend,
        "calibration": to_plain(experiment.calibration),
        "calibration_digest": _digest(calibration_cases(experiment, task)),
        "seed": experiment.seed,
        "times_s": list(experiment.sweep.times_s),
        "reads": experiment.sweep.reads,
    }


def _gpu(device: str) -> str | None:
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    return torch.cuda.get_device_name(device) if on_gpu else None


def _digest(cases: Iterable[Case]) -> str:
    """Return a hash of cases with the content of their files, in order."""
    digest = hashlib.sha256()
    for case in cases:
        with naming_case(case):
            files = [[file_digest(path) for path in paths] for paths in (case.images, case.labels)]
        digest.update(json.dumps([case.case_id, case.patient_id, files]).encode())
    return digest.hexdigest()
