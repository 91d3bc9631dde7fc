"""Checkpoints: safetensors of the digital weights, and in the header what they belong to."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from analogmed.analog import Hardware, from_aihwkit, left_digital
from analogmed.analog.aihwkit_layers import is_analog
from analogmed.analog.aihwkit_training import tiles_of
from analogmed.analog.layers import AnalogLayer
from analogmed.atomic import write_atomically
from analogmed.errors import AnalogmedError, CheckpointError
from analogmed.models import build_model
from analogmed.network.probe import check_registered
from analogmed.training.checkpoint_info import CheckpointInfo
from analogmed.training.config import NETWORK, network_file
from analogmed.training.tile_parameters import (
    INPUT_RANGE,
    OUT_SCALE,
    ScaledLayer,
    multiply_out_scales,
)
from analogmed.training.weights import load_weights, weights_of

_HEADER = "analogmed"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network.

    Attributes:
        info: what it is.
        network: the plain digital network with its weights, in evaluation mode; learned output
            scales are multiplied into them.
        input_ranges: learned input ranges of its analog layers by layer name, each (row tiles,).
        path: the file that it was read from.
        scaled_layers: layers with learned output scales, as they were trained, for
            :func:`load_out_scales`.
    """

    info: CheckpointInfo
    network: nn.Module
    input_ranges: dict[str, Tensor]
    path: Path
    scaled_layers: dict[str, ScaledLayer] = field(default_factory=dict)


def save_checkpoint(path: Path | str, model: nn.Module, info: CheckpointInfo) -> Path:
    """Write a network, digital or analog, in one atomic step.

    Args:
        path: file to write, ``.safetensors``.
        model: the network; of an analog one the digital weights, the input ranges, the learned
            output scales and the names of the layers left digital are kept.
        info: what it is; its ``digital_layers`` follow from an analog model.

    Raises:
        CheckpointError: the network has learned output scales, but ``info`` describes other tiles.
        ConfigError: the network has layers that torch has not registered.
    """
    check_registered(model, f"cannot write {path}")
    if tiles_of(model):
        model = from_aihwkit(model)
    _refuse_other_tiles(path, model, info)
    if any(map(is_analog, model.modules())):
        info = replace(info, digital_layers=left_digital(model))
    header, tensors = {_HEADER: info.to_json()}, weights_of(model)
    return write_atomically(path, lambda file: save_file(tensors, file, metadata=header))


def load_checkpoint(path: Path | str, *, factories: Collection[str] = ()) -> Checkpoint:
    """Read a checkpoint and rebuild its network.

    Args:
        path: the file, or a run folder, which stands for its ``network.safetensors``.
        factories: ``package.module:factory`` names that the checkpoint may call. Its own word is
            not enough: some importable functions download code and run it.

    Raises:
        CheckpointError: the file is missing, damaged, a pickle, of another format, its network
            comes from a factory that is not in ``factories``, or its weights are not those of its
            network; the message names them.
    """
    path = _file(Path(path))
    info, tensors = _read(path)
    network = _build(path, info, factories)
    own = network.state_dict().keys()
    ranges = _by_layer(tensors, INPUT_RANGE, own)
    scales = _by_layer(tensors, OUT_SCALE, own)
    of_tiles = {n + INPUT_RANGE for n in ranges} | {n + OUT_SCALE for n in scales}
    weights = {name: t for name, t in tensors.items() if name not in of_tiles}
    load_weights(network, weights, f"checkpoint {path}")
    scaled = _multiply_out_scales(path, info, network, scales)
    return Checkpoint(info, network.eval(), ranges, path, scaled)


def _refuse_other_tiles(path: Path | str, model: nn.Module, info: CheckpointInfo) -> None:
    for name, layer in model.named_modules():
        if not isinstance(layer, AnalogLayer) or layer.out_scale is None:
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


def _build(path: Path, info: CheckpointInfo, factories: Collection[str]) -> nn.Module:
    _refuse_unknown_factory(path, info.model, factories)
    try:
        return build_model(
            info.model,
            in_channels=info.in_channels,
            out_channels=info.out_channels,
            spatial_dims=info.spatial_dims,
            **info.options,
        )
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: cannot build its network: {error}") from error


def _refuse_unknown_factory(path: Path, model: str, factories: Collection[str]) -> None:
    if ":" in model and not model.startswith("bundle:") and model not in factories:
        raise CheckpointError(
            f"checkpoint {path} would call '{model}' for its network; if you trust it, allow this "
            f"with factories={[model]} (--factories {model})"
        )


def _by_layer(
    tensors: dict[str, Tensor], suffix: str, weights: Collection[str]
) -> dict[str, Tensor]:
    """Tensors of this suffix by layer, of those that are no weights of the network itself."""
    return {
        name.removesuffix(suffix): tensor
        for name, tensor in tensors.items()
        if name.endswith(suffix) and name not in weights
    }


def _multiply_out_scales(
    path: Path, info: CheckpointInfo, network: nn.Module, scales: dict[str, Tensor]
) -> dict[str, ScaledLayer]:
    if not scales:
        return {}
    try:
        config = Hardware(**info.hardware).rpu_config()
        return multiply_out_scales(network, scales, config, info.row_split)
    except (AnalogmedError, TypeError) as error:
        raise CheckpointError(f"checkpoint {path}: {error}") from error


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
        raise CheckpointError(f"checkpoint {path} says nothing of its network; {_WRITE_IT}")
    return CheckpointInfo.of_json(header[_HEADER], path), tensors


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise CheckpointError(_PICKLE.format(path=path))


_WRITE_IT = (
    "load its weights into the network and write both with analogmed.save_checkpoint(path, "
    "network, analogmed.CheckpointInfo(...)); docs/your-network.md shows how"
)

_PICKLE = (
    "checkpoint {path} is a pickle, which can run code when it is read, and is refused; read it "
    "with torch.load(..., weights_only=True), " + _WRITE_IT
)
