"""What disturbs the weights of a layer in one step of hardware-aware training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from analogmed.analog.tile.rows import TileRow


@dataclass(frozen=True)
class Disturbance:
    """The weights that a layer computes with in a training step, in place of those asked for.

    They are values only. The gradient of what they compute passes straight through to the weights
    asked for, as if these had been used: the layer's parameters are neither read nor changed here.

    Attributes:
        weights: of each row of tiles, in units of the mapping scale, shape (groups, columns, rows).
        gains: of each row of tiles a digital factor on the output of each column, such as drift
            compensation, shape (groups, columns).
    """

    weights: tuple[Tensor, ...]
    gains: tuple[Tensor, ...] | None = None

    def applied(self, rows: Sequence[TileRow]) -> tuple[TileRow, ...]:
        """The disturbed rows of tiles, differentiable by those given."""
        gains = self.gains or (None,) * len(self.weights)
        return tuple(
            TileRow(
                pass_straight(row.weight, weight, gain),
                row.scale if gain is None else row.scale * gain,
            )
            for row, weight, gain in zip(rows, self.weights, gains, strict=True)
        )


def pass_straight(weight: Tensor, disturbed: Tensor, gain: Tensor | None = None) -> Tensor:
    """The disturbed weights, with the gradient of those asked for.

    Args:
        weight: asked for, shape (groups, columns, rows).
        disturbed: computed with, same shape.
        gain: factor that each column's output will get, (groups, columns). A weight that drifted to
            half of what was asked for has a gain of two; of the two, the gradient sees neither.
    """
    return cast(Tensor, _PassStraight.apply(weight, disturbed, gain))


class _PassStraight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, disturbed: Tensor, gain: Tensor | None) -> Tensor:
        ctx.gain = gain
        return disturbed.view_as(disturbed)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        if ctx.gain is not None:
            gradient = gradient / ctx.gain[:, :, None]
        return gradient, None, None
