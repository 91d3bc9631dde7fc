"""Checkpoints: safetensors of the digital weights, and in the header what they belong to."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from analogmed.analog import Hardware
from analogmed.atomic import write_atomically
from analogmed.config import to_plain
from analogmed.data import Task
from analogmed.errors import CheckpointError, ConfigError, LeakageError
from analogmed.models import build_model, required_divisor

FORMAT = 1
_HEADER = "analogmed"
_RANGE = ".input_range"

Training = Literal["digital", "hwa"]


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says of itself.

    Attributes:
        model: name of the network in the registry.
        options: options of its builder.
        in_channels, out_channels, spatial_dims: its shape.
        training: ``"digital"`` or ``"hwa"`` (hardware-aware).
        task: task that it was trained on.
        classes: names of the foreground classes.
        patients: patients that it has seen, in training or validation.
        window: spatial size of its training patches; empty in older files.
        hardware: arguments of ``create_rpu_config`` that it was trained for; empty if digital.
        row_split: how its rows were cut into tiles, if hardware-aware.
        score: validation Dice, digital or on chips after a day.
        seed: root seed of the training.
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
    row_split: str = "even"
    score: float = float("nan")
    seed: int = 0

    def check_fits(self, task: Task, source: Path) -> None:
        """Refuse a task that the network was not made for.

        Raises:
            ConfigError: names both numbers of channels and of dimensions, or a window that the
                network cannot take.
        """
        own = (self.in_channels, self.out_channels, self.spatial_dims)
        needed = (task.in_channels, task.out_channels, task.spatial_dims)
        if own != needed:
            raise ConfigError(
                f"{source} has {own[0]} input and {own[1]} output channels in {own[2]}D; task "
                f"{task.name} needs {needed[0]} ({', '.join(task.channels)}) and {needed[1]} in "
                f"{needed[2]}D"
            )
        check_window(self.model, self.options, task)

    def is_for(self, hardware: Hardware, row_split: str) -> bool:
        """Whether the network was trained for this hardware; older files leave out newer fields."""
        known = {field.name for field in fields(Hardware)}
        if not self.hardware or not self.hardware.keys() <= known:
            return False
        own = to_plain(Hardware(**self.hardware))
        return (own, self.row_split) == (to_plain(hardware), row_split)

    def refuse_leakage(self, task: Task, source: Path) -> None:
        """Refuse to test the network on patients that it was trained or selected on.

        Raises:
            LeakageError: names some of them.
        """
        if self.task != task.name:
            return
        seen = set(self.patients) & {case.patient_id for case in task.test}
        if seen:
            shown = ", ".join(sorted(seen)[:5])
            raise LeakageError(
                f"{source} was trained on {len(seen)} of the test patients ({shown}); use the "
                "split that it was trained with (task.split_seed, task.shares or task.split_file)"
            )


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes:
        info: what it is.
        network: the plain digital network with its weights, in evaluation mode.
        input_ranges: learned input ranges of its analog layers by layer name, each (row tiles,).
        path: where it was read from.
    """

    info: CheckpointInfo
    network: nn.Module
    input_ranges: dict[str, Tensor]
    path: Path


def save_checkpoint(path: Path | str, model: nn.Module, info: CheckpointInfo) -> Path:
    """Write a network, digital or analog, in one atomic step.

    Args:
        path: file to write, ``.safetensors``.
        model: the network; of an analog one the digital weights and the input ranges are kept.
        info: what it is.
    """
    state = model.state_dict()
    own_names = set(_first_names(state).values())
    tensors = {name: state[name].detach().cpu().contiguous() for name in state if name in own_names}
    header = {_HEADER: json.dumps({"format": FORMAT, **asdict(info)}, sort_keys=True)}
    return write_atomically(path, lambda file: save_file(tensors, file, metadata=header))


def load_checkpoint(path: Path | str, *, factories: Collection[str] = ()) -> Checkpoint:
    """Read a checkpoint and rebuild its network.

    Args:
        path: the file.
        factories: ``package.module:factory`` names that the checkpoint may call. Its own word is
            not enough: some importable functions download code and run it.

    Raises:
        CheckpointError: the file is missing, damaged, a pickle, of another format, its network
            comes from a factory that is not in ``factories``, or its weights are not those of its
            network; the message names them.
    """
    path = Path(path)
    info, tensors = _read(path)
    _refuse_unknown_factory(path, info.model, factories)
    try:
        network = build_model(
            info.model,
            in_channels=info.in_channels,
            out_channels=info.out_channels,
            spatial_dims=info.spatial_dims,
            **info.options,
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: cannot build its network: {error}") from error
    ranges = {n.removesuffix(_RANGE): t for n, t in tensors.items() if n.endswith(_RANGE)}
    weights = {name: t for name, t in tensors.items() if not name.endswith(_RANGE)}
    load_weights(network, weights, f"checkpoint {path}")
    return Checkpoint(info, network.eval(), ranges, path)


def load_weights(network: nn.Module, weights: dict[str, Tensor], source: str) -> None:
    """Copy weights into a network that has exactly these.

    Raises:
        CheckpointError: names what is missing, unexpected or of another shape; the network is
            left as it was.
    """
    state = network.state_dict()
    first_names = _first_names(state)
    own = {name: state[name] for name in set(first_names.values())}
    problems = [
        _listing("missing weights", own.keys() - weights.keys()),
        _listing("unexpected weights", weights.keys() - own.keys()),
        _listing(
            "weights of another shape",
            {
                f"{name} {tuple(weights[name].shape)} instead of {tuple(own[name].shape)}"
                for name in own.keys() & weights.keys()
                if own[name].shape != weights[name].shape
            },
        ),
    ]
    if any(problems):
        raise CheckpointError(f"{source} does not fit: {'; '.join(filter(None, problems))}")
    network.load_state_dict({name: weights[first] for name, first in first_names.items()})


def check_window(model: str, options: dict[str, Any], task: Task) -> None:
    """Refuse a window that a network cannot halve as often as it has to.

    Raises:
        ConfigError: names the window and what it must be divisible by.
    """
    divisor = required_divisor(model, spatial_dims=task.spatial_dims, **options)
    if divisor and any(size % by for size, by in zip(task.window, divisor, strict=True)):
        raise ConfigError(
            f"{model} takes sizes divisible by {divisor}, but the window of task {task.name} is "
            f"{task.window}; set task.options.window to such a size"
        )


def load_input_ranges(model: nn.Module, ranges: dict[str, Tensor]) -> bool:
    """Give learned input ranges to an analog model cut into the same tiles.

    Returns:
        whether they fit; if not, nothing was changed and the model needs calibration.
    """
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    targets = {name: own.get(name + _RANGE) for name in ranges}
    known = {name for name in own if name.endswith(_RANGE)}
    if not ranges or known != {name + _RANGE for name in ranges}:
        return False
    if any(t is None or t.shape != ranges[name].shape for name, t in targets.items()):
        return False
    with torch.no_grad():
        for name, target in targets.items():
            assert target is not None
            target.copy_(ranges[name])
    return True


def _refuse_unknown_factory(path: Path, model: str, factories: Collection[str]) -> None:
    if ":" in model and not model.startswith("bundle:") and model not in factories:
        raise CheckpointError(
            f"checkpoint {path} would call '{model}' for its network; if you trust it, allow this "
            f"with factories={[model]} (--factories {model})"
        )


def _first_names(state: dict[str, Tensor]) -> dict[str, str]:
    """For each name the first name of the same tensor; some networks register a layer twice."""
    first: dict[tuple[int, tuple[int, ...]], str] = {}
    return {
        name: first.setdefault((t.data_ptr() or id(t), tuple(t.shape)), name)
        for name, t in state.items()
    }


def _listing(what: str, names: set[str]) -> str:
    if not names:
        return ""
    shown = sorted(names)[:5]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return f"{what}: {', '.join(shown)}{more}"


def _read(path: Path) -> tuple[CheckpointInfo, dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: there is no such file")
    _refuse_pickle(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or no safetensors file ({error}); use an older one"
        ) from error
    if _HEADER not in header:
        raise CheckpointError(
            f"checkpoint {path} says nothing of its network; write it with save_checkpoint()"
        )
    return _parse_info(path, header[_HEADER]), tensors


def _parse_info(path: Path, text: str) -> CheckpointInfo:
    try:
        content = json.loads(text)
        if content.pop("format") != FORMAT:
            raise CheckpointError(f"checkpoint {path} is of another format than {FORMAT}")
        content["classes"] = tuple(content["classes"])
        content["patients"] = tuple(content["patients"])
        content["window"] = tuple(content.get("window", ()))
        for name, kind in (("model", str), ("options", dict), ("hardware", dict)):
            if not isinstance(content[name], kind):
                raise TypeError(f"{name} must be a {kind.__name__}, not {content[name]!r}")
        return CheckpointInfo(**content)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"checkpoint {path}: its header cannot be read: {error}") from error


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise CheckpointError(_PICKLE.format(path=path))


_PICKLE = (
    "checkpoint {path} is a pickle, which can run code when it is read, and is refused; convert it "
    "where you trust it: safetensors.torch.save_file(torch.load(..., weights_only=True), ...)"
)
