"""Computation of the units of the mitigation study: one network's costs, or one chip."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analogmed.analog import Chip, ChipSnapshot
from analogmed.analog.layers.base import analog_layers, ranged_layers
from analogmed.data import Task
from analogmed.evaluation.deploy import (
    calibration_batches,
    calibration_cases,
    digital_layers_of,
    make_analog,
)
from analogmed.evaluation.passes import Pass, program_chip
from analogmed.evaluation.session import Cases
from analogmed.evaluation.studies.mitigation.corrections import (
    batchnorm_of_chip,
    batchnorms,
    input_ranges_of_chip,
)
from analogmed.evaluation.studies.mitigation.values import values_of
from analogmed.evaluation.studies.uncertainty.calibration import Voxels
from analogmed.evaluation.studies.uncertainty.passes import predictions
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig
from analogmed.evaluation.studies.uncertainty.temperature import (
    fit_temperature,
    fitting_region,
    fitting_voxels,
    scale,
    scale_thresholds,
    thinning_step,
)
from analogmed.evaluation.unit_inputs import (
    digest_of,
    inputs_of_all,
    inputs_of_chips,
    inputs_of_network,
    threads_of,
    unit_title,
)
from analogmed.evaluation.unit_worker import UnitWorker
from analogmed.execution.compute import Step
from analogmed.execution.store import UnitResult
from analogmed.execution.threads import threads
from analogmed.execution.unit import Unit
from analogmed.network.probe import is_out_of_memory
from analogmed.tables.results import NETWORK
from analogmed.training import Checkpoint

NONE, COMPENSATED, ALL = "none", "drift_compensation", "all"
COSTS = ("images", "labelled_images", "passes", "parameters")


@dataclass(frozen=True)
class MitigationUnit(Unit):
    """Unit of the mitigation study.

    Attributes:
        checkpoint: file of the network.
        chip: number of the chip; ``None`` for the costs of the options.
    """

    checkpoint: Path
    chip: int | None


def units_of_network(
    checkpoint: Checkpoint, config: MitigationConfig, inputs: Mapping[str, Any]
) -> list[MitigationUnit]:
    """Return the units of a network: the costs of its options, then its chips.

    Args:
        checkpoint: trained network.
        config: settings of the study.
        inputs: inputs of all units, see ``inputs_of_units``.
    """
    described = {
        **inputs,
        **inputs_of_network(checkpoint),
        "digital_layers": sorted(digital_layers_of(checkpoint, config)),
        "threads": threads_of(config.engine),
    }
    passes = len(config.sweep.readings) * (len(config.options) + 2)
    title = partial(unit_title, checkpoint)
    return [
        MitigationUnit(described | {"chip": None}, title("costs"), 0, checkpoint.path, None),
        *(
            MitigationUnit(
                described | {"chip": chip}, title(f"chip {chip}"), passes, checkpoint.path, chip
            )
            for chip in range(config.sweep.chips)
        ),
    ]


def inputs_of_units(config: MitigationConfig, task: Task) -> dict[str, Any]:
    """Return the inputs that all units of the study depend on, except the network.

    Raises:
        DataError: a file of a case cannot be read.
    """
    return {
        "study": "mitigation",
        **inputs_of_all(config, task, __name__),
        **inputs_of_chips(config, task),
        "options": list(config.options),
        "images": config.images,
        "images_digest": digest_of(calibration_cases(_with_images(config), task)),
        "validation_digest": digest_of(task.validation),
        "temperature_region": config.temperature_region,
        "margin": config.margin,
    }


def _with_images(config: MitigationConfig) -> MitigationConfig:
    """Return settings whose calibration images are those of the corrections."""
    calibration = replace(config.calibration, images=config.images)
    return replace(config, calibration=calibration)


class MitigationCompute(UnitWorker[MitigationConfig]):
    """Compute of the units; the last network on its tiles is reused."""

    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the units, without their networks, as this process has them."""
        return inputs_of_units(self.config, self.task)

    def forget(self) -> None:
        """Drop samples and the analog network, since the data have changed."""
        self._cases = Cases(self.task), Cases(self.task, self.task.validation)
        self._mitigated: MitigatedNetwork | None = None

    def __call__(self, unit: MitigationUnit, step: Step) -> UnitResult:
        """Return the costs of a network's options, or the rows of one of its chips."""
        self.require_inputs(unit)
        (checkpoint,) = self.load([(unit.checkpoint, unit.description)])
        with threads(unit.description["threads"]):
            network = self._network_of(checkpoint)
            rows = network.costs() if unit.chip is None else network.run(unit.chip, step)
        return UnitResult(pd.DataFrame(rows))

    def _network_of(self, checkpoint: Checkpoint) -> "MitigatedNetwork":
        if self._mitigated is None or self._mitigated.checkpoint is not checkpoint:
            self._mitigated = None
            self._mitigated = MitigatedNetwork(checkpoint, self.config, self.task, *self._cases)
        return self._mitigated


class MitigatedNetwork:
    """One network on chips with and without drift compensation."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        config: MitigationConfig,
        task: Task,
        test: Cases,
        validation: Cases,
    ) -> None:
        self.checkpoint, self.config, self.task = checkpoint, config, task
        self.test, self.validation = test, validation
        kind = config.hardware.drift_compensation
        on = replace(config.hardware, drift_compensation="global" if kind == "none" else kind)
        off = replace(config.hardware, drift_compensation="none")
        self.with_compensation = make_analog(checkpoint, replace(config, hardware=on), task)
        ranges = {
            name: layer.input_range.detach().clone()
            for name, layer in ranged_layers(self.with_compensation).items()
            if layer.input_range is not None
        }
        self.without = make_analog(
            checkpoint, replace(config, hardware=off), task, ranges=ranges or None
        )
        images = torch.cat(list(calibration_batches(_with_images(config), task)))
        wanted = min(config.images, len(images))
        self.images = images[torch.linspace(0, len(images) - 1, wanted).long()]
        self.options = self._possible()
        self._region = fitting_region(config, task)
        self._labels = [task.kind.references(sample.label) for sample in validation]
        self._thinning = thinning_step(self._labels, *self._region)

    def costs(self) -> list[dict[str, Any]]:
        """Return the cost of each option at each time it is applied."""
        images, labelled = len(self.images), sum(map(len, self._labels))
        model = self.with_compensation
        tiles = sum(
            len(layer.grid.rows) * len(layer.grid.cols) * len(layer.weight_matrix())
            for layer in analog_layers(model).values()
        )
        statistics = sum(2 * layer.num_features for layer in batchnorms(model))
        ranges = sum(len(layer.grid.rows) for layer in ranged_layers(model).values())
        known = {
            NONE: (0, 0, 0, 0),
            COMPENSATED: (0, 0, 0, tiles),
            "batchnorm": (images, 0, images, statistics),
            "input_ranges": (images, 0, images, ranges),
            "temperature": (0, labelled, labelled, 1),
        }
        known[ALL] = (
            images if {"batchnorm", "input_ranges"} & set(self.options) else 0,
            labelled if "temperature" in self.options else 0,
            sum(known[option][2] for option in self.options),
            sum(known[option][3] for option in self.options),
        )
        return [
            self._run() | {"option": option} | dict(zip(COSTS, known[option], strict=True))
            for option in self._settings()
        ]

    def run(self, number: int, step: Callable[[], object]) -> list[dict[str, Any]]:
        """Compute the rows of a chip at all times.

        Args:
            number: number of the chip.
            step: callback after each case.
        """
        rows: list[dict[str, Any]] = []
        model, seed = self.checkpoint.info.model, self.config.seed
        chip = program_chip(self.with_compensation, model=model, seed=seed, number=number)
        plain = program_chip(self.without, model=model, seed=seed, number=number)
        for time_s in self.config.sweep.times_s:
            for option in self._settings():
                used = plain if option == NONE else chip
                where = self._run() | {"option": option, "chip": number, "time_s": time_s}
                rows += [where | row for row in self._option(used, time_s, option, step)]
        return rows

    def _option(
        self, chip: Chip, time_s: float, option: str, step: Callable[[], object]
    ) -> Iterator[dict[str, Any]]:
        wanted = self.options if option == ALL else [option]
        with ExitStack() as stack:
            if "input_ranges" in wanted:
                ranges = input_ranges_of_chip(
                    chip.model,
                    self._adjusting(chip, time_s, "input_ranges"),
                    self._batches(),
                    self.config.calibration.quantile,
                )
                stack.enter_context(ranges)
            if "batchnorm" in wanted:
                self._enter_batchnorm(stack, chip, time_s)
            for read in range(self.config.sweep.reads):
                one = Pass.of_chip(chip, 0, time_s, read)
                temperature = self._temperature(one) if "temperature" in wanted else None
                thresholds = self.checkpoint.info.thresholds
                if temperature is not None:
                    thresholds = scale_thresholds(thresholds, temperature)
                values = values_of(self.task, self.config.margin, thresholds)
                for sample, found in predictions(one, self.test, self.task, self.config):
                    prob = found.cpu().numpy()
                    values.add(sample, prob if temperature is None else scale(prob, temperature))
                    step()
                for row in values.rows():
                    case = {"case": row["case"], "patient": row["patient"], "read": read}
                    yield case | {"metric": row["metric"], "value": row["value"]}

    def _adjusting(self, chip: Chip, time_s: float, what: str) -> ChipSnapshot:
        """Return a separate read for the adjustment, numbered after the measured reads."""
        return chip.at(time_s, self.config.sweep.reads).restart(what)

    def _enter_batchnorm(self, stack: ExitStack, chip: Chip, time_s: float) -> None:
        """Estimate BatchNorm statistics from all images at once, or as many as fit into memory."""
        size = len(self.images)
        while True:
            forward = self._adjusting(chip, time_s, "batchnorm")
            batches = self.images.split(size)
            try:
                stack.enter_context(batchnorm_of_chip(chip.model, forward, batches))
                return
            except Exception as error:
                if not is_out_of_memory(error) or size == 1:
                    raise
            size = -(-size // 2)
            warnings.warn(f"batchnorm: out of memory; trying {size} images at once", stacklevel=2)

    def _temperature(self, one: Pass) -> float:
        voxels: list[Voxels] = []
        for sample, prob in predictions(one, self.validation, self.task, self.config):
            found = prob.cpu().numpy()
            voxels.append(fitting_voxels(found, sample.label, *self._region, self._thinning))
        return fit_temperature(voxels)

    def _batches(self) -> Iterator[Tensor]:
        yield from self.images.split(self.config.images_per_pass)

    def _settings(self) -> list[str]:
        others = [option for option in self.options if option != COMPENSATED]
        return [NONE, COMPENSATED, *others, *([ALL] if len(others) > 1 else [])]

    def _possible(self) -> list[str]:
        missing: dict[str, str] = {}
        if not batchnorms(self.with_compensation):
            missing["batchnorm"] = "has no BatchNorm statistics"
        if not ranged_layers(self.with_compensation):
            missing["input_ranges"] = "runs on hardware without input ranges"
        if not self.validation:
            missing["temperature"] = "has no validation case to fit one"
        for option in self.config.options:
            if option in missing:
                warnings.warn(
                    f"{self.checkpoint.info.model}: {option} is left out, it {missing[option]}",
                    stacklevel=4,
                )
        return [option for option in self.config.options if option not in missing]

    def _run(self) -> dict[str, Any]:
        info = self.checkpoint.info
        return dict(zip(NETWORK, (self.task.name, info.model, info.training), strict=True))
