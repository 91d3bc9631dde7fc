"""Settings of the commands that evaluate networks: options of an evaluation and of the demo."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from analogmed.analog.description.presets import spelled_preset
from analogmed.evaluation.settings import Experiment
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one
from analogmed.foundation.settings.forms import checks_arguments


@checks_arguments
@dataclass(frozen=True)
class EvalConfig(Experiment):
    """Evaluation of networks on a task, digitally and on chips.

    Attributes:
        wide: print all estimates with their intervals, 120 columns wide, and the costs.
        costs: print the costs: tiles and, with profile, time and energy.
    """

    wide: bool = False
    costs: bool = False

    def experiment(self) -> Experiment:
        """Return the settings of the evaluation, without those of the printed tables."""
        names = [field.name for field in dataclasses.fields(Experiment)]
        return Experiment(**{name: getattr(self, name) for name in names})


@checks_arguments
@dataclass(frozen=True)
class DemoConfig:
    """Drop of Dice of a U-Net in a day, trained in two ways, on two kinds of chip.

    The networks are shipped. The patients are synthetic: the slices of the brain phantom, without
    those of the patients that the networks were trained on.

    Attributes:
        presets: hardware presets of the chips.
        patients: number of patients.
        chips: number of chip instances of each network and preset.
        engine: execution engine; of its settings, only threads affects results.
        out: folder of the page; each preset has a run folder below it.
        restart: compute all units of work again; by default finished ones are reused.
    """

    presets: tuple[str, ...] = ("reram_cmo", "pcm")
    patients: int = 20
    chips: int = 5
    engine: EngineConfig = EngineConfig(workers=2, threads=1)
    out: Path = Path("runs/demo")
    restart: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "presets", tuple(dict.fromkeys(map(spelled_preset, self.presets))))
        if not self.presets:
            raise ConfigError("presets: expected at least one preset, got none. Add reram_cmo.")
        for name in ("patients", "chips"):
            require_at_least_one(name, getattr(self, name))
