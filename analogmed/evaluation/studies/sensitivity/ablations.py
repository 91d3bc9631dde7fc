"""Ablations of a network on a chip, by layer and by noise source.

All settings of one hardware share their chips. A layer has the same devices whether it is the only
analog one or the whole network is analog, so that differences are paired.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from itertools import groupby
from typing import Any

from torch import nn

from analogmed.analog import Chip, ChipSnapshot, Hardware, coverage
from analogmed.analog.description.device_models import device_model
from analogmed.data import Case, Sample, Task
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.passes import chip_seed
from analogmed.evaluation.session import Cases, Deployment, Row, read_cases
from analogmed.evaluation.studies.robustness.sweep import run_unit
from analogmed.evaluation.studies.sensitivity.settings import SensitivityConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest
from analogmed.training import Checkpoint

SOURCES = {
    "programming": "prog_noise_scale",
    "read": "read_noise_scale",
    "drift": "drift_scale",
    "DAC": "dac_steps",
    "ADC": "adc_steps",
    "output": "out_noise",
    "input": "inp_noise",
    "weight": "weight_noise_std",
}
"""Noise sources, each with the argument of ``create_rpu_config`` that disables it if 0."""

_RANGE = ".input_range"


@dataclass(frozen=True)
class AblationSetting:
    """One configuration of the network on a chip.

    Attributes:
        name: ``all_analog``; ``only_analog`` and ``only_digital`` for one layer; ``noise_alone``
            and ``noise_all_but`` for one noise source; ``no_noise``; ``placement``.
        subject: layer or noise source; empty if there is none.
        hardware: hardware of the chip.
        digital: layers computed digitally.
    """

    name: str
    subject: str
    hardware: Hardware
    digital: frozenset[str] = frozenset()


class Bench:
    """One network on its chips, where any layer can be computed digitally.

    Args:
        checkpoint: trained network.
        config: all settings.
        task: data of the study.

    Raises:
        CoverageError: no layer of the network can be mapped onto a tile.
    """

    def __init__(self, checkpoint: Checkpoint, config: SensitivityConfig, task: Task) -> None:
        self.checkpoint, self.config, self.task = checkpoint, config, task
        self.cases = _Thinned(task, config.every_nth_slice)
        self._analog = make_analog(checkpoint, config, task)
        covered = coverage(self._analog, (1, task.in_channels, *task.window))
        self.layers, self.left_digital = covered.analog_layers, tuple(covered.digital_layers)
        self._ranges = {
            name.removesuffix(_RANGE): values.clone()
            for name, values in self._analog.state_dict().items()
            if name.endswith(_RANGE)
        }

    def runs(self, settings: Iterable[AblationSetting]) -> int:
        """Return the number of case evaluations, for a progress bar."""
        sweep = self.config.sweep
        return (
            len(list(settings)) * sweep.chips * len(sweep.times_s) * sweep.reads * len(self.cases)
        )

    def digital(self, on_case: Callable[[], object]) -> list[Row]:
        """Compute the rows of the network run digitally."""
        rows = run_unit(Deployment(self.checkpoint, None), None, self.cases, self.config, on_case)
        return [{"setting": "digital", "subject": "", **row} for row in rows]

    def run(self, settings: Iterable[AblationSetting], on_case: Callable[[], object]) -> list[Row]:
        """Compute the rows of each setting, on every chip at every time and read."""
        rows: list[Row] = []
        for hardware, group in groupby(settings, lambda setting: setting.hardware):
            same_chip = list(group)
            analog = self._on_tiles(hardware)
            for number in range(self.config.sweep.chips):
                rows += self._run_chip(analog, number, same_chip, on_case)
        return rows

    def _on_tiles(self, hardware: Hardware) -> nn.Module:
        if hardware == self.config.hardware:
            return self._analog
        config = replace(self.config, hardware=hardware)
        return make_analog(self.checkpoint, config, self.task, ranges=self._ranges)

    def _run_chip(
        self,
        analog: nn.Module,
        number: int,
        settings: list[AblationSetting],
        on_case: Callable[[], object],
    ) -> list[Row]:
        info = self.checkpoint.info
        seed = chip_seed(self.config.seed, info.model, number)
        chip, unit = Chip(analog, seed=seed), Deployment(self.checkpoint, number)
        rows: list[Row] = []
        for time_s in self.config.sweep.times_s:
            for read in range(self.config.sweep.reads):
                reading = chip.at(time_s, read)
                where: Row = {"time_s": time_s, "read": read}
                for setting in settings:
                    address = {"setting": setting.name, "subject": setting.subject}
                    with self._digital_in(analog, setting.digital):
                        part = _without(reading, setting.digital)
                        found = read_cases(unit, part, self.cases, self.config, where, on_case)
                    rows += [{**address, **row} for row in found]
        return rows

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


def list_ablations(config: SensitivityConfig, layers: Iterable[str]) -> list[AblationSetting]:
    """Return all settings of the network.

    Args:
        config: layers and noise sources to evaluate.
        layers: layers of the network on tiles.

    Raises:
        ConfigError: a pattern matches no layer on tiles, or the hardware has no noise source.
    """
    layers = tuple(layers)
    settings = [AblationSetting("all_analog", "", config.hardware)]
    if "layers" in config.parts:
        for name in chosen_layers(config, layers):
            others = frozenset(layers) - {name}
            settings.append(AblationSetting("only_analog", name, config.hardware, others))
            if others:
                settings.append(
                    AblationSetting("only_digital", name, config.hardware, frozenset({name}))
                )
    if "sources" in config.parts:
        present = sources_of(config.hardware)
        settings.append(AblationSetting("no_noise", "", _quiet(config.hardware, present)))
        for source in present:
            others_off = _quiet(config.hardware, [name for name in present if name != source])
            settings.append(AblationSetting("noise_alone", source, others_off))
            settings.append(
                AblationSetting("noise_all_but", source, _quiet(config.hardware, [source]))
            )
    return settings


def chosen_layers(config: SensitivityConfig, layers: tuple[str, ...]) -> tuple[str, ...]:
    """Return the layers on tiles that ``config.layers`` selects; all of them by default."""
    for pattern in config.layers:
        if not any(fnmatch(name, pattern) for name in layers):
            raise ConfigError(
                f"layers: no layer on tiles is called '{pattern}'; {nearest(pattern, layers)}"
            )
    wanted = config.layers or ("*",)
    return tuple(name for name in layers if any(fnmatch(name, pattern) for pattern in wanted))


def sources_of(hardware: Hardware) -> list[str]:
    """Return the noise sources of a chip.

    Raises:
        ConfigError: the chip has no noise source.
    """
    absent: set[str] = set()
    if hardware.perfect:
        absent |= {"DAC", "ADC", "output", "input", "weight"}
    if device_model(hardware.noise_model).has_one_scale:
        absent |= {"read", "drift"}
    if hardware.weight_noise == "none":
        absent |= {"weight"}
    found = [
        name
        for name, argument in SOURCES.items()
        if name not in absent and getattr(hardware, argument) > 0
    ]
    if not found:
        raise ConfigError(
            f"hardware '{hardware.preset}' has none of the noise sources {', '.join(SOURCES)}; "
            "leave sources out of parts, or take another chip"
        )
    return found


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


def _without(reading: ChipSnapshot, names: frozenset[str]) -> ChipSnapshot:
    """Return the reading without the layers that are digital now."""

    def kept(of_layers: Mapping[str, object]) -> dict[str, Any]:
        return {name: value for name, value in of_layers.items() if name not in names}

    return replace(reading, layers=kept(reading.layers), readings=kept(reading.readings))


def _quiet(hardware: Hardware, sources: Iterable[str]) -> Hardware:
    without: dict[str, Any] = {SOURCES[source]: 0 for source in sources}
    return replace(hardware, **without)
