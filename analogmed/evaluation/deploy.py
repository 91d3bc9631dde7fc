"""Deployment of a trained network onto tiles, with learned or calibrated input ranges."""

import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from analogmed.analog import calibrate, to_aihwkit
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.data import Case, Task
from analogmed.evaluation.settings import Experiment
from analogmed.training import (
    Checkpoint,
    load_input_ranges,
    load_trained_ranges,
)


def make_analog(
    checkpoint: Checkpoint,
    experiment: Experiment,
    task: Task,
    *,
    ranges: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Map a network onto tiles with its learned input ranges or, without these, calibrated ones.

    Args:
        checkpoint: trained network.
        experiment: all settings.
        task: task with the training images for calibration.
        ranges: input ranges by layer name that replace the learned and the calibrated ones.
    """
    analog = to_tiles(checkpoint, experiment)
    hardware = rpu_config_of(experiment.hardware)
    if ranges is None:
        fits = load_trained_ranges(analog, checkpoint, hardware, experiment.row_split)
    else:
        fits = load_input_ranges(analog, _of_layers(ranges, analog))
    if not fits:
        calibrate(
            analog,
            calibration_batches(experiment, task),
            quantile=experiment.calibration.quantile,
            fit_outputs=experiment.calibration.fit_outputs,
        )
    return to_aihwkit(analog) if experiment.backend == "aihwkit" else analog


def to_tiles(checkpoint: Checkpoint, experiment: Experiment) -> nn.Module:
    """Map a network onto tiles with its learned output scales; input ranges are not set yet."""
    checkpoint.network.to(experiment.device)
    return checkpoint.to_tiles(
        rpu_config_of(experiment.hardware),
        digital_layers=experiment.digital_layers,
        row_split=experiment.row_split,
        backend=experiment.backend,
    )


def digital_layers_of(checkpoint: Checkpoint, experiment: Experiment) -> tuple[str, ...]:
    """Return the layers that stay digital, from the experiment or from the network's training.

    Returns:
        Names and patterns.
    """
    if experiment.digital_layers is not None:
        return experiment.digital_layers
    return checkpoint.info.digital_layers or ()


def _of_layers(ranges: Mapping[str, Tensor], analog: nn.Module) -> dict[str, Tensor]:
    """Return the ranges of the layers on tiles, without those of digital layers."""
    known = analog.state_dict().keys()
    return {name: values for name, values in ranges.items() if f"{name}.input_range" in known}


def calibration_batches(experiment: Experiment, task: Task) -> Iterator[Tensor]:
    """Yield calibration images, evenly drawn from the training cases and cropped to the window.

    The slices of all cases together cover all depths evenly. Images of a case are yielded in
    batches of at most ``batch_size``. A task without training cases is calibrated on the images of
    its test cases; their labels are not used.
    """
    if not task.train:
        warnings.warn(
            f"{task.name} has no training case: calibrating on test images. List patients of the "
            "training under train in task.split_file to calibrate on their images.",
            stacklevel=2,
        )
    cases = calibration_cases(experiment, task)
    per_case = -(-experiment.calibration.images // len(cases))
    for position, case in enumerate(cases):
        images = torch.from_numpy(task.read(case).image)
        spread = images[evenly(len(images), per_case, (position + 0.5) / len(cases))]
        for batch in windowed(spread, task.window).split(experiment.images_per_pass):
            yield batch.to(experiment.device)


def calibration_cases(experiment: Experiment, task: Task) -> tuple[Case, ...]:
    """Return the cases for calibration: the training cases, or test cases if there are none."""
    cases = task.train or task.test
    return cases[:: max(1, len(cases) // experiment.calibration.images)]


def evenly(length: int, number: int, offset: float) -> list[int]:
    """Return ``number`` equidistant indices, or all; the offset in (0, 1) shifts them."""
    return sorted({int((step + offset) * length / number) for step in range(number)})


def windowed(images: Tensor, window: tuple[int, ...]) -> Tensor:
    """Crop images to the central window, and pad smaller ones with zeros."""
    for axis, size in enumerate(window, start=2):
        length = images.shape[axis]
        if length > size:
            images = images.narrow(axis, (length - size) // 2, size)
        elif length < size:
            shape = list(images.shape)
            shape[axis] = size - length
            images = torch.cat([images, images.new_zeros(shape)], axis)
    return images
