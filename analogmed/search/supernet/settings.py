"""Settings of a supernetwork's training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analogmed.data.settings import TaskConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one, require_at_least_zero
from analogmed.hardware.profiles import Level
from analogmed.models.settings import ModelConfig
from analogmed.search.space.space import Space
from analogmed.training.settings import LoadingConfig, OptimizerConfig, TrainConfig

SETTINGS = "supernet.yaml"
"""Name of the file of a run folder that holds its settings."""
SUPERNET = "supernet.safetensors"
"""Name of the trained weights in a run folder."""


@dataclass(frozen=True)
class PruningConfig:
    """When operations leave the supernetwork.

    Attributes:
        every: epochs between prunings, each of which takes one operation from each level; 0 never
            prunes.
        warm_up: epochs before the first of them are counted.
        keep: operations that each level keeps.
        decay: of the running average of the Dice of the networks that use an operation.
    """

    every: int = 0
    warm_up: int = 0
    keep: int = 1
    decay: float = 0.9

    def __post_init__(self) -> None:
        require_at_least_zero("pruning.every", self.every)
        require_at_least_zero("pruning.warm_up", self.warm_up)
        require_at_least_one("pruning.keep", self.keep)
        if not 0 <= self.decay < 1:
            raise ConfigError(f"pruning.decay must lie in [0, 1), got {self.decay!r}")

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


@dataclass(frozen=True)
class MiasLossConfig:
    """``L = cross_entropy * TSL + latency * T``.

    Attributes:
        cross_entropy: weight of the task-specific loss TSL, Dice and cross-entropy.
        latency: weight of T, the sum over levels of the slowest operation that was sampled, in
            units of the slowest path. Drawn networks do not depend on the weights, so that T moves
            no weight, unless the rule is gumbel.
        temperature: of the gumbel rule.
    """

    cross_entropy: float = 1.0
    latency: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        require_at_least_zero("loss.cross_entropy", self.cross_entropy, zero=False)
        require_at_least_zero("loss.latency", self.latency)
        require_at_least_zero("loss.temperature", self.temperature, zero=False)


@dataclass(frozen=True)
class LatencyConfig:
    """Where the latency of operations comes from.

    Attributes:
        profile: kind of tile that it is estimated for.
        level: of its figures.
        table: folder of a table of operations measured on a digital processor, which then counts in
            place of the profile; where it holds none, this machine is measured first.
    """

    profile: str = "hermes-4-phase"
    level: Level = "mvm_only"
    table: Path | None = None


@dataclass(frozen=True)
class SupernetConfig:
    """One supernetwork.

    Attributes:
        task: the data; training patients train it, validation patients score its networks.
        more_tasks: further tasks that share its weights; in a file of settings.
        space: the networks that it holds.
        rule: which networks share a step: spos, fairnas, sandwich, or gumbel, by architecture
            weights that are learned too.
        paths: networks a step, of spos and gumbel.
        epochs: of as many patches as there are training slices or volumes.
        batch_size: patches in a batch.
        optimizer: steps and schedule.
        loss: what is minimised.
        latency: where the latency of operations comes from.
        pruning: when operations leave.
        loading: how patches are drawn.
        validate_every: epochs between validations.
        probes: networks whose mean score is the validation's.
        trace: networks whose scores are followed over the training, in trace.csv.
        trace_every: epochs between these scores.
        device: where to compute, for instance cpu or cuda.
        restart: begin anew where the run folder holds a run; otherwise that one goes on.
        seed: root of all random draws.
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
        if self.space.purpose == "classification":
            raise ConfigError(
                "space.purpose: the tasks' labels are masks, which train no classification"
            )
        if self.optimizer.accumulate != 1:
            raise ConfigError("optimizer.accumulate: every step takes one batch; leave it at 1")
        if self.rule in ("fairnas", "sandwich") and self.paths != 1:
            raise ConfigError(f"paths: {self.rule} has a number of networks a step of its own")

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        name = f"{self.task.name}-{self.rule}"
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


@dataclass(frozen=True)
class ImportanceConfig:
    """Importance of the blocks of supernetworks.

    Attributes:
        supernets: run folders of trained supernetworks.
        n: networks that hold a block, over which is averaged.
        seed: of their draw.
        out: where table and figure go.
    """

    supernets: tuple[Path, ...] = ()
    n: int = 32
    seed: int = 0
    out: Path = Path("runs/importance")

    def __post_init__(self) -> None:
        require_at_least_one("n", self.n)
        if not self.supernets:
            raise ConfigError(
                "supernets: name the run folder of a trained supernetwork, or train one with "
                "'python -m analogmed.search supernet'"
            )
