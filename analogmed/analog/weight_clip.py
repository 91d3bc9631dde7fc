"""Clipping between training steps: weight outliers would reduce the resolution of all others."""

from typing import Any

import torch
from aihwkit.simulator.parameters.enums import WeightClipType, WeightRemapType
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from torch import Tensor, nn

from analogmed.analog.aihwkit_backend.training import tiles_of
from analogmed.analog.layers.base import AnalogLayer, analog_layers


class WeightClipper:
    """Clipping of an analog model's weights, tile by tile, as set in the configuration.

    ``LAYER_GAUSSIAN`` clips at sigma standard deviations of the tile's weights. ``FIXED_VALUE``
    clips at a multiple of the tile's mapping scale, which is its largest weight: the one at
    construction of the clipper, or, with remapping, the one after the previous step. aihwkit's own
    tiles clip and remap as they do after a step of aihwkit's optimizers. Frozen layers, whose
    weights do not require a gradient, are left unchanged.

    Learned input ranges stay at or above a thousandth of their initial value. With aihwkit's rule,
    a range's gradient is a multiple of the range, so that gradient descent cannot move it past
    zero. The steps of Adam, however, do not shrink with the gradient, and a negative range, which
    aihwkit accepts, would learn in the wrong direction.

    Args:
        model: analog model to be trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = list(analog_layers(model).values())
        self._scales = [_scales(layer) for layer in self._layers]
        self._tiles = tiles_of(model)
        ranges = [part.input_range for part in (*self._layers, *self._tiles)]
        learned = [each for each in ranges if each is not None and each.requires_grad]
        self._floors = {each: 1e-3 * each.detach().abs() for each in learned}

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the clipper: mapping scales and lower limits of the input ranges."""
        return {"scales": self._scales, "floors": list(self._floors.values())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        self._scales = [
            [new.to(old) for new, old in zip(scales, own, strict=True)]
            for scales, own in zip(state["scales"], self._scales, strict=True)
        ]
        floors = zip(self._floors, state["floors"], strict=True)
        self._floors = {learned: floor.to(learned.device) for learned, floor in floors}

    @torch.no_grad()
    def step(self) -> None:
        """Clip the weights in place; to be called after each optimizer step."""
        for index, layer in enumerate(self._layers):
            config = layer.rpu_config
            if config.clip.type is WeightClipType.NONE or not layer.weight.requires_grad:
                continue
            matrix = layer.weight_matrix().clone()
            for block, scale in zip(_blocks(layer, matrix), self._scales[index], strict=True):
                limit = _limit(layer, block, scale)
                block.clamp_(-limit, limit)
            layer.set_weight_matrix(matrix)
            if config.remap.type is not WeightRemapType.NONE:
                self._scales[index] = _scales(layer)
        for tile in self._tiles:
            if _is_trained(tile):
                tile.post_update_step()
        for learned, floor in self._floors.items():
            learned.clamp_(min=floor)


def _is_trained(tile: TorchInferenceTile) -> bool:
    return any(parameter.requires_grad for parameter in tile.tile.parameters())


def _limit(layer: AnalogLayer, block: Tensor, scale: Tensor) -> Tensor:
    """Return the largest allowed weight, one for the tile or one per column (columns, 1)."""
    clip = layer.rpu_config.clip
    fixed = clip.fixed_value * scale if clip.fixed_value > 0 else block.new_tensor(torch.inf)
    if clip.type is WeightClipType.FIXED_VALUE or block.numel() == 1:
        return fixed
    # aihwkit takes the deviation of the mapped weights, whose columns have separate scales
    return torch.minimum(fixed, clip.sigma * (block / scale).std() * scale)


def _scales(layer: AnalogLayer) -> list[Tensor]:
    """Return the mapping scale of each tile, (1, 1) or (columns, 1); 1 if all weights are zero."""
    columnwise = layer.rpu_config.mapping.weight_scaling_columnwise
    scales = []
    for block in _blocks(layer, layer.weight_matrix().detach()):
        largest = block.abs().amax(1 if columnwise else (0, 1), keepdim=True)
        scales.append(torch.where(largest > 0, largest, torch.ones_like(largest)))
    return scales


def _blocks(layer: AnalogLayer, matrix: Tensor) -> list[Tensor]:
    """Return the weights of each tile, as views of the layer's matrix."""
    return [
        group[c0:c1, r0:r1]
        for group in matrix
        for r0, r1 in layer.grid.rows
        for c0, c1 in layer.grid.cols
    ]
