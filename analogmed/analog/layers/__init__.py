"""Analog layers: torch's own layers, whose product runs through crossbar tiles.

A layer keeps its plain digital weight as its parameter, so that state dicts, optimizers and copies
work as in torch. What a chip holds (its noisy weights) is lent to the layer while the chip is read.

Under ``torch.autocast`` these layers compute in the type of their weight, float32: an input in
bfloat16 is cast up, and the output is float32. Bfloat16 has no more bits than the converters, and
would round weights more coarsely than their noise. What is digital between them profits: matrix
products of attention, digital layers, and activations that those give.
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
from analogmed.analog.layers.linear import AnalogLinear

__all__ = [
    "AnalogConv1d",
    "AnalogConv2d",
    "AnalogConv3d",
    "AnalogConvTranspose1d",
    "AnalogConvTranspose2d",
    "AnalogConvTranspose3d",
    "AnalogLayer",
    "AnalogLinear",
]
