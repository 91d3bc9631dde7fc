"""Quantisation by converters: steps, bounds, and the straight-through gradient."""

from typing import Any, cast

import torch
from torch import Tensor


def step_size(resolution: float, bound: float) -> float:
    """Return a converter's step; ``resolution`` is its share of the range or the step count."""
    if resolution <= 0:
        return 0.0
    return (1 / resolution if resolution > 1 else resolution) * 2 * bound


def quantise(
    values: Tensor,
    step: float,
    stochastic: bool = False,
    generator: torch.Generator | None = None,
    *,
    bound: float = 0.0,
) -> Tensor:
    """Round to multiples of ``step`` and clamp.

    The gradient passes straight through the rounding, and stops where the bound clips.

    Args:
        values: any shape.
        step: size of a step; 0 does not round.
        stochastic: whether to round up or down at random, unbiased in the mean.
        generator: source of the random rounding; ``None`` is torch's global generator.
        bound: largest absolute result; 0 or less for no bound.
    """
    if step == 0:
        return values.clamp(-bound, bound) if bound > 0 else values
    dither = None
    if stochastic:
        dither = torch.rand(
            values.shape, generator=generator, device=values.device, dtype=values.dtype
        )
    return cast(Tensor, _Quantise.apply(values, step, bound, dither))


class _Quantise(torch.autograd.Function):
    """Quantisation with all steps on one new tensor, since memory traffic dominates its cost."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, step: float, bound: float, dither: Tensor | None
    ) -> Tensor:
        codes = values / step
        if dither is not None:
            codes += dither - 0.5
        codes.round_().mul_(step)
        if bound > 0:
            if ctx.needs_input_grad[0]:
                ctx.save_for_backward(codes.abs() <= bound)
            codes.clamp_(-bound, bound)
        return codes

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        fits = ctx.saved_tensors
        return gradient * fits[0] if fits else gradient, None, None, None
