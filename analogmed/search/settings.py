"""Settings of a search."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from analogmed.analog.description.hardware import Hardware
from analogmed.analog.description.resolve import as_hardware
from analogmed.analog.settings import CalibrationConfig, resolve_layers
from analogmed.data.settings import TaskConfig
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one, require_at_least_zero
from analogmed.foundation.settings.forms import checks_arguments, expand_short_forms
from analogmed.foundation.text import known_name, nearest
from analogmed.hardware.profiles import Level, load_profile, spelled_profile
from analogmed.search.objectives import Constraint, Goal, spelled_constraint, spelled_objective
from analogmed.search.space.space import Space
from analogmed.search.strategy_names import strategy_names
from analogmed.training.settings import LoadingConfig, LossConfig, NoiseConfig, OptimizerConfig


@checks_arguments
@dataclass(frozen=True)
class StrategyConfig:
    """Search strategy and its options.

    Attributes:
        name: random, evolution, nsga2, nsga3, tpe, analognas, mias, mt_mias, mt_mias_c, or an
            entry point of the group analogmed.search.
        options: further arguments of the strategy.
    """

    name: str = "tpe"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = strategy_names()
        object.__setattr__(self, "name", known_name(self.name, known))
        if self.name not in known:
            raise ConfigError(f"unknown strategy '{self.name}'; {nearest(self.name, known)}")


@checks_arguments
@dataclass(frozen=True)
class CandidateConfig:
    """Training and evaluation of candidates.

    Attributes:
        epochs: number of epochs of digital training.
        hwa_epochs: number of epochs of the hardware-aware training that follows.
        batch_size: number of patches in a batch.
        optimizer: optimizer of both stages of the training.
        loss: training loss.
        loading: sampling of patches.
        noise: noise injection during hardware-aware training.
        calibration: calibration of input ranges.
        chips: number of chip instances of each candidate, the same chips for all candidates.
        reads: number of reads of each chip at each time.
        threads: number of CPU threads that train one candidate, 1 or more. The last digits of
            results depend on it, so it is a setting of the search; engine.workers is not.
    """

    epochs: int = 10
    hwa_epochs: int = 10
    batch_size: int = 8
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=5e-3, ema=0.9)
    loss: LossConfig = LossConfig()
    loading: LoadingConfig = LoadingConfig()
    noise: NoiseConfig = NoiseConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    chips: int = 3
    reads: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "hwa_epochs", "batch_size", "chips", "reads", "threads"):
            require_at_least_one(f"candidate.{name}", getattr(self, name))


@checks_arguments
@dataclass(frozen=True)
class SearchConfig:
    """Search for networks with a high on-chip score at low cost.

    Attributes:
        task: data; the search never reads the test patients.
        space: search space; of a classification task with purpose classification.
        strategy: search strategy.
        objectives: metrics to optimise, of which the first selects the winner: dice_1d,
            dice_1d_std, dice_t0, dice_1mo, dice_digital, avm_drop, uncertainty, parameters, tiles,
            latency_ms, energy_mj; for another metric its name in place of dice, such as hd95_1d, or
            auroc_1d for classification.
        constraints: bounds on these metrics, for instance "tiles <= 40".
        budget: number of networks to train, by all processes together; a larger budget extends a
            finished search.
        proposals: largest number of proposals per network of the budget. Known networks, and
            networks that violate a constraint that requires no training, do not use up the budget.
        candidate: training and evaluation of candidates.
        final_epochs: number of epochs of each stage of the final training of the winner, on all
            patients but those of the test split; 0 keeps the candidate.
        hardware: chip; by default, each setting is that of the preset.
        digital_layers: names or patterns of layers that stay digital in every network that has
            them, in addition to those that its genes place there; or the placement.yaml of a
            network of the space. Names of no network of the space raise an error.
        profile: tile type for latency_ms and energy_mj, as for analogmed hardware.
        level: accounting level: mvm_only covers MVM and converters; measured_layer also covers
            links and digital units.
        supernets: run folders of trained supernetworks by task, for strategies that use them.
        engine: execution engine; does not affect the metrics of a network.
        study: name of the study in its storage.
        storage: URL of a relational database that several machines share, for instance
            postgresql://host/name; by default the file study.log of the run folder.
        backend: implementation of the tile computations: numba (compiled), torch (reference), or
            auto.
        device: torch device, for instance cpu or cuda.
        seed: root seed of all random draws.
        out: run folder; by default runs/search.
    """

    task: TaskConfig = TaskConfig()
    space: Space = Space()
    strategy: StrategyConfig = StrategyConfig()
    objectives: tuple[str, ...] = ("dice_1d", "tiles")
    constraints: tuple[str, ...] = ()
    budget: int = 16
    proposals: int = 20
    candidate: CandidateConfig = CandidateConfig()
    final_epochs: int = 60
    hardware: Hardware = Hardware()
    digital_layers: tuple[str, ...] = ()
    profile: str = "hermes-4-phase"
    level: Level = "mvm_only"
    supernets: dict[str, Path] = field(default_factory=dict)
    engine: EngineConfig = EngineConfig()
    study: str = "search"
    storage: str | None = None
    backend: Literal["auto", "torch", "numba"] = "auto"
    device: str = "cpu"
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "hardware", as_hardware(self.hardware))
        expand_short_forms(self)
        object.__setattr__(self, "device", str(self.device).lower())
        objectives = tuple(map(spelled_objective, self.objectives))
        object.__setattr__(self, "objectives", objectives)
        object.__setattr__(self, "constraints", tuple(map(spelled_constraint, self.constraints)))
        object.__setattr__(self, "profile", spelled_profile(self.profile))
        require_at_least_one("budget", self.budget)
        require_at_least_one("proposals", self.proposals)
        require_at_least_zero("final_epochs", self.final_epochs)
        if self.engine.threads is not None:
            raise ConfigError(
                f"--engine.threads: applies to eval only, got {self.engine.threads}. Leave it out."
            )
        given = self.digital_layers
        object.__setattr__(self, "digital_layers", resolve_layers(given))
        goal = self.goal
        if self.candidate.chips < 2 and goal.spreads:
            raise ConfigError(
                f"{goal.spreads[0]} is a deviation over chips: set candidate.chips to 2"
            )
        passes = self.candidate.chips * self.candidate.reads
        if passes < 2 and "uncertainty" in goal.metrics:
            raise ConfigError(
                "uncertainty: the mutual information between passes is 0 for a single pass; "
                f"expected 2 passes or more, got {passes} (candidate.chips * candidate.reads). Set "
                "candidate.chips to 2"
            )
        if self.digital_layers:
            from analogmed.search.digital_layers import refuse_unknown  # loads torch

            of_placement = self.digital_layers != tuple(dict.fromkeys(given))
            refuse_unknown(self.digital_layers, self.space, of_placement=of_placement)
        self._refuse_free_layers()

    def _refuse_free_layers(self) -> None:
        profile = load_profile(self.profile)
        profile.figures(self.level)
        known = {
            "latency_ms": ("digital_gmac_per_s", profile.digital_gmac_per_s),
            "energy_mj": ("digital_pj_per_mac", profile.digital_pj_per_mac),
        }
        if not ("digital" in self.space.places or self.digital_layers):
            return
        for metric in sorted(known.keys() & set(self.goal.metrics)):
            field_name, value = known[metric]
            if value is None:
                raise ConfigError(
                    f"{metric}: profile {self.profile} has no {field_name}, so that digital "
                    "layers would be free; expected a profile that knows what they take. Give "
                    "another profile, or remove digital from space.places and digital_layers"
                )

    @property
    def goal(self) -> Goal:
        """Objectives and constraints."""
        return Goal(self.objectives, tuple(map(Constraint.of, self.constraints)))

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.out or Path("runs") / "search"
