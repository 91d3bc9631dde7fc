"""The sweep: networks on the test cases, digitally and on every chip at every time and read."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analogmed.analog import Chip, ChipReading, calibrate, convert, to_aihwkit
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.config import Experiment
from analogmed.data import Case, Sample, Task
from analogmed.evaluation.metrics import case_metrics
from analogmed.foundation.errors import AnalogmedError
from analogmed.foundation.seeds import derive_seed
from analogmed.network.inference import predict_logits, to_classes
from analogmed.training import (
    Checkpoint,
    load_input_ranges,
    load_out_scales,
    load_trained_ranges,
)

Row = dict[str, object]
Network = Callable[[Tensor], Tensor]

_CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Unit:
    """One piece of work: a network run digitally, or one chip of it at all times and reads.

    Attributes:
        checkpoint: the network.
        chip: number of the chip; ``None`` for the digital run.
    """

    checkpoint: Checkpoint
    chip: int | None


class Cases:
    """The test samples of a task, read once and kept as long as they take up to 2 GB."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._kept: dict[str, Sample] = {}
        self._bytes = 0

    def __iter__(self) -> Iterator[Sample]:
        for case in self.task.test:
            yield self._kept.get(case.case_id) or self._read(case)

    def __len__(self) -> int:
        return len(self.task.test)

    def _read(self, case: Case) -> Sample:
        sample = self.task.read(case)
        size = sample.image.nbytes + sample.label.nbytes
        if self._bytes + size <= _CACHE_BYTES:
            self._kept[case.case_id] = sample
            self._bytes += size
        return sample


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


def run_unit(
    unit: Unit,
    analog: nn.Module | None,
    cases: Cases,
    experiment: Experiment,
    on_case: Callable[[], object],
) -> list[Row]:
    """Rows of the results table for one unit.

    Args:
        unit: what to run.
        analog: the network on tiles; ``None`` for the digital run.
        cases: the test samples.
        experiment: all settings.
        on_case: called after each case.
    """
    if analog is None or unit.chip is None:
        digital = unit.checkpoint.network.to(experiment.device)
        return read_cases(unit, digital, cases, experiment, {}, on_case)
    chip = Chip(analog, seed=chip_seed(experiment.seed, unit.checkpoint.info.model, unit.chip))
    rows: list[Row] = []
    for time_s in experiment.sweep.times_s:
        for read in range(experiment.sweep.reads):
            where: Row = {"time_s": time_s, "read": read}
            rows += read_cases(unit, chip.at(time_s, read), cases, experiment, where, on_case)
    return rows


def chip_seed(root: int, model: str, number: int) -> int:
    """Seed of a chip: it has the same devices, however the network was trained that it gets.

    Two trainings of a model are therefore compared on the same chips.
    """
    return derive_seed(root, model, "chip", number)


def read_cases(
    unit: Unit,
    network: Network,
    cases: Cases,
    experiment: Experiment,
    where: Row,
    on_case: Callable[[], object],
) -> list[Row]:
    """Rows of one network, or of one reading of a chip, on all cases.

    Args:
        unit: whose rows they are.
        network: what to run.
        cases: the test samples.
        experiment: all settings.
        where: time and read, if it is a chip.
        on_case: called after each case.
    """
    address: Row = {
        "task": cases.task.name,
        "model": unit.checkpoint.info.model,
        "training": unit.checkpoint.info.training,
        "hardware": "digital" if unit.chip is None else experiment.hardware.preset,
        "chip": unit.chip,
        **where,
    }
    rows = []
    for sample in cases:
        address_of_case = address | {
            "case": sample.case.case_id,
            "patient": sample.case.patient_id,
        }
        if isinstance(network, ChipReading):
            network.restart(sample.case.case_id)
        rows += [address_of_case | row for row in _case_rows(network, sample, cases, experiment)]
        on_case()
    return rows


@torch.inference_mode()
def _case_rows(network: Network, sample: Sample, cases: Cases, experiment: Experiment) -> list[Row]:
    task = cases.task
    images = torch.from_numpy(sample.image).to(experiment.device)
    try:
        logits = predict_logits(
            network, images, window=task.window, batch_size=experiment.batch_size
        )
        found = case_metrics(
            to_classes(logits).cpu(),
            sample.label,
            n_classes=len(task.classes),
            spacing=sample.spacing,
            tolerance=experiment.tolerance,
            unit=task.spacing_unit,
            metrics=experiment.metrics,
        )
    except AnalogmedError as error:
        raise type(error)(f"case {sample.case.case_id}: {error}") from error
    return [
        {
            "class": task.classes[row.class_index - 1],
            "metric": row.metric,
            "value": row.value,
            "unit": row.unit,
            "note": row.note,
        }
        for row in found
    ]
