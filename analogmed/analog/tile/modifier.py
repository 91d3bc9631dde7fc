"""Weight noise of hardware-aware training."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from aihwkit.simulator.parameters.enums import WeightModifierType
from aihwkit.simulator.parameters.inference import WeightModifierParameter
from torch import Tensor

from analogmed.analog.tile.copies import mean_of_copies, repeated
from analogmed.analog.tile.quantise import quantise, step_size
from analogmed.analog.tile.weight_perturbation import pass_straight


def modify(
    weight: Tensor,
    cols: tuple[tuple[int, int], ...],
    modifier: WeightModifierParameter,
    copies: int = 1,
) -> Tensor:
    """Perturb the weights of a row of tiles for one training step; gradients are unchanged.

    The kinds that aihwkit's torch tile has are computed as there, the others as in the compiled
    tile. Where the documentation of the compiled tile differs from its code, the code is followed:

    - ``DOREFA`` and ``DISCRETIZE_ADD_NORMAL`` round to multiples of ``res`` times the largest
      weight, half the documented number of steps; the torch tile's ``DISCRETIZE`` follows the
      documentation and rounds to multiples of twice that. ``DOREFA`` rounds dorefa_clip * tanh(w) /
      tanh(largest), and does not rescale the result.
    - ``POLY`` and ``PROG_NOISE`` use the polynomial of |w|. ``PROG_NOISE`` divides it by ``g_max``,
      so that its coefficients are in uS, and reflects at zero.
    - ``PCM_NOISE`` is only in the compiled GPU tile. ``std_dev`` scales its programming and read
      noise, which are the fit for 25 uS for any ``g_max``; of the drift, only the spread.
    - ``pdrop`` sets weights to zero after any other perturbation, without rescaling the others; the
      gradient of a dropped weight is unchanged.

    Args:
        weight: mapped weights, shape (groups, columns, rows).
        cols: [start, stop) of each column tile.
        modifier: kind and magnitude of the noise, as in aihwkit.
        copies: number of times that each weight is stored; each copy has noise of its own.

    Source: aihwkit ``torch_tile.py``, ``weight_modifier.cpp`` and ``weight_modifier_cuda.cu``.
    """
    if modifier.type not in _DISTURBANCES and modifier.pdrop <= 0:
        return weight
    return pass_straight(weight, disturbed(weight.detach(), cols, modifier, copies))


def disturbed(
    weight: Tensor,
    cols: tuple[tuple[int, int], ...],
    modifier: WeightModifierParameter,
    copies: int = 1,
) -> Tensor:
    """Return weights perturbed as in :func:`modify`, without a gradient."""
    disturb = _DISTURBANCES.get(modifier.type)
    values = stored = repeated(weight, copies)
    if disturb is not None:
        values = disturb(stored, _largest(weight, cols, modifier), modifier)
    if modifier.pdrop > 0:
        values = values * (torch.rand_like(values) >= modifier.pdrop)
    return mean_of_copies(values, copies)


def scaled(modifier: WeightModifierParameter, strength: float) -> WeightModifierParameter:
    """Return the modifier at a share of its magnitude; parts without a magnitude are unchanged."""
    return replace(modifier, **{name: strength * getattr(modifier, name) for name in _SIZES})


_SIZES = (
    "std_dev",
    "pdrop",
    "pcm_t_inference",
    "pcm_prob_at_reset",
    "pcm_prob_at_gmax",
    "pcm_prob_at_random",
)


def _largest(
    weight: Tensor, cols: tuple[tuple[int, int], ...], modifier: WeightModifierParameter
) -> Tensor:
    if not modifier.rel_to_actual_wmax:
        return weight.new_tensor(modifier.assumed_wmax)
    largest = torch.ones_like(weight[:, :, :1])
    for start, stop in cols:
        largest[:, start:stop] = weight[:, start:stop].abs().amax((1, 2), keepdim=True)
    return torch.where(largest > 0, largest, torch.ones_like(largest))


def _multiply(weight: Tensor, largest: Tensor, modifier: WeightModifierParameter) -> Tensor:
    return weight + modifier.std_dev * weight * torch.randn_like(weight)


def _add(weight: Tensor, largest: Tensor, modifier: WeightModifierParameter) -> Tensor:
    return weight + modifier.std_dev * largest * torch.randn_like(weight)


def _discretise(weight: Tensor, largest: Tensor, modifier: WeightModifierParameter) -> Tensor:
    step = step_size(modifier.res, 1.0)
    return quantise(weight / largest, step, modifier.sto_round) * largest


def _discretise_and_add(
    weight: Tensor, largest: Tensor, modifier: WeightModifierParameter
) -> Tensor:
    rounded = quantise(weight / largest, max(modifier.res, 0.0), modifier.sto_round) * largest
    return _add(rounded, largest, modifier)


def _dorefa(weight: Tensor, largest: Tensor, modifier: WeightModifierParameter) -> Tensor:
    if modifier.res <= 0:
        return weight
    scale = (modifier.dorefa_clip / largest.tanh()).abs()
    return quantise(weight.tanh() * scale, modifier.res, modifier.sto_round)


def _poly(weight: Tensor, largest: Tensor, modifier: WeightModifierParameter) -> Tensor:
    deviation = modifier.std_dev * largest * _polynomial(weight.abs() / largest, modifier.coeffs)
    return weight + deviation * torch.randn_like(weight)


def _prog_noise(weight: Tensor, largest: Tensor, modifier: WeightModifierParameter) -> Tensor:
    polynomial = _polynomial(weight.abs() / largest, modifier.coeffs)
    deviation = modifier.std_dev / modifier.g_max * largest * polynomial
    return _with_sign_of(weight, weight + deviation * torch.randn_like(weight))


def _polynomial(values: Tensor, coefficients: list[float]) -> Tensor:
    total = torch.zeros_like(values)
    for coefficient in reversed(coefficients):
        total = total * values + coefficient
    return total


def _with_sign_of(weight: Tensor, values: Tensor) -> Tensor:
    return torch.where(weight < 0, -values.abs(), values.abs())


_PROGRAMMING_US = [0.26348, 1.9650, -1.1731]
_READ_TIME_S = 250e-9


def _pcm_noise(weight: Tensor, largest: Tensor, modifier: WeightModifierParameter) -> Tensor:
    g_max, scale = modifier.g_max, modifier.std_dev
    target = torch.clamp(weight / largest, -1, 1) * g_max
    unprogrammed = target.abs() <= modifier.pcm_zero_thres * scale * _PROGRAMMING_US[0]
    target = target.masked_fill(unprogrammed, 0.0)
    failed = _with_failures(target, modifier)
    polynomial = _polynomial(failed.abs() / g_max, _PROGRAMMING_US)
    programmed = failed + scale * polynomial * torch.randn_like(weight)
    aged = _pcm_aged(programmed, modifier)
    return torch.where(failed == 0, 0.0, _with_sign_of(target, aged / g_max * largest))


def _with_failures(target: Tensor, modifier: WeightModifierParameter) -> Tensor:
    """Set some devices stuck at reset, some cells off by ``g_max``, and some at random values."""
    g_max = modifier.g_max

    def hit(probability: float) -> Tensor:
        return torch.rand_like(target) < probability

    if modifier.pcm_prob_at_reset > 0:
        target = target.masked_fill(hit(modifier.pcm_prob_at_reset), 0.0)
    if modifier.pcm_prob_at_gmax > 0:
        off = torch.where(hit(0.5), -g_max, g_max)
        target = torch.where(hit(modifier.pcm_prob_at_gmax), target + off, target)
    if modifier.pcm_prob_at_random > 0:
        anywhere = torch.rand_like(target) * g_max
        anywhere = torch.where(target > 0, anywhere, -anywhere)
        target = torch.where(hit(modifier.pcm_prob_at_random), anywhere, target)
    return target.clamp(-g_max, g_max)


def _pcm_aged(programmed: Tensor, modifier: WeightModifierParameter) -> Tensor:
    """Apply the spread of the drift without its mean, which is compensated, and 1/f noise."""
    relative = programmed.abs() / modifier.g_max
    time_s = modifier.pcm_t_inference + modifier.pcm_t0
    drifted = programmed
    if modifier.pcm_t_inference > 0:
        spread = (-0.0125 * relative.clamp(min=1e-6).log() - 0.0059).clamp(0.008, 0.045)
        exponent = (spread * torch.randn_like(programmed)).abs()
        drifted = programmed * (time_s / modifier.pcm_t0) ** -exponent
    if time_s <= 0:
        return drifted
    relative_noise = (0.0088 / relative.pow(0.65).clamp(min=1e-3)).clamp(max=0.2)
    relative_noise = relative_noise * math.sqrt(
        math.log((time_s + _READ_TIME_S) / (2 * _READ_TIME_S))
    )
    noise = modifier.std_dev * relative_noise * torch.randn_like(programmed)
    return drifted + drifted.abs() * noise


_DISTURBANCES: dict[
    WeightModifierType, Callable[[Tensor, Tensor, WeightModifierParameter], Tensor]
] = {
    WeightModifierType.MULT_NORMAL: _multiply,
    WeightModifierType.ADD_NORMAL: _add,
    WeightModifierType.DISCRETIZE: _discretise,
    WeightModifierType.DISCRETIZE_ADD_NORMAL: _discretise_and_add,
    WeightModifierType.DOREFA: _dorefa,
    WeightModifierType.POLY: _poly,
    WeightModifierType.PROG_NOISE: _prog_noise,
    WeightModifierType.PCM_NOISE: _pcm_noise,
}
