"""Inputs that the result of a unit depends on: code, processor, data and settings."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from typing import Any

import torch

from analogmed.data import Case, Task
from analogmed.data.samples import naming_case
from analogmed.evaluation.deploy import calibration_cases
from analogmed.evaluation.settings import Experiment
from analogmed.evaluation.unit_code import code_of, metric_code, network_code, task_code
from analogmed.execution.code_key import processor_kind
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.files import file_digest
from analogmed.foundation.process import available_cores
from analogmed.foundation.settings.plain import to_plain
from analogmed.training import Checkpoint

FORMAT = 2

_PATHS = ("root", "split_file", "split_seed", "shares")
"""Settings of a task for its location and split, represented in the key by its files and cases."""


def threads_of(engine: EngineConfig) -> int:
    """Return the number of torch's threads that an engine uses for a unit.

    In a sweep, digital runs, chips with digital layers and chips of aihwkit use one thread instead.
    """
    if engine.threads is not None:
        return engine.threads
    if engine.name == "ray":
        return max(1, int(engine.cpus))
    if engine.workers in (None, 1):
        return torch.get_num_threads()
    return max(1, available_cores() // engine.workers)


def unit_title(checkpoint: Checkpoint, what: str) -> str:
    """Return the title of a unit: its network, and what is computed of it."""
    return f"{checkpoint.info.model} {checkpoint.info.training}, {what}"


def inputs_of_network(checkpoint: Checkpoint) -> dict[str, str]:
    """Return the inputs that define a network.

    Raises:
        ConfigError: the source of a network that a factory builds cannot be read, or has changed
            since it was imported.
    """
    return {
        "checkpoint": file_digest(checkpoint.path),
        "network_code": network_code(checkpoint.info.model),
    }


def inputs_of_all(experiment: Experiment, task: Task, module: str) -> dict[str, Any]:
    """Return the inputs that every unit of a study depends on, except its network.

    Args:
        experiment: settings of the study.
        task: data of the study.
        module: module that computes the units.

    Raises:
        DataError: a file of a test case cannot be read.
    """
    settings, metrics = to_plain(experiment.task), experiment.metrics_for(task)
    return {
        "format": FORMAT,
        **code_of(module),
        "processor": processor_kind(),
        "task": {name: value for name, value in settings.items() if name not in _PATHS},
        "task_code": task_code(experiment.task.name),
        "window": list(task.window),
        "cases": len(task.test),
        "cases_digest": digest_of(task.test),
        "metrics": list(metrics),
        "metric_code": metric_code(metrics),
        "tolerance": experiment.tolerance,
        "batch_size": experiment.images_per_pass,
        "device": experiment.device.partition(":")[0],
        "gpu": _gpu(experiment.device),
    }


def inputs_of_chips(experiment: Experiment, task: Task) -> dict[str, Any]:
    """Return the further inputs that every unit on a chip depends on.

    Raises:
        DataError: a file of a case for calibration cannot be read.
    """
    return {
        "hardware": to_plain(experiment.hardware),
        "row_split": experiment.row_split,
        "backend": experiment.backend,
        "calibration": to_plain(experiment.calibration),
        "calibration_digest": digest_of(calibration_cases(experiment, task)),
        "seed": experiment.seed,
        "times_s": list(experiment.sweep.times_s),
        "reads": experiment.sweep.reads,
    }


def _gpu(device: str) -> str | None:
    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    return torch.cuda.get_device_name(device) if on_gpu else None


def digest_of(cases: Iterable[Case]) -> str:
    """Return a hash of cases with the content of their files, in order."""
    digest = hashlib.sha256()
    digest_of_file = cache(file_digest)  # cases can share a file
    for case in cases:
        with naming_case(case):
            files = [
                [digest_of_file(path) for path in paths] for paths in (case.images, case.labels)
            ]
        digest.update(json.dumps([case.case_id, case.patient_id, files]).encode())
    return digest.hexdigest()
