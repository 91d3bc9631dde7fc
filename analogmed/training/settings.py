"""Settings of a training run."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analogmed.analog import Hardware
from analogmed.analog.settings import CalibrationConfig, resolve_layers
from analogmed.data.settings import TaskConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one, require_at_least_zero
from analogmed.foundation.time_constants import HOUR_S, MONTH_S
from analogmed.models.settings import ModelConfig

NETWORK = "network.safetensors"
"""Name of the network that a run keeps, in its folder."""
Keep = Literal["last", "best"]
"""Which state of a run is kept; see :class:`TrainConfig`."""
SETTINGS = "training.yaml"
"""Name of the file of a run folder that holds its settings."""


def network_file(path: Path) -> Path:
    """Return the file that a path to a checkpoint means: in a run folder, the network it keeps."""
    return path / NETWORK if path.is_dir() else path


def _require_share(name: str, value: float) -> None:
    if not math.isfinite(value) or not 0 <= value < 1:
        raise ConfigError(f"{name} must lie in [0, 1), got {value!r}")


@dataclass(frozen=True)
class OptimizerConfig:
    """How gradients become steps.

    Attributes:
        name: adamw, or sgd with Nesterov momentum.
        learning_rate: at its highest.
        weight_decay: decoupled from the gradient in adamw; of weights, not of biases and norms.
        momentum: of sgd.
        schedule: of the learning rate, down to 0 after the last step (constant: none).
        power: of the polynomial schedule.
        warm_up: share of all steps over which the learning rate rises from 0.
        gradient_norm: gradients are clipped to this norm.
        accumulate: batches whose gradients make one step.
        ema: decay of the running average of the weights, which is then what is validated and
            kept; 0 switches it off.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    momentum: float = 0.9
    schedule: Literal["cosine", "polynomial", "constant"] = "cosine"
    power: float = 0.9
    warm_up: float = 0.05
    gradient_norm: float = 1.0
    accumulate: int = 1
    ema: float = 0.99

    def __post_init__(self) -> None:
        require_at_least_one("optimizer.accumulate", self.accumulate)
        require_at_least_zero("optimizer.weight_decay", self.weight_decay)
        for name in ("learning_rate", "gradient_norm", "power"):
            require_at_least_zero(f"optimizer.{name}", getattr(self, name), zero=False)
        for name in ("momentum", "warm_up", "ema"):
            _require_share(f"optimizer.{name}", getattr(self, name))


@dataclass(frozen=True)
class LossConfig:
    """What is minimised: a weighted sum.

    Attributes:
        dice: weight of the soft Dice loss.
        cross_entropy: weight of the cross-entropy.
        deep_supervision: unetpp and dynunet get a head at each level, and learn from all of them.
        distillation: weight of the distance to the soft masks of the network that hardware-aware
            training starts from.
        temperature: of these soft masks; above 1 softens them.
    """

    dice: float = 1.0
    cross_entropy: float = 1.0
    deep_supervision: bool = False
    distillation: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("dice", "cross_entropy", "distillation"):
            require_at_least_zero(f"loss.{name}", getattr(self, name))
        require_at_least_zero("loss.temperature", self.temperature, zero=False)
        if self.dice + self.cross_entropy + self.distillation == 0:
            raise ConfigError("loss: dice, cross_entropy and distillation are all 0")


@dataclass(frozen=True)
class LoadingConfig:
    """How patches come from the files.

    Attributes:
        cache_bytes: training samples are kept in memory up to this, and so are validation samples;
            others are read again when needed.
        foreground: share of patches that are centred on a voxel of a class.
        augment: flip, turn and zoom patches, and change their intensities.
        patches_per_image: patches from each slice or volume in an epoch, on average.
        mixed_cases: largest number of cases whose patches are mixed with each other.
        mixed_bytes: largest size in bytes of the cases whose patches are mixed with each other, a
            single case excepted. Where the cache holds as much, each case is read once per epoch.
        workers: processes that read ahead; 0 reads in the training process. They share the cache.
    """

    cache_bytes: int = 2 * 2**30
    foreground: float = 0.5
    augment: bool = True
    patches_per_image: int = 1
    mixed_cases: int = 16
    mixed_bytes: int = 2 * 2**30
    workers: int = 0

    def __post_init__(self) -> None:
        require_at_least_zero("loading.cache_bytes", self.cache_bytes)
        require_at_least_zero("loading.mixed_bytes", self.mixed_bytes)
        require_at_least_zero("loading.workers", self.workers)
        for name in ("patches_per_image", "mixed_cases"):
            require_at_least_one(f"loading.{name}", getattr(self, name))
        if not 0 <= self.foreground <= 1:
            raise ConfigError(f"loading.foreground must lie in [0, 1], got {self.foreground!r}")


@dataclass(frozen=True)
class NoiseConfig:
    """What disturbs hardware-aware training; kinds and sizes of noise are hardware's.

    Attributes:
        weights: modifier, the weight noise that hardware.modifier describes; or chips: each step
            computes with the weights of a virtual chip, programmed from the present weights and
            aged to a random time.
        ramp: share of the steps over which the weight noise grows from 0 to its full size.
        every: steps that a virtual chip serves before another one is programmed; programming is
            the costly part.
        ages_s: smallest and largest age of a virtual chip when it is read, in s; in between, its
            logarithm is evenly drawn.
        ranges: calibrated sets the converters' input ranges to a quantile of the inputs before each
            epoch; learned trains them by gradient.
        norms: learned normalises each batch by its own statistics, which hides what a chip does to
            a channel, and lets the running ones follow; frozen uses the running statistics of the
            digital start, as batch normalisation does on a chip; late is learned in the first half
            of the epochs and then frozen, with the statistics averaged so far.
    """

    weights: Literal["modifier", "chips"] = "chips"
    every: int = 2
    ramp: float = 0.0
    ages_s: tuple[float, float] = (HOUR_S, MONTH_S)
    ranges: Literal["calibrated", "learned"] = "calibrated"
    norms: Literal["learned", "late", "frozen"] = "learned"

    def first_frozen_epoch(self, epochs: int) -> int:
        """Return the number, from 0, of the epoch from which on norms are frozen."""
        return {"frozen": 0, "late": epochs // 2, "learned": epochs}[self.norms]

    def __post_init__(self) -> None:
        if not 0 <= self.ramp <= 1:
            raise ConfigError(f"noise.ramp must lie in [0, 1], got {self.ramp!r}")
        require_at_least_one("noise.every", self.every)
        if not 0 <= self.ages_s[0] <= self.ages_s[1] < math.inf:
            raise ConfigError(
                "noise.ages_s must be two finite times of 0 s or more, the smaller first, got "
                f"{self.ages_s!r}"
            )


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        task: the data.
        model: the network.
        training: digital, or hwa for hardware-aware training with noise injection.
        init: network to start from, a checkpoint or a run folder; it is then the model. Without
            one, hardware-aware training first trains digitally, into the folder digital of its own.
        hardware: the chip that hardware-aware training is for.
        digital_layers: names of layers that stay digital in it, patterns, or a placement file.
        epochs: of as many patches as there are training slices or volumes, times
            loading.patches_per_image.
        batch_size: patches in a batch.
        optimizer: steps, schedule and average.
        loss: what is minimised.
        loading: how patches are drawn.
        noise: what disturbs hardware-aware training.
        calibration: input ranges of the converters, in hardware-aware training.
        validate_every: epochs between validations.
        keep: last keeps the state of the last validation, or of an earlier one where the last
            scores worse than the network that training started from; best keeps the state with the
            best score, which a few validation patients choose at random.
        validation_chips: chips that hardware-aware training is validated on, after a day.
        patience: stop after so many validations without a better score; 0 never stops early.
        precision: bfloat16 computes the digital parts of the network by autocast; the products of
            tiles stay in float32.
        activation_checkpointing: keep fewer activations and compute them again; slower, smaller.
        backend: who computes the tiles: auto, numba or torch for analogmed's layers, aihwkit for
            aihwkit's.
        device: where to compute, for instance cpu or cuda.
        restart: begin anew where the run folder holds a run; otherwise that one goes on.
        seed: root of all random draws.
        out: run folder; by default runs/train/TASK-MODEL-TRAINING.
    """

    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    training: Literal["digital", "hwa"] = "digital"
    init: Path | None = None
    hardware: Hardware = Hardware()
    digital_layers: tuple[str, ...] = ()
    epochs: int = 80
    batch_size: int = 8
    optimizer: OptimizerConfig = OptimizerConfig()
    loss: LossConfig = LossConfig()
    loading: LoadingConfig = LoadingConfig()
    noise: NoiseConfig = NoiseConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    validate_every: int = 5
    keep: Keep = "last"
    validation_chips: int = 3
    patience: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    activation_checkpointing: bool = False
    backend: Literal["auto", "torch", "numba", "aihwkit"] = "auto"
    device: str = "cpu"
    restart: bool = False
    seed: int = 0
    out: Path | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "validate_every", "validation_chips"):
            require_at_least_one(name, getattr(self, name))
        require_at_least_zero("patience", self.patience)
        for name in ("init", "out"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        if self.loss.distillation and self.training != "hwa":
            raise ConfigError(
                "loss.distillation: only hardware-aware training has a network to learn from"
            )
        if self.backend == "aihwkit" and self.precision != "float32":
            raise ConfigError("precision: aihwkit's layers are trained in float32 only")
        object.__setattr__(self, "digital_layers", resolve_layers(self.digital_layers))

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        name = f"{self.task.name}-{self.model.name}-{self.training}"
        return self.out or Path("runs") / "train" / name.replace("/", "_").replace(":", "_")

    @property
    def path(self) -> Path:
        """The network that the run keeps."""
        return self.folder / NETWORK
