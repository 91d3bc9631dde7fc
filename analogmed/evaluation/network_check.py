"""Check of a checkpoint's network on images of the task, before the first pass."""

import torch
from torch import Tensor

from analogmed.data import Task
from analogmed.evaluation.deploy import calibration_cases, evenly, windowed
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import DataError
from analogmed.training import Checkpoint

_IMAGES = 8


def check_network(checkpoint: Checkpoint, task: Task, experiment: Experiment) -> None:
    """Raise an error if a network does not return logits of the task's images.

    Args:
        checkpoint: trained network.
        task: task; up to eight images of its first calibration case are used.
        experiment: settings; calibration defines the case.

    Raises:
        ConfigError: the output does not fit the task; the message names the checkpoint, the output
            and the remedy.
    """
    probe = task.kind.probe(
        f"{checkpoint.path} ({checkpoint.info.model})",
        task.in_channels,
        len(task.classes),
        task.window,
    )
    probe.check(checkpoint.network, _images(task, experiment))


def _images(task: Task, experiment: Experiment) -> Tensor | None:
    try:
        image = torch.from_numpy(task.read(calibration_cases(experiment, task)[0]).image)
    except DataError:
        return None  # errors in the data are reported during the evaluation
    return windowed(image[evenly(len(image), _IMAGES, 0.5)], task.window)
