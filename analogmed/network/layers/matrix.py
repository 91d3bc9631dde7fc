"""Weight matrices of convolutions, transposed convolutions and Linear layers."""

import math
from dataclasses import dataclass

from torch import Tensor, nn

from analogmed.network.layers.digital_product import DigitalProduct
from analogmed.network.layers.masked import MaskedLinear

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
MAPPED = (MaskedLinear, nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
"""Layers whose weight matrix can be mapped onto tiles."""


@dataclass(frozen=True)
class WeightMatrix:
    """Size of the weight of a layer as crossbars store it.

    A convolution has (input channels x kernel volume) rows and one column per output channel. A
    transposed convolution has one row per input channel and (output channels x kernel volume)
    columns.

    Attributes:
        rows: rows of the matrix of one group.
        cols: columns of the matrix of one group.
        groups: number of groups.
        channel_rows: rows per input channel.
    """

    rows: int
    cols: int
    groups: int = 1
    channel_rows: int = 1

    @classmethod
    def of(cls, layer: nn.Module) -> "WeightMatrix":
        """Return the matrix of a layer of ``MAPPED``."""
        if isinstance(layer, CONVOLUTIONS):
            kernel = math.prod(layer.kernel_size)
            rows = layer.in_channels // layer.groups * kernel
            return cls(rows, layer.out_channels // layer.groups, layer.groups, kernel)
        if isinstance(layer, TRANSPOSED):
            cols = layer.out_channels // layer.groups * math.prod(layer.kernel_size)
            return cls(layer.in_channels // layer.groups, cols, layer.groups)
        assert isinstance(layer, nn.Linear)
        return cls(layer.in_features, layer.out_features)

    @property
    def weights(self) -> int:
        """Number of weights, which is the number of multiply-accumulates of one use."""
        return self.rows * self.cols * self.groups


def count_vectors(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Return the number of uses of the weight matrix in one call of a layer of ``MAPPED``.

    These are the output positions of a convolution, the input positions of a transposed
    convolution, and the vectors of a Linear layer.
    """
    if isinstance(layer, TRANSPOSED):
        return inputs.numel() // layer.in_channels
    if isinstance(layer, CONVOLUTIONS):
        return output.numel() // layer.out_channels
    assert isinstance(layer, nn.Linear)
    return output.numel() // layer.out_features


def count_macs(layer: nn.Module, inputs: Tensor, output: Tensor) -> int:
    """Return the number of multiply-accumulates in one call of a layer.

    Args:
        layer: layer of ``MAPPED``, or a :class:`DigitalProduct`.
        inputs: first argument of the call.
        output: its result.
    """
    if isinstance(layer, DigitalProduct):
        return layer.count_macs(inputs, output)
    return count_vectors(layer, inputs, output) * WeightMatrix.of(layer).weights
