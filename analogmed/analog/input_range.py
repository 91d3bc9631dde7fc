"""The gradient of a learned input range, as aihwkit defines it."""

from typing import Any, cast

import torch
from aihwkit.simulator.parameters.pre_post import InputRangeParameter
from torch import Tensor


def pass_range_gradient(clamped: Tensor, limit: Tensor, ranges: InputRangeParameter) -> Tensor:
    """Hand the clamped input on; in the backward pass, push the range outwards or let it shrink.

    A clipped input whose gradient asks for a larger value widens the range; while more than
    ``input_min_percentage`` of the inputs fit, the range decays. A convolution hands the feature
    map on, where aihwkit counts each pixel once per patch: there, gradients of opposite sign cancel
    before they are counted. Column tiles share one range, which gets the sum of their gradients.

    Args:
        clamped: the input after clamping to +-limit, any shape.
        limit: the range, a scalar.
        ranges: aihwkit's parameters of range learning.

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
