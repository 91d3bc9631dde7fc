"""Linear layer with a fixed pattern of zero weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedLinear(nn.Linear):
    """``nn.Linear`` whose weight is 0 where a mask is.

    The mask belongs to the state dict. On tiles, the masked weights are devices that are programmed
    to 0, with the noise of any other device.

    Args:
        mask: 1 for a weight and 0 for none, shape (out_features, in_features).
        bias: whether the layer has a bias.
    """

    mask: Tensor

    def __init__(self, mask: Tensor, bias: bool = True) -> None:
        super().__init__(mask.shape[1], mask.shape[0], bias)
        self.register_buffer("mask", mask.to(torch.bool))

    def masked_weight(self) -> Tensor:
        """Return the weight that multiplies the inputs, shape (out_features, in_features)."""
        return self.weight * self.mask

    def forward(self, input: Tensor) -> Tensor:
        """Map inputs of shape (..., in_features) to outputs of shape (..., out_features)."""
        return F.linear(input, self.masked_weight(), self.bias)
