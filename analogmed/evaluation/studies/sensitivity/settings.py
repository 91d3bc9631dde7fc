"""Settings of the layer-wise view: what is looked at, and what a placement may lose."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analogmed.evaluation.settings import Experiment, SweepConfig, refuse_scale_out
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import DAY_S

Part = Literal["layers", "sources"]
SWEEP = SweepConfig(chips=5, times_s=(0.0, DAY_S))


@dataclass(frozen=True)
class SensitivityConfig(Experiment):
    """Where one network breaks: layer by layer, and noise source by noise source.

    Attributes:
        checkpoints: one trained network; by default the shipped U-Net, trained digitally.
        parts: layers, sources, or both.
        layers: names or patterns of the layers to look at; all on tiles by default.
        every_nth_slice: of a case of several slices, only every n-th is looked at.
        sweep: chips, times and reads.
        metrics: dice; there is no other here.
        out: run folder; by default runs/NAME.
        name: name of the run.
    """

    parts: tuple[Part, ...] = ("layers", "sources")
    layers: tuple[str, ...] = ()
    every_nth_slice: int = 1
    sweep: SweepConfig = SWEEP
    name: str = "sensitivity"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.checkpoints) > 1:
            raise ConfigError(
                f"checkpoints: one network at a time is looked at, got {len(self.checkpoints)}"
            )
        if self.metrics != ("dice",):
            raise ConfigError(f"metrics: only dice is looked at here, got {list(self.metrics)}")
        if self.backend == "aihwkit":
            raise ConfigError(
                "backend: aihwkit's layers cannot be taken from a chip one by one; use another"
            )
        if self.profile is not None and not isinstance(self, PlacementConfig):
            raise ConfigError("profile: nothing is costed here; give it to placement, or to eval")
        refuse_scale_out(self)
        if self.every_nth_slice < 1:
            raise ConfigError(f"every_nth_slice must be 1 or more, got {self.every_nth_slice}")
        object.__setattr__(self, "parts", tuple(dict.fromkeys(self.parts)))
        if not self.parts:
            raise ConfigError("parts is empty; give layers, sources, or both")


@dataclass(frozen=True)
class PlacementConfig(SensitivityConfig):
    """Which layers of one network stay digital, so that it loses no more than accepted.

    Attributes:
        loss: accepted loss of Dice against the network run digitally, at the worst of the times.
        objective: what shall be least: latency or energy of one slice.
        profile: kind of tile, as for python -m analogmed.hardware: a name or a YAML file.
        level: mvm_only or measured_layer.
        digital_gmac_per_s: speed of the processor for digital layers in 1e9 multiplications per
            second; the profile's by default.
        digital_pj_per_mac: energy of one of those; the profile's by default.
        whole_curve: go on after the accepted loss is reached, for the whole Pareto curve.
        sensitivity: run folder of python -m analogmed.sensitivity, same settings, whose layers are
            taken; else they are measured first.
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
        if not (math.isfinite(self.loss) and 0 <= self.loss < 1):
            raise ConfigError(f"loss: a loss of Dice is 0 or more and below 1, got {self.loss!r}")
        for name in ("digital_gmac_per_s", "digital_pj_per_mac"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} must be above 0 and finite, got {value!r}")
        if self.profile is None:
            raise ConfigError(
                "a placement needs the times of a profile, for instance hermes-1-phase"
            )
        if self.parts != ("layers",) or self.layers:
            raise ConfigError("a placement looks at all layers; leave parts and layers out")
