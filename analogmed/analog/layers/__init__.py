"""Analog layers: torch's layers with matrix products computed on crossbar tiles.

A layer keeps its digital weight as its parameter, so that state dicts, optimizers and copies work
as in torch. The noisy weights of a chip are loaded into the layer during inference on the chip.

Under ``torch.autocast`` these layers compute in the type of their weight, float32: an input in
bfloat16 is cast to float32, and the output is float32. Bfloat16 has no more bits than the
converters, and would round weights more coarsely than their noise. Autocast still applies to the
digital parts in between: matrix products of attention, digital layers, and their activations.
"""

from analogmed.analog.layers.base import AnalogLayer
from analogmed.analog.layers.convolution import (
    AnalogConv1d,
    AnalogConv2d,
    AnalogConv3d,
    AnalogConvTranspose1d,
    AnalogConvTranspose2d,
    AnalogConvTranspose3d,
)
from analogmed.analog.layers.linear import AnalogLinear, AnalogMaskedLinear

__all__ = [
    "AnalogConv1d",
    "AnalogConv2d",
    "AnalogConv3d",
    "AnalogConvTranspose1d",
    "AnalogConvTranspose2d",
    "AnalogConvTranspose3d",
    "AnalogLayer",
    "AnalogLinear",
    "AnalogMaskedLinear",
]
