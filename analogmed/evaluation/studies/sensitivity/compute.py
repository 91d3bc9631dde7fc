"""Computation of ablations: all settings of one hardware on one chip, or the digital run."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor, nn

from analogmed.analog import ChipSnapshot, Hardware, coverage
from analogmed.data import Case, Sample, Task
from analogmed.evaluation.deploy import digital_layers_of, make_analog, to_tiles
from analogmed.evaluation.passes import chip_passes
from analogmed.evaluation.session import Cases, Deployment, Row, read_cases
from analogmed.evaluation.studies.robustness.sweep import run_unit
from analogmed.evaluation.studies.sensitivity.ablations import AblationSetting
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.evaluation.unit_inputs import (
    inputs_of_all,
    inputs_of_chips,
    inputs_of_network,
    threads_of,
    unit_title,
)
from analogmed.evaluation.unit_worker import UnitWorker
from analogmed.execution.compute import Step
from analogmed.execution.plans import Rounds
from analogmed.execution.store import UnitResult
from analogmed.execution.threads import threads
from analogmed.execution.unit import Unit
from analogmed.foundation.settings.plain import to_plain
from analogmed.tables.sensitivity import to_settings_table
from analogmed.training import Checkpoint

_RANGE = ".input_range"


@dataclass(frozen=True)
class AblationUnit(Unit):
    """Settings of one hardware on one chip, at all times and reads, or the digital run.

    Attributes:
        checkpoint: file of the network.
        chip: number of the chip; ``None`` for the digital run.
        settings: settings that run on the chip.
    """

    checkpoint: Path
    chip: int | None
    settings: tuple[AblationSetting, ...] = ()


class AblationPlan:
    """Planner of the units of one network; each file is read once.

    Args:
        config: settings of the study.
        task: data of the study.
        checkpoint: trained network.

    Attributes:
        digital: unit of the digital run.

    Raises:
        DataError: a file of a case cannot be read.
    """

    def __init__(self, config: SensitivityConfig, task: Task, checkpoint: Checkpoint) -> None:
        self._config, self._checkpoint = config, checkpoint
        self._inputs = {
            **inputs_of_units(config, task),
            **inputs_of_network(checkpoint),
            "digital_layers": sorted(digital_layers_of(checkpoint, config)),
            "threads": threads_of(config.engine),
        }
        described = self._inputs | {"chip": None}
        title = unit_title(checkpoint, "digital run")
        self.digital = AblationUnit(described, title, 1, checkpoint.path, None)

    def on_chips(self, settings: Iterable[AblationSetting]) -> list[AblationUnit]:
        """Return the units of settings, grouped by hardware and chip."""
        return [
            self._unit(hardware, number, chosen)
            for hardware, chosen in (
                (hardware, tuple(group))
                for hardware, group in groupby(settings, lambda setting: setting.hardware)
            )
            for number in range(self._config.sweep.chips)
        ]

    def _unit(
        self, hardware: Hardware, number: int, settings: tuple[AblationSetting, ...]
    ) -> AblationUnit:
        described = self._inputs | {
            "chip": number,
            "chip_hardware": to_plain(hardware),
            "settings": [[each.name, each.subject, sorted(each.digital)] for each in settings],
        }
        names = settings[0].name if len(settings) == 1 else f"{len(settings)} settings"
        subject = f" {settings[0].subject}" if len(settings) == 1 and settings[0].subject else ""
        title = unit_title(self._checkpoint, f"{names}{subject}, chip {number}")
        passes = len(self._config.sweep.readings) * len(settings)
        return AblationUnit(described, title, passes, self._checkpoint.path, number, settings)


def ablation_rounds(
    plan: AblationPlan, settings: Iterable[AblationSetting]
) -> Rounds[pd.DataFrame]:
    """Yield the digital run and all settings on all chips; return the table of their rows."""
    units = [plan.digital, *plan.on_chips(settings)]
    results = yield units
    return pd.concat([results[unit.key].table for unit in units], ignore_index=True)


def inputs_of_units(config: SensitivityConfig, task: Task) -> dict[str, Any]:
    """Return the inputs that all units depend on, except the network.

    Raises:
        DataError: a file of a case cannot be read.
    """
    return {
        "study": "ablations",
        **inputs_of_all(config, task, __name__),
        **inputs_of_chips(config, task),
        "every_nth_slice": config.every_nth_slice,
    }


class AblationCompute(UnitWorker[SensitivityConfig]):
    """Compute of the units; the last network on its tiles is reused."""

    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the units, without their networks, as this process has them."""
        return inputs_of_units(self.config, self.task)

    def forget(self) -> None:
        """Drop samples and the analog network, since the data have changed."""
        self._ablated: AblatedNetwork | None = None

    def __call__(self, unit: AblationUnit, step: Step) -> UnitResult:
        """Return the rows of a unit."""
        self.require_inputs(unit)
        (checkpoint,) = self.load([(unit.checkpoint, unit.description)])
        if self._ablated is None or self._ablated.checkpoint is not checkpoint:
            self._ablated = AblatedNetwork(checkpoint, self.config, self.task)
        with threads(unit.description["threads"]):
            if unit.chip is None:
                rows = self._ablated.digital(step)
            else:
                rows = self._ablated.run_chip(unit.chip, unit.settings, step)
        return UnitResult(to_settings_table(rows))


def layers_on_tiles(
    checkpoint: Checkpoint, config: SensitivityConfig, task: Task
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the layers on tiles, and of those that stay digital.

    Raises:
        CoverageError: no layer of the network can be mapped onto a tile.
    """
    covered = coverage(to_tiles(checkpoint, config), (1, task.in_channels, *task.window))
    return tuple(covered.analog_layers), tuple(covered.digital_layers)


class AblatedNetwork:
    """One network on its chips, where any layer can be computed digitally.

    All settings of one hardware share its tiles; the tiles of the last hardware are kept.

    Args:
        checkpoint: trained network.
        config: all settings.
        task: data of the study.
    """

    def __init__(self, checkpoint: Checkpoint, config: SensitivityConfig, task: Task) -> None:
        self.checkpoint, self.config, self.task = checkpoint, config, task
        self.cases = _Thinned(task, config.every_nth_slice)
        self._other: tuple[Hardware, nn.Module] | None = None

    def digital(self, on_case: Callable[[], object]) -> list[Row]:
        """Compute the rows of the network run digitally."""
        rows = run_unit(Deployment(self.checkpoint, None), None, self.cases, self.config, on_case)
        return [{"setting": "digital", "subject": "", **row} for row in rows]

    def run_chip(
        self,
        number: int,
        settings: tuple[AblationSetting, ...],
        on_case: Callable[[], object],
    ) -> list[Row]:
        """Compute the rows of each setting on one chip, at every time and read.

        Args:
            number: number of the chip.
            settings: settings of one hardware.
            on_case: callback after each case.
        """
        analog = self._on_tiles(settings[0].hardware)
        unit = Deployment(self.checkpoint, number)
        rows: list[Row] = []
        for one in chip_passes(
            analog,
            self.config.sweep,
            model=self.checkpoint.info.model,
            seed=self.config.seed,
            chips=[number],
        ):
            assert isinstance(one.network, ChipSnapshot)
            for setting in settings:
                address = {"setting": setting.name, "subject": setting.subject}
                with self._digital_in(analog, setting.digital):
                    part = one.network.without(setting.digital)
                    read = replace(one, network=part, restart=part.restart)
                    found = read_cases(unit, read, self.cases, self.config, on_case)
                rows += [{**address, **row} for row in found]
        return rows

    @cached_property
    def _analog(self) -> nn.Module:
        return make_analog(self.checkpoint, self.config, self.task)

    @cached_property
    def _ranges(self) -> dict[str, Tensor]:
        """Input ranges of the network on the hardware of the settings, shared by all hardware."""
        return {
            name.removesuffix(_RANGE): values.clone()
            for name, values in self._analog.state_dict().items()
            if name.endswith(_RANGE)
        }

    def _on_tiles(self, hardware: Hardware) -> nn.Module:
        if hardware == self.config.hardware:
            return self._analog
        if self._other is None or self._other[0] != hardware:
            config = replace(self.config, hardware=hardware)
            self._other = None
            analog = make_analog(self.checkpoint, config, self.task, ranges=self._ranges)
            self._other = hardware, analog
        return self._other[1]

    @contextmanager
    def _digital_in(self, analog: nn.Module, names: frozenset[str]) -> Iterator[None]:
        """Replace analog layers by their digital originals within a context.

        A layer is replaced wherever it is registered.
        """
        digital = self.checkpoint.network
        twins = {id(analog.get_submodule(name)): digital.get_submodule(name) for name in names}
        places = [
            (place, layer)
            for place, layer in analog.named_modules(remove_duplicate=False)
            if id(layer) in twins
        ]
        try:
            for place, layer in places:
                analog.set_submodule(place, twins[id(layer)])
            yield
        finally:
            for place, layer in places:
                analog.set_submodule(place, layer)


class _Thinned(Cases):
    """Test samples with every n-th slice only."""

    def __init__(self, task: Task, step: int) -> None:
        super().__init__(task)
        self.step = step

    def _read(self, case: Case) -> Sample:
        sample = super()._read(case)
        if self.step == 1:
            return sample
        thin = replace(sample, image=sample.image[:: self.step], label=sample.label[:: self.step])
        if case.case_id in self._kept:
            self._kept[case.case_id] = thin
        return thin
