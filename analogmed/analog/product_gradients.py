"""The gradients of a layer's linear map, which torch has without computing the product again."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from analogmed.analog.memory_format import plain_if_one_channel

if TYPE_CHECKING:
    from analogmed.analog.layers import AnalogLayer


def product_gradients(
    layer: "AnalogLayer",
    gradient: Tensor,
    inputs: Tensor,
    kernel: Tensor,
    *,
    by_inputs: bool,
    by_kernel: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of ``layer.kernel_product`` by its inputs and by its kernel, those wanted.

    Args:
        layer: whose map it is; inputs and kernel may have any number of channels.
        gradient: by the product.
        inputs: shape (B, channels, *positions).
        kernel: shape (columns, channels / groups, *kernel).
        by_inputs: whether that gradient is wanted.
        by_kernel: whether that gradient is wanted.
    """
    if not isinstance(layer, nn.modules.conv._ConvNd):
        return (
            gradient @ kernel if by_inputs else None,
            gradient.T @ inputs if by_kernel else None,
        )
    ones, zeros = ([number] * len(layer.kernel_size) for number in (1, 0))
    stride, padding, dilation = ones, zeros, ones
    if not layer.transposed:
        stride, dilation = list(layer.stride), list(layer.dilation)
        padding = zeros if layer._pads_beforehand() else list(layer.padding)  # type: ignore
    first, second, _ = torch.ops.aten.convolution_backward(
        gradient,
        plain_if_one_channel(inputs),
        kernel,
        None,
        stride,
        padding,
        dilation,
        False,
        zeros,
        layer.groups,
        [by_inputs, by_kernel, False],
    )
    return first, second
