"""Weight clipping between training steps: outliers cost the other weights their range."""

import torch
from aihwkit.simulator.parameters.enums import WeightClipType
from torch import Tensor, nn

from analogmed.analog.layers import AnalogLayer


class WeightClipper:
    """Clip the weights of an analog model, tile by tile, as the configuration asks.

    ``LAYER_GAUSSIAN`` clips at sigma standard deviations of the tile's weights. ``FIXED_VALUE``
    clips at a multiple of the largest weight that the tile had when the clipper was made.

    Args:
        model: an analog model, about to be trained.
    """

    def __init__(self, model: nn.Module) -> None:
        self._layers = [layer for layer in model.modules() if isinstance(layer, AnalogLayer)]
        self._largest = [[block.abs().amax() for block in _blocks(la)] for la in self._layers]

    @torch.no_grad()
    def step(self) -> None:
        """Clip in place; call after each optimizer step."""
        for layer, largest in zip(self._layers, self._largest, strict=True):
            clip = layer.rpu_config.clip
            for block, reference in zip(_blocks(layer), largest, strict=True):
                if clip.type is WeightClipType.LAYER_GAUSSIAN:
                    limit = clip.sigma * block.std()
                elif clip.type is WeightClipType.FIXED_VALUE:
                    limit = clip.fixed_value * reference
                else:
                    continue
                if block.numel() > 1:
                    block.clamp_(-limit, limit)


def _blocks(layer: AnalogLayer) -> list[Tensor]:
    """The weights of each tile, as views of the layer's parameter."""
    matrix = layer.weight_matrix().detach()
    return [
        group[c0:c1, r0:r1]
        for group in matrix
        for r0, r1 in layer.grid.rows
        for c0, c1 in layer.grid.cols
    ]
