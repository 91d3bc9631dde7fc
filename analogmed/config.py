"""What a run is made of: frozen dataclasses, to YAML and back."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from analogmed.analog import Hardware
from analogmed.data import Task, load_task
from analogmed.foundation.credentials import masked_values
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.strict_yaml import read_yaml
from analogmed.foundation.time_constants import DAY_S, HOUR_S, MONTH_S, SECOND_S, T0_S, YEAR_S

DEFAULT_TIMES_S = (T0_S, SECOND_S, HOUR_S, DAY_S, 7 * DAY_S, MONTH_S, YEAR_S)
"""t0, a second, an hour, a day, a week, a month and a year after programming."""


def require_at_least_one(name: str, value: int) -> None:
    """Refuse a count of none."""
    if value < 1:
        raise ConfigError(f"{name} must be 1 or more, got {value}")


def require_at_least_zero(name: str, value: float, *, zero: bool = True) -> None:
    """Refuse what is negative or not finite; and 0, if ``zero`` says so."""
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        bound = "0 or more" if zero else "above 0"
        raise ConfigError(f"{name} must be {bound} and finite, got {value!r}")


@dataclass(frozen=True)
class TaskConfig:
    """Which data, and how it is split.

    Attributes:
        name: phantom_brain, phantom_spleen, phantom_nuclei (generated), lgg, dsb2018, brats, nifti,
            msd, or a Decathlon task such as Task09_Spleen or spleen.
        root: folder of the data set; phantoms are generated in the cache folder without it.
        size: resample every image to this spatial size, for instance [96, 96].
        spatial_dims: 2 or 3; the data set's own by default.
        split_seed: seed of the split by patient. A patient more or less moves others to another
            part; use split_file where data are added.
        shares: shares of patients for training, validation and test.
        split_file: JSON or YAML with the patients of each part, in place of shares.
        options: further arguments of the data set's loader.
    """

    name: str = "phantom_brain"
    root: Path | None = None
    size: tuple[int, ...] | None = None
    spatial_dims: Literal[2, 3] | None = None
    split_seed: int = 0
    shares: tuple[float, float, float] = (0.6, 0.1, 0.3)
    split_file: Path | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        own = {f.name for f in dataclasses.fields(self)}
        for name in self.options:
            if name in own:
                raise ConfigError(f"task.options.{name}: write task.{name} instead")

    def load(self) -> Task:
        """The task itself."""
        return load_task(
            self.name,
            self.root,
            split_seed=self.split_seed,
            shares=self.shares,
            split_file=self.split_file,
            size=self.size,
            spatial_dims=self.spatial_dims,
            **self.options,
        )


@dataclass(frozen=True)
class ModelConfig:
    """Which network.

    Attributes:
        name: unet, unetpp, swin_unetr, attention_unet, dynunet, subnet (of a search's space, by its
            genotype), med_nas_bench, package.module:factory or bundle:/path/to/monai/bundle.
        options: further arguments of the network's builder, for instance features.
    """

    name: str = "unet"
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "spatial_dims"):
            if name in self.options:
                raise ConfigError(f"model.options.{name} follows from the task; leave it out")


@dataclass(frozen=True)
class SweepConfig:
    """How often, and when, chips are read.

    Attributes:
        chips: programming draws of each network. Fewer than two give no interval.
        times_s: seconds after programming at which each chip is read.
        reads: reads at each time.
        width: chips are added until the 95 % interval of a network's Dice after one day is
            narrower than this; chips is then the most that a network gets.
        first_chips: chips of each network before its interval is looked at, with width.
    """

    chips: int = 5
    times_s: tuple[float, ...] = DEFAULT_TIMES_S
    reads: int = 1
    width: float | None = None
    first_chips: int = 5

    def __post_init__(self) -> None:
        require_at_least_one("sweep.chips", self.chips)
        require_at_least_one("sweep.reads", self.reads)
        if not self.times_s:
            raise ConfigError("sweep.times_s is empty; give at least one time, for instance 0")
        for time_s in self.times_s:
            if not math.isfinite(time_s) or time_s < 0:
                raise ConfigError(
                    f"sweep.times_s: a time is 0 s or more and finite, got {time_s!r}"
                )
        object.__setattr__(self, "times_s", tuple(sorted(set(map(float, self.times_s)))))
        if self.width is not None:
            self._check_width(self.width)

    def _check_width(self, width: float) -> None:
        if not 0 < width < 1:
            raise ConfigError(f"sweep.width is a width of Dice, above 0 and below 1, got {width!r}")
        if DAY_S not in self.times_s:
            raise ConfigError(
                f"sweep.width looks at Dice after one day: add {DAY_S:g} to sweep.times_s"
            )
        if not 2 <= self.first_chips <= self.chips:
            raise ConfigError(
                f"sweep.first_chips must lie between 2, the fewest with an interval, and "
                f"sweep.chips = {self.chips}, got {self.first_chips}"
            )


@dataclass(frozen=True)
class EngineConfig:
    """Execution engine of a sweep; only its number of threads affects results, in the last digits.

    Attributes:
        name: local, processes on this machine, or ray, which needs pip install 'analogmed[ray]'.
        workers: units (chips, or digital runs) computed at once. By default one, in this process,
            and with ray as many as there is room for.
        address: of a Ray cluster, for instance auto or ray://head:10001; by default Ray is started
            on this machine for the run.
        cpus: processor cores that Ray sets aside for a unit.
        gpus: GPUs that Ray sets aside for a unit; a share such as 0.25 lets units share one.
        threads: threads of a unit, 1 or more; by default the cores are shared among workers, and
            Ray uses cpus. The last digits of a chip's outputs depend on this number, so finished
            chips are reused only at the number that they were computed with.
    """

    name: Literal["local", "ray"] = "local"
    workers: int | None = None
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            require_at_least_one("engine.workers", self.workers)
        if self.threads is not None:
            require_at_least_one("engine.threads", self.threads)
        require_at_least_zero("engine.cpus", self.cpus, zero=False)
        require_at_least_zero("engine.gpus", self.gpus)
        if self.name == "local" and self.address is not None:
            raise ConfigError("engine.address is a Ray cluster's; add --engine.name ray")


@dataclass(frozen=True)
class CalibrationConfig:
    """How the input ranges of the converters are set.

    Attributes:
        images: least number of training images used for calibration; every case gives the same
            number, evenly spaced, so that the number used is rounded up.
        quantile: share of a layer's absolute inputs that the range shall hold.
    """

    images: int = 32
    quantile: float = 0.9995

    def __post_init__(self) -> None:
        require_at_least_one("calibration.images", self.images)
        if not 0 < self.quantile <= 1:
            raise ConfigError(f"calibration.quantile must lie in (0, 1], got {self.quantile}")


@dataclass(frozen=True)
class Experiment:
    """One evaluation: networks on a task, digitally and on chips.

    Attributes:
        task: the data.
        checkpoints: trained networks; by default the shipped ones of the task.
        factories: package.module:factory names that the checkpoints may call for their network.
        hardware: the chip.
        sweep: chips, times and reads.
        calibration: input ranges of the converters.
        metrics: what is computed of each prediction: dice, jaccard, hd95, nsd, sensitivity,
            specificity, precision, recall, f1.
        tolerance: accepted deviation of the normalised surface distance, in mm or pixels.
        digital_layers: names or patterns of layers that stay digital, or the placement.yaml that
            python -m analogmed.sensitivity placement has written; by default those that stayed
            digital when a network was trained for the chip, and [] for none.
        profile: kind of tile for time and energy in the table of costs, as for python -m
            analogmed.hardware; without one, tiles only.
        level: of these figures, mvm_only or measured_layer.
        row_split: even cuts a layer's rows as aihwkit does; channels keeps channels whole.
        backend: auto, numba (compiled, CPU), triton (compiled, GPU) or torch for analogmed's
            layers, aihwkit for aihwkit's.
        device: where to compute, for instance cpu or cuda.
        batch_size: images, or windows of a large image, per forward pass.
        seed: root of all random draws.
        engine: execution engine; only its number of threads affects results, in the last digits.
        store: folder or fsspec URL (s3://bucket/sweep) that finished chips are kept in, so that an
            interrupted run resumes; by default the run folder.
        limit: Dice that a chip has to keep, for the time to failure; by default 0.95 times the best
            digital one.
        examples: cases, from the worst to the best, of which slices and predictions are kept for
            the report page, where no chip failed; 0 keeps none.
        out: run folder; by default runs/NAME.
        name: name of the run.
        restart: compute all digital runs and chips again and replace those in the store; by default
            finished ones are reused.
    """

    task: TaskConfig = TaskConfig()
    checkpoints: tuple[Path, ...] = ()
    factories: tuple[str, ...] = ()
    hardware: Hardware = Hardware()
    sweep: SweepConfig = SweepConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    metrics: tuple[str, ...] = ("dice",)
    tolerance: float = 2.0
    digital_layers: tuple[str, ...] | None = None
    profile: str | None = None
    level: Literal["mvm_only", "measured_layer"] = "mvm_only"
    row_split: Literal["even", "channels"] = "even"
    backend: Literal["auto", "torch", "numba", "triton", "aihwkit"] = "auto"
    device: str = "cpu"
    batch_size: int = 8
    seed: int = 0
    engine: EngineConfig = EngineConfig()
    store: str | None = None
    limit: float | None = None
    examples: int = 3
    out: Path | None = None
    name: str = "eval"
    restart: bool = False

    def __post_init__(self) -> None:
        require_at_least_one("batch_size", self.batch_size)
        require_at_least_zero("tolerance", self.tolerance)
        require_at_least_zero("examples", self.examples)
        if self.limit is not None and not 0 < self.limit < 1:
            raise ConfigError(f"limit is a Dice, above 0 and below 1, got {self.limit!r}")
        if self.digital_layers is not None:
            object.__setattr__(self, "digital_layers", resolve_layers(self.digital_layers))
        object.__setattr__(self, "metrics", tuple(dict.fromkeys(self.metrics)))
        if "dice" not in self.metrics:
            object.__setattr__(self, "metrics", ("dice", *self.metrics))

    @property
    def folder(self) -> Path:
        """Where the run's results go."""
        return self.out or Path("runs") / self.name


def refuse_scale_out(experiment: Experiment) -> None:
    """Refuse settings of a sweep in programs that compute in one process.

    Raises:
        ConfigError: engine, store or sweep.width is given.
    """
    given = experiment.engine != EngineConfig() or experiment.store is not None
    if given or experiment.sweep.width is not None:
        raise ConfigError("engine, store and sweep.width are for eval: here one process computes")


def resolve_layers(digital_layers: Iterable[str]) -> tuple[str, ...]:
    """Layers that stay digital, with those that a placement file lists in its place.

    Args:
        digital_layers: names and patterns of layers, and paths ending in ``.yaml`` or ``.yml``.

    Raises:
        ConfigError: a file cannot be read, or holds no list of layers.
    """
    layers: list[str] = []
    for name in digital_layers:
        layers += _of_placement(name) if name.endswith((".yaml", ".yml")) else [name]
    return tuple(dict.fromkeys(layers))


def _of_placement(path: str) -> list[str]:
    layers = read_yaml(path).get("digital_layers")
    if not isinstance(layers, list) or not all(isinstance(name, str) for name in layers):
        raise ConfigError(
            f"{path}: expected a list of layer names under digital_layers, found {layers!r}; "
            "python -m analogmed.sensitivity placement writes such a file"
        )
    return layers


def to_yaml(config: Any) -> str:
    """Return a configuration as YAML, fields in order, credentials in URLs masked."""
    return yaml.safe_dump(masked_values(to_plain(config)), sort_keys=False)


def to_plain(config: Any) -> Any:
    """A configuration as dictionaries, lists, strings and numbers."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_plain(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_plain(value) for value in config]
    return str(config) if isinstance(config, Path) else config
