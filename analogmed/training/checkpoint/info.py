"""Description of the network in a checkpoint: task, patients, training and hardware."""

import json
import warnings
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

from analogmed.analog import Hardware
from analogmed.analog.description.aihwkit_config import TorchInferenceRPUConfig, rpu_config_of
from analogmed.data import Case, Task
from analogmed.data.splits import SeenData, scan_digests
from analogmed.foundation.errors import CheckpointError, ConfigError, LeakageError
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.settings.plain import to_plain
from analogmed.metrics.properties import bounds_of
from analogmed.metrics.registry import label_of
from analogmed.models import required_divisor
from analogmed.models.registry import spelled_model
from analogmed.network.tiling import RowSplit
from analogmed.training.checkpoint.fields import FIELDS, checked_thresholds
from analogmed.training.settings import SETTINGS, Training

FORMAT = 1

_Aspect: TypeAlias = Callable[[TorchInferenceRPUConfig], tuple[object, ...]]


@checks_arguments
@dataclass(frozen=True)
class CheckpointInfo:
    """Description of a checkpoint's network.

    Attributes:
        model: name of the network in the registry.
        options: options of its builder.
        in_channels: number of channels of an image.
        out_channels: number of channels of the logits.
        spatial_dims: number of spatial dimensions of the network, 2 or 3.
        training: ``"digital"`` or ``"hwa"`` (hardware-aware).
        task: task that the network was trained on.
        classes: names of the foreground classes, in the order of the outputs.
        patients: patients that the network has seen, in training or validation.
        scans: digests of their scans, which identify them in data with another name; empty for
            separate images, whose data sets have one name, and in older files.
        window: spatial size of its training patches; empty in older files.
        hardware: arguments of ``create_rpu_config`` that it was trained for; empty if digital.
        row_split: rule that split its rows into tiles, if hardware-aware.
        digital_layers: names of the layers that stayed digital in hardware-aware training, though
            they could be on tiles; ``None`` if unknown: digital networks, older files.
        score: validation score by the task's primary metric, digital or on chips after one day.
        seed: root seed of the training.
        channels: names of the image channels, in their order; empty in older files.
        axes: order of the spatial axes of its volumes, as in :class:`analogmed.data.Task`; empty
            for separate images, and if unknown, as in older files.
        rate: samples per second of its signals; 0 for images, and if unknown, as in older files.
        expected_score: digital score by the task's primary metric on test cases, known from
            elsewhere; ``eval`` warns where the digital run is far from it. ``None`` if unknown.
        thresholds: threshold of each class with the largest F1 on the validation cases, run
            digitally; empty if unknown, and for kinds of task that do not decide by thresholds.
        keeps_start: whether it is the network that its training started from, because all later
            states have worse validation scores; false in older files.

    Raises:
        ConfigError: thresholds are not one finite number in [0, 1] for each class.
    """

    model: str
    in_channels: int
    out_channels: int
    spatial_dims: int
    training: Training
    task: str
    classes: tuple[str, ...]
    patients: tuple[str, ...] = ()
    window: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    row_split: RowSplit = "even"
    digital_layers: tuple[str, ...] | None = None
    score: float = float("nan")
    seed: int = 0
    channels: tuple[str, ...] = ()
    axes: str = ""
    rate: int = 0
    expected_score: float | None = None
    scans: tuple[str, ...] = ()
    thresholds: tuple[float, ...] = ()
    keeps_start: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", spelled_model(self.model))
        thresholds = checked_thresholds(self.thresholds, len(self.classes))
        object.__setattr__(self, "thresholds", thresholds)

    @classmethod
    def of_task(
        cls,
        task: Task,
        model: str,
        *,
        patients: Iterable[str],
        expected_score: float | None = None,
        **others: Any,
    ) -> "CheckpointInfo":
        """Describe a network that was trained elsewhere on the data of a task.

        Channels, classes, dimensions, axes and window are those of the task.

        Args:
            task: data as the network reads them.
            model: ``package.module:factory`` or the name of a network, which builds it again.
            patients: patients that training or selection has seen, perhaps none.
            expected_score: digital score by the primary metric of the task, if known.
            **others: further attributes, for instance ``options`` of the builder.

        Raises:
            ConfigError: patients are one text, or the score is not possible.
        """
        if isinstance(patients, str):
            raise ConfigError(f"patients: expected a list of patients, got {patients!r}")
        if expected_score is not None:
            _check_possible(expected_score, task.primary_metric)
        shape = {name: getattr(task, name) for name in _OF_TASK}
        listed = tuple(map(str, patients))
        cases = (*task.train, *task.validation, *task.test)
        return cls(
            model=model,
            task=task.name,
            patients=listed,
            scans=scans_of(task, (case for case in cases if case.patient_id in listed)),
            expected_score=expected_score,
            **{"training": "digital", **shape, **others},
        )

    def check_fits(self, task: Task, source: Path) -> None:
        """Raise an error for a task that does not fit the network.

        Names of classes and channels of another task may differ, with a warning: the network then
        reports its classes under the names of that task.

        Raises:
            ConfigError: names both numbers of channels and of dimensions, a window that the
                network cannot process, other axes, or classes or channels with other names or in
                another order.
        """
        own = (self.in_channels, self.out_channels, self.spatial_dims)
        needed = (task.in_channels, task.out_channels, task.spatial_dims)
        if own != needed:
            raise ConfigError(
                f"{source} has {own[0]} input and {own[1]} output channels in {own[2]}D; task "
                f"{task.name} needs {needed[0]} ({', '.join(task.channels)}) and {needed[1]} in "
                f"{needed[2]}D. Its training was on task {self.task} with the classes "
                f"{', '.join(self.classes)}. Set that task, or task.options.channels, "
                "task.options.classes and task.spatial_dims as in the training"
                f"{_where_settings_are(source)}."
            )
        check_window(self.model, self.options, task)
        if self.axes and task.axes and self.axes != task.axes:
            raise ConfigError(
                f"{source}: its network was trained on arrays with the axes {self.axes}; task "
                f"{task.name} has {task.axes} (of slices, the axis across them first). Set "
                "task.options.axes (zyx or xyz) and task.options.slice_axis as in the "
                f"training{_where_settings_are(source)}."
            )
        if self.rate and task.rate and self.rate != task.rate:
            raise ConfigError(
                f"{source}: its network was trained on signals of {self.rate} samples per second; "
                f"task {task.name} has {task.rate}. Set task.options.rate as in the training"
                f"{_where_settings_are(source)}."
            )
        for what in ("classes", "channels"):
            self._check_names(what, task, source)

    def _check_names(self, what: str, task: Task, source: Path) -> None:
        own, given = getattr(self, what), getattr(task, what)
        if not own or own == given:
            return
        found = (
            f"{source}: the {what} of the training of task {self.task} are {', '.join(own)}; task "
            f"{task.name} has {', '.join(given)}"
        )
        if self.task == task.name or set(own) & set(given):
            raise ConfigError(
                f"{found}; expected the same names in the same order. Set them in task.options as "
                f"in the training{_where_settings_are(source)}."
            )
        warnings.warn(
            f"{found}; outputs are taken in this order. Check that they mean the same.",
            stacklevel=4,
        )

    def is_for(self, hardware: Hardware, row_split: str) -> bool:
        """Return whether the training used this hardware; older files lack newer fields."""
        own = self.own_hardware()
        return own is not None and (
            (to_plain(own), self.row_split) == (to_plain(hardware), row_split)
        )

    def refuse_leakage(self, task: Task, source: Path) -> None:
        """Raise an error if the network was trained or selected on test patients of the task.

        Test patients that have only the names of patients of data with another name are a warning.

        Raises:
            LeakageError: names some of them.
        """
        data = SeenData(self.task, frozenset(self.patients), frozenset(self.scans))
        if seen := data.tested_in(task):
            where = "" if self.task == task.name else f", in data with the name {self.task}"
            raise LeakageError(
                f"{source} was trained on {len(seen)} of the test patients ({_some(seen)}){where}; "
                "use the split that it was trained with (task.split_seed, task.shares, "
                f"task.split_file and task.options{_where_settings_are(source)})"
            )
        if namesakes := data.namesakes_in(task):
            warnings.warn(
                f"{source} was trained on patients of {self.task} that have the names of "
                f"{len(namesakes)} test patients of {task.name} ({_some(namesakes)}). Check that "
                "they are others: results on patients of the training are not valid.",
                stacklevel=3,
            )

    def has_tiles(self, rpu_config: TorchInferenceRPUConfig, row_split: str) -> bool:
        """Return whether learned output scales fit the tiles of the given hardware."""
        return self._agrees(_tiles, rpu_config, row_split)

    def has_input_converters(self, rpu_config: TorchInferenceRPUConfig, row_split: str) -> bool:
        """Return whether learned input ranges fit: same rows of tiles, same input converters.

        Noise of weights and outputs, drift, output converters and arguments of training may differ.
        """
        return self._agrees(_input_side, rpu_config, row_split)

    def _agrees(self, aspect: _Aspect, rpu_config: TorchInferenceRPUConfig, row_split: str) -> bool:
        own = self.own_hardware()
        return (
            own is not None
            and self.row_split == row_split
            and aspect(rpu_config_of(own)) == aspect(rpu_config)
        )

    def own_hardware(self) -> Hardware | None:
        """Return the hardware of the training; ``None`` if unknown or from a newer version."""
        known = {field.name for field in fields(Hardware)}
        if not self.hardware or not self.hardware.keys() <= known:
            return None
        return Hardware(**self.hardware)

    def to_json(self) -> str:
        """Return the header of the checkpoint file."""
        lists = {"scans": list(self.scans), "thresholds": list(self.thresholds)}
        content = asdict(self) | lists
        unknowns: dict[str, Any] = {
            "axes": "",
            "rate": 0,
            "expected_score": None,
            "scans": [],
            "thresholds": [],
            "keeps_start": False,
        }
        for name, unknown in unknowns.items():
            if content[name] == unknown:  # older versions can read the file
                del content[name]
        return json.dumps({"format": FORMAT, **content}, sort_keys=True)

    @classmethod
    def of_json(cls, text: str, source: Path) -> "CheckpointInfo":
        """Parse the header of a file.

        Raises:
            CheckpointError: the header has another format, or invalid content.
        """
        try:
            content = json.loads(text)
            if content.pop("format") != FORMAT:
                raise CheckpointError(f"checkpoint {source} is of another format than {FORMAT}")
            for name, check in FIELDS.items():
                if name in content:
                    content[name] = check(name, content[name])
            info = cls(**content)
            _check_hardware(info)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            message = f"checkpoint {source}: its header cannot be read: {error}"
            raise CheckpointError(message) from error
        return info


def check_window(model: str, options: dict[str, Any], task: Task) -> None:
    """Raise an error for a window that a network cannot halve as often as it has to.

    Raises:
        ConfigError: names the window and the required divisor.
    """
    option = "rate times window_s in task.options" if task.rate else "task.options.window"
    divisor = required_divisor(model, spatial_dims=task.spatial_dims, **options)
    if divisor and any(size % by for size, by in zip(task.window, divisor, strict=True)):
        raise ConfigError(
            f"{model} takes sizes divisible by {divisor}, but the window of task {task.name} is "
            f"{task.window}; set {option} to such a size"
        )


def scans_of(task: Task, cases: Iterable[Case]) -> tuple[str, ...]:
    """Return the digests of the scans or records of a task; empty for separate images."""
    return scan_digests(cases) if task.axes or task.rate else ()


def _some(patients: Iterable[str]) -> str:
    return ", ".join(sorted(patients)[:5])


_OF_TASK = (
    "in_channels", "out_channels", "spatial_dims", "classes", "channels", "window", "axes",
    "rate",
)  # fmt: skip
"""Attributes of a description that are those of a task."""


def _check_possible(score: float, metric: str) -> None:
    low, high = bounds_of(metric)
    if not low <= score <= high:
        raise ConfigError(
            f"expected_score: expected a {label_of(metric)} from {low:g} to {high:g}, got {score!r}"
        )


def _check_hardware(info: CheckpointInfo) -> None:
    try:
        info.own_hardware()
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"hardware: {error}") from error


def _where_settings_are(source: Path) -> str:
    settings = (source if source.is_dir() else source.parent) / SETTINGS
    return f"; they are in {settings}" if settings.is_file() else ""


def _tiles(rpu_config: TorchInferenceRPUConfig) -> tuple[object, ...]:
    mapping = rpu_config.mapping
    return (
        mapping.max_input_size,
        mapping.max_output_size,
        mapping.learn_out_scaling,
        mapping.out_scaling_columnwise,
    )


def _input_side(rpu_config: TorchInferenceRPUConfig) -> tuple[object, ...]:
    forward = rpu_config.forward
    return (
        rpu_config.mapping.max_input_size,
        rpu_config.pre_post.input_range.enable,
        forward.is_perfect,
        forward.inp_res,
        forward.inp_bound,
        forward.inp_noise,
        forward.noise_management,
    )
