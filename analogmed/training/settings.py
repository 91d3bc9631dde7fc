"""Settings of a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analogmed.analog import Hardware
from analogmed.analog.description.resolve import as_hardware
from analogmed.analog.settings import CalibrationConfig, require_ages, resolve_layers
from analogmed.data.settings import TaskConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import (
    require_at_least_one,
    require_at_least_zero,
    require_number,
)
from analogmed.foundation.settings.forms import checks_arguments, expand_short_forms
from analogmed.foundation.time_constants import HOUR_S, MONTH_S
from analogmed.models.settings import ModelConfig

NETWORK = "network.safetensors"
"""Name of the network that a run keeps, in its folder."""
Keep = Literal["last", "best"]
"""Which state of a run is kept; see :class:`TrainConfig`."""
Training = Literal["digital", "hwa"]
SETTINGS = "training.yaml"
"""Name of the file of a run folder that holds its settings."""


def network_file(path: Path | str) -> Path:
    """Return the file that a path to a checkpoint means: in a run folder, the network it keeps."""
    path = Path(path)
    return path / NETWORK if path.is_dir() else path


@checks_arguments
@dataclass(frozen=True)
class OptimizerConfig:
    """Optimizer and learning-rate schedule.

    Attributes:
        name: adamw, or sgd with Nesterov momentum.
        learning_rate: peak learning rate.
        weight_decay: weight decay, decoupled from the gradient in adamw; applied to weights, not to
            biases and normalisation.
        momentum: momentum of sgd.
        schedule: schedule of the learning rate, down to 0 after the last step; constant keeps it.
        power: exponent of the polynomial schedule.
        warm_up: share of all steps over which the learning rate rises from 0.
        gradient_norm: largest norm of a gradient; longer gradients are clipped.
        accumulate: number of batches whose gradients form one step.
        ema: decay of the running average of the weights, which is validated and kept; 0 switches it
            off.
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
            require_number(f"optimizer.{name}", getattr(self, name), at_least=0, below=1)


@checks_arguments
@dataclass(frozen=True)
class LossConfig:
    """Training loss: a weighted sum.

    Attributes:
        dice: weight of the soft Dice loss; without effect in classification.
        cross_entropy: weight of the cross-entropy; binary for labels that are independent.
        focal: exponent of the focal loss, by which the cross-entropy of well predicted examples
            weighs less; 0 is the plain cross-entropy. Exponents between 0 and 1 are refused: their
            gradient is not finite at a probability of 1.
        class_weights: balanced weighs the cross-entropy of a class by the inverse of its frequency
            in the training images, positive against negative for independent labels; only for
            classification.
        deep_supervision: add an output head at each level of unetpp and dynunet, and train all of
            them.
        distillation: weight of the distance to the probabilities of a teacher.
        teacher: checkpoint or run folder of the teacher, another network of the package that is
            trained on the same classes; by default the network from which hardware-aware training
            starts.
        temperature: temperature of the probabilities; values above 1 soften them.
    """

    dice: float = 1.0
    cross_entropy: float = 1.0
    focal: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    deep_supervision: bool = False
    distillation: float = 0.0
    teacher: Path | None = None
    temperature: float = 1.0

    def __post_init__(self) -> None:
        for name in ("dice", "cross_entropy", "focal", "distillation"):
            require_at_least_zero(f"loss.{name}", getattr(self, name))
        if 0 < self.focal < 1:
            raise ConfigError(
                "loss.focal: the gradient of exponents between 0 and 1 is not finite at a "
                f"probability of 1; expected 0, or 1 or more, got {self.focal!r}"
            )
        require_at_least_zero("loss.temperature", self.temperature, zero=False)
        if self.teacher is not None and not self.distillation:
            raise ConfigError(
                "loss.teacher: nothing is learned from it; set loss.distillation, too"
            )
        if self.dice + self.cross_entropy + self.distillation == 0:
            raise ConfigError("loss: dice, cross_entropy and distillation are all 0")


@checks_arguments
@dataclass(frozen=True)
class LoadingConfig:
    """Sampling and caching of training patches.

    Attributes:
        cache_bytes: size of the cache of training samples, and of that of validation samples, in
            bytes; other samples are read again when needed.
        foreground: share of patches that are centred on a voxel of a class, in [0, 1]; without
            effect in classification.
        augment: flip, rotate and zoom patches, and change their intensities.
        patches_per_image: mean number of patches from each slice or volume per epoch.
        subset: share of the training images that are used, in (0, 1]: the same in all epochs, drawn
            once with equal numbers of each class, as far as there are enough.
        mixed_cases: largest number of cases whose patches are shuffled together.
        mixed_bytes: largest size in bytes of the cases whose patches are shuffled together, except
            for a single case. If the cache is at least this large, each case is read once per
            epoch.
        workers: number of processes that read ahead and share the cache; 0 reads in the training
            process.
    """

    cache_bytes: int = 2 * 2**30
    foreground: float = 0.5
    augment: bool = True
    patches_per_image: int = 1
    subset: float = 1.0
    mixed_cases: int = 16
    mixed_bytes: int = 2 * 2**30
    workers: int = 0

    def __post_init__(self) -> None:
        require_at_least_zero("loading.cache_bytes", self.cache_bytes)
        require_at_least_zero("loading.mixed_bytes", self.mixed_bytes)
        require_at_least_zero("loading.workers", self.workers)
        for name in ("patches_per_image", "mixed_cases"):
            require_at_least_one(f"loading.{name}", getattr(self, name))
        require_number("loading.foreground", self.foreground, at_least=0, at_most=1)
        require_number("loading.subset", self.subset, above=0, at_most=1)


@checks_arguments
@dataclass(frozen=True)
class NoiseConfig:
    """Noise injection during hardware-aware training; noise types and sizes are set in hardware.

    Attributes:
        weights: modifier applies the weight noise of hardware.modifier; chips uses the weights of a
            virtual chip, programmed from the current weights and aged to a random time.
        ramp: share of the steps over which the weight noise grows from 0 to its full size, in [0,
            1].
        every: number of training steps that share one virtual chip, 1 or more; higher values train
            faster.
        ages_s: minimum and maximum time since programming of a virtual chip, in s; sampled
            log-uniformly.
        ranges: calibrated sets the input ranges of the converters to a quantile of the inputs
            before each epoch; learned trains them by gradient.
        norms: learned normalises with the statistics of each batch and updates the running
            statistics; frozen uses the running statistics of the digital start, as on a chip; late
            is learned in the first half of the epochs and frozen afterwards.
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
        require_number("noise.ramp", self.ramp, at_least=0, at_most=1)
        require_at_least_one("noise.every", self.every)
        require_ages(self.ages_s)


@checks_arguments
@dataclass(frozen=True)
class TrainConfig:
    """Digital or hardware-aware training of one network.

    Attributes:
        task: data.
        model: network.
        training: digital, or hwa for hardware-aware training with noise injection.
        init: checkpoint or run folder of the network to start from, which replaces model. Without
            it, hardware-aware training first trains digitally, in the folder digital of its run
            folder.
        hardware: chip of hardware-aware training; by default, each setting is that of the preset.
        digital_layers: names or patterns of layers that stay digital in hardware-aware training, or
            a placement.yaml.
        epochs: number of epochs; each has as many patches as there are training slices or volumes,
            times loading.patches_per_image.
        batch_size: number of patches in a batch.
        optimizer: optimizer.
        loss: training loss.
        loading: sampling of patches.
        noise: noise injection during hardware-aware training.
        calibration: calibration of input ranges in hardware-aware training.
        validate_every: number of epochs between validations.
        keep: last keeps the state of the last validation, or an earlier one if the last scores
            worse than the initial network; best keeps the state with the best score, which depends
            on a few validation patients.
        validation_chips: number of chips on which hardware-aware training is validated, one day
            after programming.
        patience: number of validations without a better score after which training stops; 0 never
            stops early.
        precision: bfloat16 computes the digital parts of the network by autocast; products on tiles
            stay in float32.
        activation_checkpointing: recompute activations in the backward pass instead of storing
            them: slower, less memory.
        backend: implementation of the tile computations: numba (compiled), torch (reference),
            aihwkit (layers of aihwkit), or auto.
        device: torch device, for instance cpu or cuda.
        restart: discard a run found in the run folder and start over; by default that run is
            resumed.
        seed: root seed of all random draws.
        out: run folder; by default runs/train/TASK-MODEL-TRAINING.
    """

    task: TaskConfig = TaskConfig()
    model: ModelConfig = ModelConfig()
    training: Training = "digital"
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
        object.__setattr__(self, "hardware", as_hardware(self.hardware))
        expand_short_forms(self)
        object.__setattr__(self, "device", str(self.device).lower())
        for name in ("epochs", "batch_size", "validate_every", "validation_chips"):
            require_at_least_one(name, getattr(self, name))
        require_at_least_zero("patience", self.patience)
        if self.loss.distillation and self.loss.teacher is None and self.training != "hwa":
            raise ConfigError(
                "loss.distillation: only hardware-aware training has a network to learn from; give "
                "one with loss.teacher"
            )
        if self.backend == "aihwkit" and self.precision != "float32":
            raise ConfigError("precision: aihwkit's layers are trained in float32 only")
        object.__setattr__(self, "digital_layers", resolve_layers(self.digital_layers))

    @property
    def folder(self) -> Path:
        """Where the run goes."""
        name = f"{self.task.own_name}-{self.model.name}-{self.training}"
        return self.out or Path("runs") / "train" / name.replace("/", "_").replace(":", "_")

    @property
    def path(self) -> Path:
        """The network that the run keeps."""
        return self.folder / NETWORK
