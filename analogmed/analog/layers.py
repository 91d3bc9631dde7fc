"""Analog layers: torch's own layers, whose product runs through crossbar tiles.

A layer keeps its plain digital weight as its parameter, so that state dicts, optimizers and copies
work as in torch. What a chip holds (its noisy weights) is lent to the layer while the chip is read.

Under ``torch.autocast`` these layers compute in the type of their weight, float32: an input in
bfloat16 is cast up, and the output is float32. Bfloat16 has no more bits than the converters, and
would round weights more coarsely than their noise. What is digital between them profits: matrix
products of attention, digital layers, and activations that those give.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from analogmed.analog.analog_layer import AnalogLayer, Reading, TileRow
from analogmed.analog.convolutions import (
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv3d,
    AnalogConvTranspose1d,
    AnalogConvTranspose2d,
    AnalogConvTranspose3d,
)
from analogmed.analog.precision import in_type_of_weight
from analogmed.foundation.errors import ShapeError

__all__ = [
    "AnalogConv1d",
    "AnalogConv2d",
    "AnalogConv3d",
    "AnalogConvTranspose1d",
    "AnalogConvTranspose2d",
    "AnalogConvTranspose3d",
    "AnalogLayer",
    "AnalogLinear",
    "Reading",
    "TileRow",
]


class AnalogLinear(AnalogLayer, nn.Linear):
    """``nn.Linear`` on tiles."""

    def weight_matrix(self) -> Tensor:
        """See :class:`AnalogLayer`."""
        return self.weight[None]

    def batched(self, inputs: Tensor) -> Tensor:
        """See :class:`AnalogLayer`."""
        if inputs.shape[-1:] != (self.in_features,):
            raise ShapeError(
                f"a Linear layer needs an input (..., {self.in_features}), got shape "
                f"{tuple(inputs.shape)}"
            )
        return inputs.reshape(-1, self.in_features)

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        """See :class:`AnalogLayer`."""
        return inputs[:, start:stop]

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """See :class:`AnalogLayer`."""
        return weight[0]

    def kernel_product(self, inputs: Tensor, kernel: Tensor, *, padded: bool = False) -> Tensor:
        """See :class:`AnalogLayer`."""
        return F.linear(inputs, kernel)

    def vector_product(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """See :class:`AnalogLayer`."""
        return F.linear(inputs, weight[0])

    @in_type_of_weight
    def forward(self, input: Tensor) -> Tensor:
        """Shape (..., in_features) to (..., out_features)."""
        flat = self.analog_product(self.batched(input), self.bias)
        return flat.reshape(*input.shape[:-1], self.out_features)
