"""Parameters that a network has learned for its tiles, in addition to its digital weights.

Input ranges belong to one hardware; on another one they are calibrated again. Learned output
scales belong to the network: without them its results differ. They are therefore multiplied into
the weight of a digital layer, and of a layer on other tiles than it was trained on, which gives
the same results. On the tiles that it was trained on, a layer gets back the weight and the scales
of its training, so that its devices store the same values as in training.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from analogmed.analog import convert
from analogmed.analog.description.aihwkit_config import TorchInferenceRPUConfig
from analogmed.analog.layers.base import AnalogLayer
from analogmed.foundation.errors import AnalogmedError, CheckpointError
from analogmed.network.recurrent import unroll_recurrent
from analogmed.network.tiling import RowSplit, TileGrid

INPUT_RANGE, OUT_SCALE = ".input_range", ".out_scale"


@dataclass(frozen=True)
class ScaledLayer:
    """A layer with learned output scales, as it was trained.

    Attributes:
        weight: weight of the layer, without the scales.
        out_scale: the scales, shape (row tiles, groups, column tiles or columns).
        grid: tiles that the scales belong to.
    """

    weight: Tensor
    out_scale: Tensor
    grid: TileGrid


def load_input_ranges(model: nn.Module, ranges: dict[str, Tensor]) -> bool:
    """Load learned input ranges into an analog model that is split into the same tiles.

    Args:
        model: result of ``convert``; its ranges are changed in place.
        ranges: ranges by layer name, each (row tiles,): a checkpoint's ``input_ranges``. A network
            that was trained digitally has none.

    Returns:
        whether the ranges fit; if not, nothing was changed and the model needs calibration.
    """
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    targets = {name: own.get(name + INPUT_RANGE) for name in ranges}
    known = {name for name in own if name.endswith(INPUT_RANGE)}
    if not ranges or known != {name + INPUT_RANGE for name in ranges}:
        return False
    if any(t is None or t.shape != ranges[name].shape for name, t in targets.items()):
        return False
    with torch.no_grad():
        for name, target in targets.items():
            assert target is not None
            target.copy_(ranges[name])
    return True


@torch.no_grad()
def load_out_scales(model: nn.Module, scaled: dict[str, ScaledLayer]) -> tuple[str, ...]:
    """Load learned output scales, and the weights that they scale, into the layers that they fit.

    Args:
        model: result of ``convert`` for a network that :func:`multiply_out_scales` has changed.
        scaled: result of that function.

    Returns:
        names of the layers on other tiles, or on tiles without such scales: the scales stay in
        their weights. Layers that were left digital are not included.
    """
    others = []
    for name, trained in scaled.items():
        layer = model.get_submodule(name)
        if not isinstance(layer, AnalogLayer):
            continue
        own = layer.out_scale
        if own is None or own.shape != trained.out_scale.shape or layer.grid != trained.grid:
            others.append(name)
            continue
        own.copy_(trained.out_scale)
        layer.weight.copy_(trained.weight)
    return tuple(others)


@torch.no_grad()
def multiply_out_scales(
    network: nn.Module,
    out_scales: dict[str, Tensor],
    rpu_config: TorchInferenceRPUConfig,
    row_split: RowSplit,
) -> dict[str, ScaledLayer]:
    """Multiply learned output scales into the weights of a digital network.

    Args:
        network: digital network; changed in place.
        out_scales: output scales of its layers by name.
        rpu_config: hardware that they were learned for.
        row_split: rule that split the rows into tiles.

    Returns:
        the layers as they were.

    Raises:
        CheckpointError: the scales do not belong to this hardware; nothing was changed.
    """
    if not out_scales:
        return {}
    try:
        analog = convert(network, rpu_config, row_split=row_split, backend="torch")
        layers = {name: analog.get_submodule(name) for name in out_scales}
    except (AnalogmedError, AttributeError) as error:
        raise CheckpointError(f"its learned output scales have no tiles: {error}") from error
    scaled = {name: _scaled(name, layers[name], scale) for name, scale in out_scales.items()}
    own_layers = unroll_recurrent(network)  # shares the weights
    for name, layer in layers.items():
        assert isinstance(layer, AnalogLayer)
        layer.set_weight_matrix(_product(layer))
        weight = own_layers.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        weight.copy_(layer.weight)
    return scaled


def _scaled(name: str, layer: nn.Module, out_scale: Tensor) -> ScaledLayer:
    own = layer.out_scale if isinstance(layer, AnalogLayer) else None
    if not isinstance(layer, AnalogLayer) or own is None or own.shape != out_scale.shape:
        raise CheckpointError(
            f"its learned output scales of layer '{name}' have shape {tuple(out_scale.shape)}, but "
            f"on the hardware it names they have {None if own is None else tuple(own.shape)}"
        )
    own.copy_(out_scale)
    return ScaledLayer(layer.weight.detach().clone(), out_scale, layer.grid)


def _product(layer: AnalogLayer) -> Tensor:
    """Return the weight matrix times the scales of its tiles, shape (groups, columns, rows)."""
    parts = []
    for index, (start, stop) in enumerate(layer.grid.rows):
        scales = layer.learned_scales(index)
        assert scales is not None
        parts.append(layer.weight_matrix()[:, :, start:stop] * scales[:, :, None])
    return torch.cat(parts, 2)
