"""Settings of the layer-wise evaluation and of placements."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analogmed.evaluation.settings import Experiment, SweepConfig, require_fixed_chips
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import (
    require_at_least_one,
    require_at_least_zero,
    require_number,
)
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.time_constants import DAY_S

Part = Literal["layers", "sources"]
SWEEP = SweepConfig(chips=5, times_s=(0.0, DAY_S))


@checks_arguments
@dataclass(frozen=True)
class SensitivityConfig(Experiment):
    """Drop of the primary metric of one network, by layer and by noise source.

    Attributes:
        checkpoints: one trained network; by default the shipped U-Net, trained digitally.
        parts: what is measured: layers, sources, or both.
        layers: names or patterns of the layers to measure; by default all layers on tiles.
        every_nth_slice: step between evaluated slices or images of a case with several of them; 1
            evaluates all.
        sweep: chips, times and reads.
        metrics: the primary metric of the task, the only one of this command.
        tolerance: without effect in this command, which does not compute nsd.
        limit: without effect in this command, which computes no time to failure.
        out: run folder; by default runs/NAME.
        name: name of the run.
    """

    only_primary = True

    parts: tuple[Part, ...] = ("layers", "sources")
    layers: tuple[str, ...] = ()
    every_nth_slice: int = 1
    sweep: SweepConfig = SWEEP
    name: str = "sensitivity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.checkpoints) > 1:
            raise ConfigError(f"checkpoints: expected one network, got {len(self.checkpoints)}")
        if self.backend == "aihwkit":
            raise ConfigError(
                "backend: aihwkit's layers cannot be taken from a chip one by one; use another"
            )
        if self.profile is not None and not isinstance(self, PlacementConfig):
            raise ConfigError("profile: computes no cost here; give it to placement, or to eval")
        require_fixed_chips(self)
        require_at_least_one("every_nth_slice", self.every_nth_slice)
        object.__setattr__(self, "parts", tuple(dict.fromkeys(self.parts)))
        if not self.parts:
            raise ConfigError("parts is empty; give layers, sources, or both")


@checks_arguments
@dataclass(frozen=True)
class PlacementConfig(SensitivityConfig):
    """Choice of the digital layers of one network within an accepted drop of the primary metric.

    Attributes:
        loss: largest accepted drop of the primary metric relative to the digital network, at the
            worst of the times; 0 or more, below 1.
        objective: quantity to minimise, latency or energy per slice.
        profile: tile type, as for analogmed hardware: a name or a YAML file.
        level: accounting level, mvm_only or measured_layer.
        digital_gmac_per_s: throughput of the processor for digital layers, in 1e9 MACs per second;
            by default that of the profile.
        digital_pj_per_mac: energy of the processor for digital layers, in pJ per MAC; by default
            that of the profile.
        whole_curve: continue after the accepted drop is reached, to compute the whole Pareto curve.
        sensitivity: run folder of analogmed sensitivity with the same settings, whose layers are
            used; by default they are measured first.
        out: run folder; by default runs/NAME.
        name: name of the run.
    """

    loss: float = 0.01
    objective: Literal["latency", "energy"] = "latency"
    profile: str | None = "hermes-1-phase"
    digital_gmac_per_s: float | None = None
    digital_pj_per_mac: float | None = None
    whole_curve: bool = False
    sensitivity: Path | None = None
    parts: tuple[Part, ...] = ("layers",)
    name: str = "placement"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("loss", self.loss, at_least=0, below=1)
        for name in ("digital_gmac_per_s", "digital_pj_per_mac"):
            value = getattr(self, name)
            if value is not None:
                require_at_least_zero(name, value, zero=False)
        if self.profile is None:
            raise ConfigError(
                "a placement needs the times of a profile, for instance hermes-1-phase"
            )
        if self.parts != ("layers",) or self.layers:
            raise ConfigError("a placement considers all layers; leave parts and layers out")
