"""Deployment of a trained network: onto tiles, with its learned or calibrated input ranges."""

import warnings
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from analogmed.analog import calibrate, convert, to_aihwkit
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.data import Case, Task
from analogmed.evaluation.settings import Experiment
from analogmed.training import (
    Checkpoint,
    load_input_ranges,
    load_out_scales,
    load_trained_ranges,
)


def make_analog(
    checkpoint: Checkpoint,
    experiment: Experiment,
    task: Task,
    *,
    ranges: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Put a network on tiles, with its learned input ranges or, failing these, calibrated ones.

    Args:
        checkpoint: the network.
        experiment: all settings.
        task: whose training images it is calibrated on.
        ranges: input ranges by layer name, in place of both.
    """
    analog = to_tiles(checkpoint, experiment)
    hardware = rpu_config_of(experiment.hardware)
    if ranges is None:
        fits = load_trained_ranges(analog, checkpoint, hardware, experiment.row_split)
    else:
        fits = load_input_ranges(analog, _of_layers(ranges, analog))
    if not fits:
        calibrate(
            analog, calibration_batches(experiment, task), quantile=experiment.calibration.quantile
        )
    return to_aihwkit(analog) if experiment.backend == "aihwkit" else analog


def to_tiles(checkpoint: Checkpoint, experiment: Experiment) -> nn.Module:
    """A network on tiles, with its learned output scales; its input ranges are not set yet."""
    analog = convert(
        checkpoint.network.to(experiment.device),
        rpu_config_of(experiment.hardware),
        digital=digital_layers_of(checkpoint, experiment),
        row_split=experiment.row_split,
        backend="torch" if experiment.backend == "aihwkit" else experiment.backend,
    )
    load_out_scales(analog, checkpoint.scaled_layers)
    return analog


def digital_layers_of(checkpoint: Checkpoint, experiment: Experiment) -> tuple[str, ...]:
    """Layers that stay digital on the chip: the experiment's, or those of the network's training.

    Returns:
        names and patterns.
    """
    if experiment.digital_layers is not None:
        return experiment.digital_layers
    return checkpoint.info.digital_layers or ()


def _of_layers(ranges: Mapping[str, Tensor], analog: nn.Module) -> dict[str, Tensor]:
    """Those of the layers that are on tiles; others were left digital."""
    known = analog.state_dict().keys()
    return {name: values for name, values in ranges.items() if f"{name}.input_range" in known}


def calibration_batches(experiment: Experiment, task: Task) -> Iterator[Tensor]:
    """Images for calibration, evenly drawn from the training cases, cropped to the window.

    Of slices, the cases together give all depths alike. A case's images come in batches of at most
    ``batch_size``.
    A task with test cases only is calibrated on their images; their labels are not looked at.
    """
    if not task.train:
        warnings.warn(f"{task.name} has no training case: calibrating on test images", stacklevel=2)
    cases = calibration_cases(experiment, task)
    per_case = -(-experiment.calibration.images // len(cases))
    for position, case in enumerate(cases):
        images = torch.from_numpy(task.read(case).image)
        spread = images[evenly(len(images), per_case, (position + 0.5) / len(cases))]
        for batch in windowed(spread, task.window).split(experiment.batch_size):
            yield batch.to(experiment.device)


def calibration_cases(experiment: Experiment, task: Task) -> tuple[Case, ...]:
    """The cases that calibration looks at: training cases, where there are any."""
    cases = task.train or task.test
    return cases[:: max(1, len(cases) // experiment.calibration.images)]


def evenly(length: int, number: int, offset: float) -> list[int]:
    """Return so many equidistant indices of a sequence, or all; the offset in (0, 1) moves them."""
    return sorted({int((step + offset) * length / number) for step in range(number)})


def windowed(images: Tensor, window: tuple[int, ...]) -> Tensor:
    """Crop to the window about the centre, and pad what is smaller with zeros."""
    for axis, size in enumerate(window, start=2):
        length = images.shape[axis]
        if length > size:
            images = images.narrow(axis, (length - size) // 2, size)
        elif length < size:
            shape = list(images.shape)
            shape[axis] = size - length
            images = torch.cat([images, images.new_zeros(shape)], axis)
    return images
