"""Settings of an evaluation on chips."""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from analogmed.analog.description.hardware import Backend, Hardware
from analogmed.analog.description.resolve import as_hardware
from analogmed.analog.settings import CalibrationConfig, resolve_layers
from analogmed.data.settings import TaskConfig
from analogmed.execution.settings import EngineConfig
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import (
    require_at_least_one,
    require_at_least_zero,
    require_number,
)
from analogmed.foundation.settings.fields import positional
from analogmed.foundation.settings.forms import checks_arguments, expand_short_forms
from analogmed.foundation.time_constants import (
    DAY_S,
    HOUR_S,
    MONTH_S,
    SECOND_S,
    T0_S,
    YEAR_S,
    to_seconds,
)
from analogmed.hardware.profiles import Level, spelled_profile
from analogmed.metrics.registry import PRIMARY, spelled_metric
from analogmed.metrics.registry import metric as metric_of
from analogmed.network.tiling import RowSplit

if TYPE_CHECKING:
    from analogmed.data.case import Task

Config = TypeVar("Config", bound="Experiment")

DEFAULT_TIMES_S = (T0_S, SECOND_S, HOUR_S, DAY_S, 7 * DAY_S, MONTH_S, YEAR_S)
"""t0, a second, an hour, a day, a week, a month and a year after programming."""
_IMAGES, _SIGNALS = 8, 256
"""Default batch sizes; the windows of a signal are small."""


@checks_arguments
@dataclass(frozen=True)
class SweepConfig:
    """Numbers of chips and reads, and the times since programming.

    Attributes:
        chips: number of chip instances of each network; an interval requires two or more.
        times_s: times since programming at which each chip is read, in s, or with a unit as in
            "1 day".
        reads: number of reads at each time.
        width: target width of the 95 % confidence interval of the primary metric of a network after
            one day: chips are added until the interval is narrower, up to sweep.chips; by default
            all chips are computed. Only eval supports it.
        first_chips: number of chips of each network before its interval is first checked; used with
            width.
    """

    chips: int = 5
    times_s: tuple[float, ...] = DEFAULT_TIMES_S
    reads: int = 1
    width: float | None = None
    first_chips: int = 5

    def __post_init__(self) -> None:
        require_at_least_one("sweep.chips", self.chips)
        require_at_least_one("sweep.reads", self.reads)
        times = self.times_s
        listed = [times] if isinstance(times, str | int | float) else times
        try:
            seconds = set(map(to_seconds, listed))
        except ConfigError as error:
            raise ConfigError(f"sweep.times_s: {error}") from error
        if not seconds:
            raise ConfigError("sweep.times_s is empty; give at least one time, for instance 0")
        object.__setattr__(self, "times_s", tuple(sorted(seconds)))
        if self.width is not None:
            self._check_width(self.width)

    @property
    def readings(self) -> tuple[tuple[float, int], ...]:
        """Time in s and number of each read of a chip."""
        return tuple(product(self.times_s, range(self.reads)))

    def _check_width(self, width: float) -> None:
        require_number("sweep.width", width, above=0)
        if DAY_S not in self.times_s:
            raise ConfigError(
                "sweep.width: expected one day among sweep.times_s, since the interval is that "
                f"after one day, got {self.times_s}. Add {DAY_S:g}."
            )
        if not 2 <= self.first_chips <= self.chips:
            raise ConfigError(
                f"sweep.first_chips must lie between 2, the fewest with an interval, and "
                f"sweep.chips = {self.chips}, got {self.first_chips}"
            )


@checks_arguments
@dataclass(frozen=True)
class Experiment:
    """Evaluation of networks on a task, digitally and on chips.

    Attributes:
        task: data.
        checkpoints: trained networks, as files or run folders of train; by default the shipped
            networks of the task.
        factories: code of your own networks that checkpoints may import, each as
            package.module:factory, as in --model of train and models import; other code is refused.
        hardware: chip; by default, each setting is that of the preset.
        sweep: chips, times and reads.
        calibration: calibration of input ranges.
        metrics: metrics of each prediction: dice, jaccard, hd95, nsd, sensitivity, specificity,
            precision, recall, f1; for classification auroc, average_precision, accuracy, kappa, f1,
            sensitivity, specificity, precision; the primary metric of the task (dice, or auroc for
            classification) is always included.
        tolerance: tolerance of the normalised surface distance (nsd), in mm or pixels.
        digital_layers: names or patterns of layers that stay digital, or the placement.yaml of a
            run of sensitivity placement; by default those that were digital in training, and [] for
            none.
        profile: tile type for latency and energy in the cost table, as for analogmed hardware; by
            default only tiles are counted.
        level: accounting level: mvm_only covers MVM and converters; measured_layer also covers
            links and digital units.
        row_split: even cuts the rows of a layer evenly, as aihwkit does; channels cuts them between
            input channels.
        backend: implementation of the tile computations: numba (compiled, CPU), triton (compiled,
            GPU), torch (reference), or aihwkit (layers of aihwkit); auto selects a compiled one if
            possible.
        device: torch device, for instance cpu or cuda.
        batch_size: number of images, or of windows of a large image, per forward pass; by default
            8, or 256 windows of signals.
        seed: root seed of all random draws.
        engine: execution engine; of its settings, only threads affects results.
        store: folder or fsspec URL (s3://bucket/sweep) of finished units of work, from which an
            interrupted run resumes; by default the run folder.
        limit: value of the primary metric beyond which a chip counts as failed, for the time to
            failure; by default 0.95 times the best digital value.
        examples: number of cases, from worst to best, whose slices and predictions are stored for
            the report page; 0 stores none.
        out: run folder; by default runs/NAME.
        name: name of the run.
        restart: compute all units of work again and replace those in the store; by default finished
            ones are reused.
    """

    task: TaskConfig = TaskConfig()
    checkpoints: tuple[Path, ...] = positional("CHECKPOINT", default=(), is_option=True)
    factories: tuple[str, ...] = ()
    hardware: Hardware = Hardware()
    sweep: SweepConfig = SweepConfig()
    calibration: CalibrationConfig = CalibrationConfig()
    metrics: tuple[str, ...] = ()
    tolerance: float = 2.0
    digital_layers: tuple[str, ...] | None = None
    profile: str | None = None
    level: Level = "mvm_only"
    row_split: RowSplit = "even"
    backend: Backend = "auto"
    device: str = "cpu"
    batch_size: int | None = None
    seed: int = 0
    engine: EngineConfig = EngineConfig()
    store: str | None = None
    limit: float | None = None
    examples: int = 3
    out: Path | None = None
    name: str = "eval"
    restart: bool = False

    only_primary = False
    """Whether the study computes no metric but the primary one of the task."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "hardware", as_hardware(self.hardware))
        expand_short_forms(self)
        object.__setattr__(self, "device", str(self.device).lower())
        if self.batch_size is not None:
            require_at_least_one("batch_size", self.batch_size)
        require_at_least_zero("tolerance", self.tolerance)
        require_at_least_zero("examples", self.examples)
        if self.limit is not None:
            require_number("limit", self.limit)
        if self.digital_layers is not None:
            object.__setattr__(self, "digital_layers", resolve_layers(self.digital_layers))
        metrics = dict.fromkeys(map(spelled_metric, self.metrics))
        object.__setattr__(self, "metrics", tuple(metrics))
        object.__setattr__(self, "profile", spelled_profile(self.profile))

    @property
    def folder(self) -> Path:
        """Where the run's results go."""
        return self.out or Path("runs") / self.name

    @property
    def primary_metric(self) -> str:
        """The first metric, which is the primary one of the task after :meth:`for_task`."""
        return self.metrics[0] if self.metrics else PRIMARY

    @property
    def images_per_pass(self) -> int:
        """Number of images per forward pass: the batch size, or 8 if it is not known yet."""
        return self.batch_size or _IMAGES

    def metrics_for(self, task: "Task") -> tuple[str, ...]:
        """Return all metrics of a run on a task, its primary one first."""
        return tuple(dict.fromkeys((task.primary_metric, *self.metrics)))

    def for_task(self: Config, task: "Task") -> Config:
        """Return the settings with the metrics and the batch size of a run on a task.

        Raises:
            ConfigError: a metric is unknown, not defined for the kind of the task or not computed
                by the study, or ``limit`` or ``sweep.width`` is outside the bounds of the primary
                metric.
        """
        metrics = self.metrics_for(task)
        if self.only_primary and len(metrics) > 1:
            raise ConfigError(
                f"metrics: expected {metrics[0]} only, the primary metric of {task.name}, got "
                f"{list(self.metrics)}"
            )
        task.kind.check_metrics(metrics)
        low, high = metric_of(metrics[0]).bounds
        label = metric_of(metrics[0]).label
        if self.limit is not None and not low < self.limit < high:
            raise ConfigError(
                f"limit: expected a value of {label}, above {low:g} and below {high:g}, got "
                f"{self.limit!r}"
            )
        if self.sweep.width is not None and not self.sweep.width < high - low:
            raise ConfigError(
                f"sweep.width: expected a width of {label}, above 0 and below {high - low:g}, got "
                f"{self.sweep.width!r}"
            )
        batch_size = self.batch_size or (_SIGNALS if task.spatial_dims == 1 else _IMAGES)
        return replace(self, metrics=metrics, batch_size=batch_size)


def require_fixed_chips(experiment: Experiment) -> None:
    """Raise a ConfigError if the number of chips depends on the width of an interval."""
    if experiment.sweep.width is not None:
        raise ConfigError(
            "sweep.width: only eval adds chips until an interval is narrow; expected no value, got "
            f"{experiment.sweep.width!r}. Set the number of chips with --sweep.chips."
        )
