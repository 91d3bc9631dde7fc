"""Gradient of a learned input range, as aihwkit defines it."""

from typing import Any, cast

import torch
from aihwkit.simulator.parameters.pre_post import InputRangeParameter
from torch import Tensor


def pass_range_gradient(clamped: Tensor, limit: Tensor, ranges: InputRangeParameter) -> Tensor:
    """Return the clamped input; in the backward pass, widen the range or let it decay.

    A clipped input whose gradient requests a larger value widens the range. While more than
    ``input_min_percentage`` of the inputs fit, the range decays.

    aihwkit applies the same rule to each tile and each patch, and each tile has a separate range.
    Here the column tiles of a row share the converted input and its range. A pixel is converted
    once for all patches that contain it, so that the rule applies to the sum of all their
    gradients. Gradients of opposite sign cancel before they are counted. With one column tile, and
    in layers whose patches do not overlap, both rules are equal. Otherwise aihwkit's rule widens
    the range more (2.0 times for a Linear layer on four column tiles, 2.9 times for a 3x3
    convolution on one, 5.7 times on four, with random gradients). It requires the gradient of every
    patch and tile, which needs unfolding, and the range would depend on how a layer is cut into
    columns.

    Args:
        clamped: the input after clamping to +-limit, any shape.
        limit: input range, a scalar.
        ranges: parameters of range learning in aihwkit.

    Source: aihwkit ``InputRangeForward`` (torch tile).
    """
    return cast(Tensor, _RangeGradient.apply(clamped, limit, ranges))


class _RangeGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, clamped: Tensor, limit: Tensor, ranges: InputRangeParameter) -> Tensor:
        ctx.save_for_backward(clamped, limit)
        ctx.ranges = ranges
        return clamped.view_as(clamped)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        clamped, limit = ctx.saved_tensors
        ranges = ctx.ranges
        upper = (gradient * (clamped >= limit)).clamp(max=0).sum()
        lower = (gradient * (clamped <= -limit)).clamp(min=0).sum()
        widen = upper - lower
        if ranges.gradient_relative:
            widen = widen * limit * ranges.gradient_scale
        if ranges.decay > 0:
            fitting = (clamped.abs() < limit).float().mean()
            widen = widen + ranges.decay * limit * (fitting > ranges.input_min_percentage)
        return gradient, widen.reshape(limit.shape), None
