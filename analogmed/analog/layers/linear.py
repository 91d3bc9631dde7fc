"""``nn.Linear`` on tiles, without and with a mask."""

import torch.nn.functional as F
from torch import Tensor, nn

from analogmed.analog.layers.base import AnalogLayer
from analogmed.analog.tile.precision import in_type_of_weight
from analogmed.foundation.errors import ShapeError
from analogmed.network.layers.masked import MaskedLinear


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

    def kernel_gradients(
        self,
        gradient: Tensor,
        inputs: Tensor,
        kernel: Tensor,
        *,
        by_inputs: bool,
        by_kernel: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """See :class:`AnalogLayer`."""
        return (
            gradient @ kernel if by_inputs else None,
            gradient.T @ inputs if by_kernel else None,
        )

    def vector_product(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """See :class:`AnalogLayer`."""
        return F.linear(inputs, weight[0])

    @in_type_of_weight
    def forward(self, input: Tensor) -> Tensor:
        """Map inputs of shape (..., in_features) to outputs of shape (..., out_features)."""
        flat = self.analog_product(self.batched(input), self.bias)
        return flat.reshape(*input.shape[:-1], self.out_features)


class AnalogMaskedLinear(AnalogLinear, MaskedLinear):
    """``MaskedLinear`` on tiles: masked weights are devices that are programmed to 0."""

    def weight_matrix(self) -> Tensor:
        """See :class:`AnalogLayer`."""
        return self.masked_weight()[None]
