"""Checkpoints: safetensors of the digital weights, with a description in the header."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from analogmed.analog import (
    Hardware,
    calibrate,
    convert,
    from_aihwkit,
    left_digital,
    to_aihwkit,
)
from analogmed.analog.aihwkit_backend.layers import is_analog
from analogmed.analog.aihwkit_backend.training import tiles_of
from analogmed.analog.description.aihwkit_config import TorchInferenceRPUConfig, rpu_config_of
from analogmed.analog.description.hardware import Backend
from analogmed.analog.description.resolve import as_rpu_config
from analogmed.analog.layers.base import analog_layers
from analogmed.data import Task
from analogmed.foundation.errors import AnalogmedError, CheckpointError, ConfigError
from analogmed.foundation.files import write_atomically
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.text import Rendered, shortened
from analogmed.network.computed_weights import plain_name, unwrapped, wrappers_of
from analogmed.network.probe import check_registered
from analogmed.network.tiling import RowSplit
from analogmed.network.weights import load_weights, weights_of
from analogmed.training.checkpoint.check import (
    Parts,
    build_network,
    check_parts,
    check_row_tiles,
    outline_of_network,
)
from analogmed.training.checkpoint.file import read_file, write_file
from analogmed.training.checkpoint.info import CheckpointInfo
from analogmed.training.checkpoint.precision import Precision, in_precision
from analogmed.training.checkpoint.tile_parameters import (
    INPUT_RANGE,
    ScaledLayer,
    load_input_ranges,
    load_out_scales,
    multiply_out_scales,
)
from analogmed.training.settings import NETWORK, network_file


@dataclass(frozen=True, repr=False)
class Checkpoint(Rendered):
    """A trained network.

    Attributes:
        info: description of the network.
        network: the plain digital network with its weights, in evaluation mode; learned output
            scales are multiplied into them.
        input_ranges: learned input ranges of its analog layers by layer name, each (row tiles,).
        path: file that the checkpoint was read from.
        scaled_layers: layers with learned output scales, as they were trained, for
            :func:`load_out_scales`.
    """

    info: CheckpointInfo
    network: nn.Module
    input_ranges: dict[str, Tensor]
    path: Path
    scaled_layers: dict[str, ScaledLayer] = field(default_factory=dict)

    def facts(self) -> dict[str, object]:
        """Return model, training, data, size and file."""
        return {
            "model": self.info.model,
            "training": self.info.training,
            "task": self.info.task,
            "parameters": f"{sum(p.numel() for p in self.network.parameters()):,}",
            "digital layers": shortened(tuple(self.info.digital_layers or ())),
            "file": self.path.name,
        }

    @checks_arguments
    def to_analog(
        self,
        hardware: TorchInferenceRPUConfig | Hardware | Mapping[str, Any] | str | None = None,
        *,
        calibration: Iterable[Any] | None = None,
        digital_layers: Iterable[str] | None = None,
        row_split: RowSplit = "even",
        backend: Backend = "auto",
    ) -> nn.Module:
        """Return the network on tiles, with its learned output scales and input ranges.

        Args:
            hardware: chip, as in :func:`analogmed.convert`; by default that of its hardware-aware
                training, or else the preset pcm.
            calibration: batches of training images, as in :func:`analogmed.calibrate`, from which
                input ranges are set. They are needed where the network has not learned ranges for
                this hardware, as after digital training.
            digital_layers: names or patterns of layers that stay digital; by default those of its
                training.
            row_split: rule that splits rows into tiles, as in :func:`analogmed.convert`.
            backend: implementation of the tile computations, as in :func:`analogmed.convert`.

        Raises:
            ConfigError: there are neither learned ranges for this hardware nor ``calibration``; or
                as in :func:`analogmed.convert`.
        """
        if hardware is None:
            hardware = Hardware(**self.info.hardware) if self.info.hardware else "pcm"
        rpu_config = as_rpu_config(hardware)
        analog = self.to_tiles(
            rpu_config, digital_layers=digital_layers, row_split=row_split, backend=backend
        )
        if calibration is not None:
            calibrate(analog, calibration)
        elif not load_trained_ranges(analog, self, rpu_config, row_split):
            raise ConfigError(
                f"{self.path}: the network has no input ranges for this hardware; expected "
                "calibration, batches of training images. Give them with calibration=."
            )
        return to_aihwkit(analog) if backend == "aihwkit" else analog

    def to_tiles(
        self,
        rpu_config: TorchInferenceRPUConfig,
        *,
        digital_layers: Iterable[str] | None = None,
        row_split: RowSplit = "even",
        backend: Backend = "auto",
    ) -> nn.Module:
        """Return the network on tiles with its learned output scales; input ranges are not set yet.

        Args:
            rpu_config: configuration of the chip.
            digital_layers, row_split: as in :meth:`to_analog`.
            backend: as in :meth:`to_analog`, but with ``"aihwkit"``, layers are those of torch,
                which become aihwkit's when their input ranges are set.
        """
        analog = convert(
            self.network,
            rpu_config,
            digital_layers=(
                self.info.digital_layers or () if digital_layers is None else digital_layers
            ),
            row_split=row_split,
            backend="torch" if backend == "aihwkit" else backend,
        )
        load_out_scales(analog, self.scaled_layers)
        return analog


@checks_arguments
def save_checkpoint(
    path: Path | str,
    model: nn.Module,
    info: CheckpointInfo | None = None,
    *,
    task: Task | None = None,
    factory: str = "",
    patients: Iterable[str] | None = None,
    expected_score: float | None = None,
    dtype: Precision | torch.dtype | None = None,
    finite: bool = True,
) -> Path:
    """Write a network, digital or analog, in one atomic step.

    Wrappers (``torch.compile``, ``DataParallel``, ``DistributedDataParallel``) are left out, and
    pruned or parametrised weights are written as they are computed, unless the network that
    ``info`` describes computes them itself.

    Args:
        path: file to write, ``.safetensors``.
        model: network to write; of an analog one the digital weights, the input ranges, the learned
            output scales and the names of the digital layers are stored.
        info: description of the network; its ``digital_layers`` follow from an analog model. By
            default, the next four arguments describe a network that was trained elsewhere.
        task: data as the network reads them: its channels, classes, dimensions, axes and window.
        factory: ``package.module:factory`` that builds the network again.
        patients: patients that training or selection has seen, perhaps none.
        expected_score: digital score by the primary metric of the task (Dice for most), if known;
            ``eval`` warns where its digital run is far from it.
        dtype: type of the matrices and kernels in the file: ``"float32"``, ``"float16"`` or
            ``"bfloat16"``. By default, they keep their type. A network that is loaded from a file
            in half precision has weights in float32 again.
        finite: whether NaN and Inf are errors. ``False`` writes the record of a failed training,
            for which :func:`load_checkpoint` raises an error.

    Raises:
        CheckpointError: the weights are not those of the network that ``info`` describes, contain
            NaN or Inf, are outside the range of ``dtype``, or have learned output scales of other
            tiles than ``info`` describes. An older file at ``path`` is unchanged.
        ConfigError: the network has layers that torch has not registered, the description is
            missing or given twice, or ``dtype`` is none of the three.
    """
    info = _described(info, task, factory, patients, expected_score)
    model, source = unwrapped(model), f"cannot write {path}"
    check_registered(model, source)
    if tiles_of(model):
        model = from_aihwkit(model)
    _refuse_other_tiles(path, model, info)
    if any(map(is_analog, model.modules())):
        wrappers = wrappers_of(model)
        digital = (plain_name(name, wrappers) for name in left_digital(model))
        info = replace(info, digital_layers=tuple(name for name in digital if name is not None))
    outline = outline_of_network(info, sum(t.numel() for t in model.state_dict().values()), source)
    tensors = weights_of(model, outline.state_dict().keys())
    if dtype is not None:
        tensors = in_precision(tensors, dtype, source)
    check_parts(Parts.of(tensors, outline), outline, source, finite=finite)
    return write_atomically(path, lambda file: write_file(file, info.to_json(), tensors))


def _described(
    info: CheckpointInfo | None,
    task: Task | None,
    factory: str,
    patients: Iterable[str] | None,
    expected_score: float | None,
) -> CheckpointInfo:
    given = {"task": task, "factory": factory or None, "patients": patients}
    names = [name for name, value in given.items() if value is not None]
    if info is not None:
        if names:
            raise ConfigError(
                f"save_checkpoint: expected either info or task, factory and patients, got info "
                f"and {', '.join(names)}. Leave one out."
            )
        if expected_score is None:
            return info
        if not math.isfinite(expected_score):
            raise ConfigError(f"expected_score: expected a number, got {expected_score!r}")
        return replace(info, expected_score=expected_score)
    if task is None or not factory or patients is None:
        missing = ", ".join(name for name in given if name not in names)
        raise ConfigError(
            f"save_checkpoint: {missing} missing; expected task=, factory= and patients=, or a "
            "CheckpointInfo. patients lists all that training or selection has seen, [] for none."
        )
    if not isinstance(task, Task):
        raise ConfigError(f"task: expected a Task, got {task!r:.80}. Pass load_task(...).")
    return CheckpointInfo.of_task(task, factory, patients=patients, expected_score=expected_score)


@checks_arguments
def load_checkpoint(path: Path | str, *, factories: Collection[str] = ()) -> Checkpoint:
    """Read a checkpoint and rebuild its network.

    The weights are compared with the described network before memory for it is used.

    Args:
        path: checkpoint file, or a run folder, for its ``network.safetensors``.
        factories: ``package.module:factory`` and ``bundle:/path`` names that the checkpoint may
            use. The checkpoint alone must never be able to execute code or read other files.

    Raises:
        CheckpointError: the file is missing, damaged, a pickle, of another format, its network
            comes from a factory or bundle that is not in ``factories``, or its weights are not
            those of its network or contain NaN or Inf; the message names them.
    """
    if not isinstance(path, str | Path):
        raise ConfigError(f"path: expected a path, or its text, got {type(path).__name__}")
    path = _file(Path(path))
    source = f"checkpoint {path}"
    description, tensors = read_file(path)
    info = CheckpointInfo.of_json(description, path)
    _refuse_unknown_factory(path, info.model, factories)
    outline = outline_of_network(info, sum(t.numel() for t in tensors.values()), source)
    parts = Parts.of(tensors, outline)
    check_parts(parts, outline, source)
    network = build_network(info)
    load_weights(network, parts.weights, source)
    scaled = _multiply_out_scales(info, network, parts.scales, source)
    check_row_tiles(parts.ranges, network, info, source)
    return Checkpoint(info, network.eval(), parts.ranges, path, scaled)


def load_trained_ranges(
    analog: nn.Module,
    checkpoint: Checkpoint,
    rpu_config: TorchInferenceRPUConfig,
    row_split: RowSplit = "even",
) -> bool:
    """Load the learned input ranges of a checkpoint into its network on tiles, if they fit.

    Args:
        analog: the network that ``convert`` made for this hardware; changed in place. Layers that
            are digital in it need no ranges.
        checkpoint: checkpoint of the trained network.
        rpu_config: hardware of the analog network.
        row_split: rule that splits rows into tiles.

    Returns:
        whether the ranges fit; if not, nothing was changed and the network needs calibration.
    """
    if not checkpoint.info.has_input_converters(rpu_config, row_split):
        return False
    known = analog.state_dict().keys()
    ranges = {n: r for n, r in checkpoint.input_ranges.items() if n + INPUT_RANGE in known}
    return load_input_ranges(analog, ranges)


def _refuse_other_tiles(path: Path | str, model: nn.Module, info: CheckpointInfo) -> None:
    for name, layer in analog_layers(model).items():
        if layer.out_scale is None:
            continue
        own = layer.rpu_config.mapping
        if not info.has_tiles(layer.rpu_config, layer.row_split):
            raise CheckpointError(
                f"cannot write {path}: layer '{name}' has learned output scales for tiles of "
                f"{own.max_input_size} x {own.max_output_size}, rows split {layer.row_split}, but "
                f"info describes {info.hardware or 'no hardware'}, rows split {info.row_split}; "
                "give info the hardware that the network was converted for"
            )


def _file(path: Path) -> Path:
    file = network_file(path)
    if path.is_dir() and not file.is_file():
        raise CheckpointError(
            f"checkpoint {path}: this folder has no {NETWORK}; give the folder of a training run "
            "that has been validated at least once, or a checkpoint file"
        )
    return file


def _refuse_unknown_factory(path: Path, model: str, factories: Collection[str]) -> None:
    if ":" in model and model not in factories:
        given = f", not {', '.join(factories)}" if factories else ""
        raise CheckpointError(
            f"checkpoint {path} would call '{model}' for its network{given}; if you trust it, "
            f"allow this with factories={[model]} (--factories {model}, in training "
            f"--model {model})"
        )


def _multiply_out_scales(
    info: CheckpointInfo, network: nn.Module, scales: dict[str, Tensor], source: str
) -> dict[str, ScaledLayer]:
    if not scales:
        return {}
    try:
        config = rpu_config_of(Hardware(**info.hardware))
        return multiply_out_scales(network, scales, config, info.row_split)
    except (AnalogmedError, TypeError) as error:
        raise CheckpointError(f"{source}: {error}") from error
