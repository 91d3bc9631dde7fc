"""Settings of a supernetwork's training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analogmed.data.settings import TaskConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import (
    require_at_least_one,
    require_at_least_zero,
    require_number,
)
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.hardware.profiles import Level, spelled_profile
from analogmed.models.settings import ModelConfig
from analogmed.search.space.space import Space
from analogmed.training.settings import LoadingConfig, OptimizerConfig, TrainConfig

SETTINGS = "supernet.yaml"
"""Name of the file of a run folder that holds its settings."""
SUPERNET = "supernet.safetensors"
"""Name of the trained weights in a run folder."""


@checks_arguments
@dataclass(frozen=True)
class PruningConfig:
    """Progressive pruning of operations during the training.

    Attributes:
        every: number of epochs between prunings, each of which removes one operation from each
            level; 0 never prunes.
        warm_up: number of epochs before the first interval begins.
        keep: number of operations that each level keeps.
        decay: decay of the running average of the score on a batch (Dice, or the probability of
            the reference class) of the networks that use an operation, in [0, 1).
    """

    every: int = 0
    warm_up: int = 0
    keep: int = 1
    decay: float = 0.9

    def __post_init__(self) -> None:
        require_at_least_zero("pruning.every", self.every)
        require_at_least_zero("pruning.warm_up", self.warm_up)
        require_at_least_one("pruning.keep", self.keep)
        require_number("pruning.decay", self.decay, at_least=0, below=1)

    def one_path_after(self, operations: int) -> int | None:
        """Return the epoch after which one operation per level is left.

        Args:
            operations: number of operations of the level that has most.

        Returns:
            ``None`` where more than one stays, or there is no choice from the start.
        """
        if not self.every or self.keep > 1 or operations < 2:
            return None
        return self.warm_up + self.every * (operations - 1)


@checks_arguments
@dataclass(frozen=True)
class MiasLossConfig:
    """``L = cross_entropy * TSL + latency * T``.

    Attributes:
        cross_entropy: weight of the task-specific loss TSL.
        latency: weight of T, the sum over levels of the latency of the slowest sampled operation,
            relative to the slowest path. T has a gradient only with the rule gumbel.
        temperature: temperature of the rule gumbel.
    """

    cross_entropy: float = 1.0
    latency: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_at_least_zero("loss.cross_entropy", self.cross_entropy, zero=False)
        require_at_least_zero("loss.latency", self.latency)
        require_at_least_zero("loss.temperature", self.temperature, zero=False)


@checks_arguments
@dataclass(frozen=True)
class LatencyConfig:
    """Source of the latencies of operations.

    Attributes:
        profile: tile type for the estimates.
        level: accounting level of the profile.
        table: folder of a table of operations measured on a digital processor, which replaces the
            profile; this machine is measured first if the folder has none.
    """

    profile: str = "hermes-4-phase"
    level: Level = "mvm_only"
    table: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", spelled_profile(self.profile))


@checks_arguments
@dataclass(frozen=True)
class SupernetConfig:
    """Training of a supernetwork: shared weights for all networks of a space.

    Attributes:
        task: data; training patients train the supernetwork, validation patients score its
            networks.
        more_tasks: further tasks that share the weights; set in a YAML file.
        space: search space.
        rule: sampling of the networks of a step: spos, fairnas, sandwich, or gumbel, by learned
            architecture weights.
        paths: number of networks per step, for spos and gumbel.
        epochs: number of epochs; each has as many patches as there are training slices or volumes.
        batch_size: number of patches in a batch.
        optimizer: optimizer.
        loss: training loss.
        latency: source of the latencies of operations.
        pruning: progressive pruning.
        loading: sampling of patches.
        validate_every: number of epochs between validations.
        probes: number of networks whose mean score is the validation score.
        trace: number of networks whose scores are logged during the training, in trace.csv.
        trace_every: number of epochs between these scores.
        device: torch device, for instance cpu or cuda.
        restart: discard a run found in the run folder and start over; by default that run is
            resumed.
        seed: root seed of all random draws.
        out: run folder; by default runs/supernet/TASK-RULE.
    """

    task: TaskConfig = TaskConfig()
    more_tasks: tuple[TaskConfig, ...] = ()
    space: Space = Space()
    rule: Literal["spos", "fairnas", "sandwich", "gumbel"] = "spos"
    paths: int = 1
    epochs: int = 40
    batch_size: int = 8
    optimizer: OptimizerConfig = OptimizerConfig(ema=0.0)
    loss: MiasLossConfig = MiasLossConfig()
    latency: LatencyConfig = LatencyConfig()
    pruning: PruningConfig = PruningConfig()
    loading: LoadingConfig = LoadingConfig()
    validate_every: int = 5
    probes: int = 4
    trace: int = 0
    trace_every: int = 5
    device: str = "cpu"
    restart: bool = False
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        for name in ("paths", "epochs", "batch_size", "validate_every", "probes", "trace_every"):
            require_at_least_one(name, getattr(self, name))
        require_at_least_zero("trace", self.trace)
        if self.out is not None:
            object.__setattr__(self, "out", Path(self.out))
        if self.optimizer.accumulate != 1:
            raise ConfigError("optimizer.accumulate: every step takes one batch; leave it at 1")
        if self.rule in ("fairnas", "sandwich") and self.paths != 1:
            raise ConfigError(f"paths: {self.rule} has a number of networks a step of its own")

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        name = f"{self.task.own_name}-{self.rule}"
        return self.out or Path("runs") / "supernet" / name.replace("/", "_").replace(":", "_")

    @property
    def path(self) -> Path:
        """The trained weights."""
        return self.folder / SUPERNET

    @property
    def tasks(self) -> tuple[TaskConfig, ...]:
        """All that share the weights."""
        return (self.task, *self.more_tasks)

    def training(self, task: TaskConfig) -> TrainConfig:
        """The settings that it has in common with the training of one network."""
        return TrainConfig(
            task=task,
            model=ModelConfig("supernet"),
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer=self.optimizer,
            loading=self.loading,
            validate_every=self.validate_every,
            device=self.device,
            seed=self.seed,
            out=self.folder,
        )


@checks_arguments
@dataclass(frozen=True)
class ImportanceConfig:
    """Importance of the blocks of supernetworks.

    Attributes:
        supernets: run folders of trained supernetworks.
        n: number of sampled networks with a block, over which its score is averaged.
        seed: seed of the sampled networks.
        out: folder for the table and the figure.
    """

    supernets: tuple[Path, ...] = ()
    n: int = 32
    seed: int = 0
    out: Path = Path("runs/importance")

    @property
    def folder(self) -> Path:
        """Run folder."""
        return self.out

    def __post_init__(self) -> None:
        require_at_least_one("n", self.n)
        if not self.supernets:
            raise ConfigError(
                "supernets: name the run folder of a trained supernetwork, or train one with "
                "'analogmed search supernet'"
            )
