"""Weight perturbation of a layer in one step of hardware-aware training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from analogmed.analog.tile.rows import TileRow


@dataclass(frozen=True)
class WeightPerturbation:
    """Perturbed weights of a layer in a training step, used in place of the target weights.

    They are plain values. The gradient passes straight through to the target weights, as if these
    had been used. The layer's parameters are neither read nor changed here.

    Attributes:
        weights: perturbed weights of each row of tiles, in units of the mapping scale, shape
            (groups, columns, rows).
        gains: digital factor on the output of each column, such as drift compensation, for each row
            of tiles, shape (groups, columns).
    """

    weights: tuple[Tensor, ...]
    gains: tuple[Tensor, ...] | None = None

    def applied(self, rows: Sequence[TileRow]) -> tuple[TileRow, ...]:
        """Return the perturbed rows of tiles, differentiable with respect to the given rows."""
        gains = self.gains or (None,) * len(self.weights)
        return tuple(
            TileRow(
                pass_straight(row.weight, weight, gain),
                row.scale if gain is None else row.scale * gain,
            )
            for row, weight, gain in zip(rows, self.weights, gains, strict=True)
        )


def pass_straight(weight: Tensor, disturbed: Tensor, gain: Tensor | None = None) -> Tensor:
    """Return the perturbed weights, with the gradient of the target weights.

    Args:
        weight: target weights, shape (groups, columns, rows).
        disturbed: perturbed weights, same shape.
        gain: factor on each column's output, (groups, columns). A weight that drifted to half its
            target has a gain of two; the gradient contains neither of the two factors.
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
