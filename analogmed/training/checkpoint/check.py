"""Check of a checkpoint, the same before it is written and after it is read."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analogmed.analog import convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.analog.layers.base import AnalogLayer
from analogmed.foundation.errors import AnalogmedError, CheckpointError, ConfigError
from analogmed.models import build_model
from analogmed.models.outline import outline_of
from analogmed.network.recurrent import unroll_recurrent
from analogmed.network.weights import check_weights, kind_of, refuse_not_finite
from analogmed.training.checkpoint.info import CheckpointInfo
from analogmed.training.checkpoint.tile_parameters import INPUT_RANGE, OUT_SCALE

_FREE_VALUES = 2**22
"""Number of values that a network may create in addition to the weights of its file, as tables."""


def build_network(info: CheckpointInfo) -> nn.Module:
    """Build the network that a checkpoint describes.

    Raises:
        ConfigError: the description does not fit the network's builder.
    """
    shape = {name: getattr(info, name) for name in ("in_channels", "out_channels", "spatial_dims")}
    twice = sorted(info.options.keys() & {"name", *shape})
    if twice:
        raise ConfigError(f"options: {', '.join(twice)} cannot be an option of a network")
    return build_model(info.model, **shape, **info.options)


def outline_of_network(info: CheckpointInfo, values: int, source: str) -> nn.Module:
    """Build the described network without memory for its weights.

    Args:
        info: the description.
        values: number of values in the weights of the checkpoint.
        source: start of a message, for instance ``"checkpoint net.safetensors"``.

    Raises:
        CheckpointError: the network cannot be built, or is much larger than its weights.
    """
    try:
        return outline_of(lambda: build_network(info), most_values=2 * values + _FREE_VALUES)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{source}: cannot build its network: {error}") from error


@dataclass(frozen=True)
class Parts:
    """Tensors of a checkpoint by their role.

    Attributes:
        weights: weights and buffers of the network.
        ranges: learned input ranges by layer.
        scales: learned output scales by layer.
    """

    weights: dict[str, Tensor]
    ranges: dict[str, Tensor]
    scales: dict[str, Tensor]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], network: nn.Module) -> "Parts":
        """Sort the tensors of a file by role; names of the network's own weights are weights."""
        own = network.state_dict().keys()
        extra = {n for n in tensors if n.endswith((INPUT_RANGE, OUT_SCALE)) and n not in own}
        return cls(
            {name: t for name, t in tensors.items() if name not in extra},
            *(
                {
                    n.removesuffix(kind): tensors[n]
                    for n in tensors
                    if n in extra and n.endswith(kind)
                }
                for kind in (INPUT_RANGE, OUT_SCALE)
            ),
        )


def check_parts(parts: Parts, network: nn.Module, source: str, *, finite: bool = True) -> None:
    """Compare the tensors of a checkpoint with the network that it describes.

    Args:
        parts: tensors of the checkpoint.
        network: the described network or its outline; its values are not read.
        source: start of a message.
        finite: whether NaN and Inf are errors.

    Raises:
        CheckpointError: weights that are missing, unexpected, of another shape or kind, or not
            finite; input ranges that are not positive; ranges or scales of an unknown layer.
    """
    check_weights(network, parts.weights, source)
    unrolled = unroll_recurrent(network)
    layers = {name for name, _ in unrolled.named_modules(remove_duplicate=False)}
    for what, of_layers in (("input range", parts.ranges), ("output scale", parts.scales)):
        for name, values in of_layers.items():
            if name not in layers:
                raise CheckpointError(
                    f"{source}: {what} of '{name}'; the network has no such layer"
                )
            if kind_of(values) != "floating-point":
                raise CheckpointError(
                    f"{source}: {what} of layer '{name}' has type {values.dtype}; expected "
                    "floating-point values"
                )
    if finite:
        refuse_not_finite(network, parts.weights, source)
        _check_values(parts, source)


def check_row_tiles(
    ranges: Mapping[str, Tensor], network: nn.Module, info: CheckpointInfo, source: str
) -> None:
    """Compare the number of learned input ranges with the tiles of the described hardware.

    Args:
        ranges: input ranges by layer.
        network: the network with its weights.
        info: the description; nothing is compared where it lacks the hardware.
        source: start of a message.

    Raises:
        CheckpointError: names a layer and both numbers.
    """
    hardware = info.own_hardware()
    if not ranges or hardware is None:
        return
    try:
        analog = convert(
            network, rpu_config_of(hardware), row_split=info.row_split, backend="torch"
        )
    except AnalogmedError as error:
        raise CheckpointError(f"{source}: its input ranges have no tiles: {error}") from error
    for name, values in ranges.items():
        layer = analog.get_submodule(name)
        found = len(layer.grid.rows) if isinstance(layer, AnalogLayer) else 0
        if tuple(values.shape) != (found,):
            raise CheckpointError(
                f"{source}: input ranges of layer '{name}' have shape {tuple(values.shape)}; "
                f"expected ({found},), one per row tile of {hardware.tile_size}"
            )


def _check_values(parts: Parts, source: str) -> None:
    for name, values in parts.ranges.items():
        if not (torch.isfinite(values) & (values >= 0)).all():
            raise CheckpointError(
                f"{source}: input ranges of layer '{name}' are {_shown(values)}; expected finite "
                "values of 0 or more. Use another checkpoint, or calibrate the network again."
            )
    for name, values in parts.scales.items():
        if not torch.isfinite(values).all():
            raise CheckpointError(
                f"{source}: output scales of layer '{name}' are {_shown(values)}; expected finite "
                "values. Use another checkpoint."
            )


def _shown(values: Tensor) -> str:
    flat = values.flatten()
    more = ", ..." if len(flat) > 4 else ""
    return f"[{', '.join(f'{value:.4g}' for value in flat[:4].tolist())}{more}]"
