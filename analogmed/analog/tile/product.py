"""Reference model of one crossbar tile: converters, matrix product and noise.

The functions follow aihwkit's ``AnalogMVM`` (torch tile) step by step, and its compiled tile for
effects that the torch tile lacks. The column tiles of one row share the converted input, so that
they also share its noise. Any faster engine must return the same values.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from aihwkit.simulator.parameters.enums import NoiseManagementType, WeightNoiseType
from aihwkit.simulator.parameters.io import IOParameters
from torch import Tensor

from analogmed.analog.tile.ir_drop import (
    MatrixProduct,
    PerColumn,
    PulsePhase,
    WireModel,
    has_static_ir_drop,
    is_transient,
    pulse_trains,
    static_ir_drop,
)
from analogmed.analog.tile.quantise import quantise, step_size


@dataclass(frozen=True)
class Crossbar:
    """Crossbar properties that IR drop and weight noise require.

    Attributes:
        weight: mapped weights, shape (groups, columns, rows).
        product: linear map for any weights.
        per_column: function that arranges one value per column to broadcast with the sums.
        wires: resistance of the wires, where inputs are pulses in time; otherwise ``None``.
    """

    weight: Tensor
    product: MatrixProduct
    per_column: PerColumn
    wires: WireModel | None = None


def read_tile(
    inputs: Tensor,
    product: Callable[[Tensor], Tensor],
    io: IOParameters,
    *,
    vector_dim: int | None = None,
    generator: torch.Generator | None = None,
    crossbar: Crossbar | None = None,
) -> Tensor:
    """Return one analog matrix product: DAC, multiplication, noise, ADC.

    Args:
        inputs: inputs in units of the input range, any shape.
        product: linear map that the crossbar applies to the converted inputs; its result is a new
            tensor.
        io: parameters of converters, bounds and noise.
        vector_dim: dimension of ``inputs`` that runs over a tile's rows. Noise management requires
            it; ``product`` must then keep the other dimensions in place.
        generator: source of the noise; ``None`` is torch's global generator.
        crossbar: properties that IR drop and weight noise require; without them, the crossbar
            multiplies exactly.

    Returns:
        Outputs in units of (input range x mapping scale).
    """
    if io.is_perfect:
        return product(inputs)
    gain = _managed_gain(inputs, io, vector_dim)
    scaled = inputs if gain is None else inputs * gain
    outputs: Tensor | None = None
    for pulses in pulse_trains(dac(scaled, io, generator), io):
        part = adc(_sums(pulses, product, io, crossbar, generator), io, generator)
        part = part if pulses.weight == 1 else part * pulses.weight
        outputs = part if outputs is None else outputs + part
    assert outputs is not None
    if io.out_scale != 1:
        outputs = outputs * io.out_scale
    if gain is None:
        return outputs
    outputs = outputs / gain
    silent = _silent_vectors(inputs, io, vector_dim)
    return outputs if silent is None else torch.where(silent, outputs - outputs.detach(), outputs)


def dac(inputs: Tensor, io: IOParameters, generator: torch.Generator | None = None) -> Tensor:
    """Convert inputs in units of the input range to the values that reach the crossbar."""
    step = step_size(io.inp_res, io.inp_bound)
    converted = quantise(inputs, step, io.inp_sto_round, generator, bound=io.inp_bound)
    if io.inp_noise > 0:
        converted = converted + io.inp_noise * _normal_like(converted, generator)
    return _shrink_negative(converted, io.inp_asymmetry)


def _sums(
    pulses: PulsePhase,
    product: Callable[[Tensor], Tensor],
    io: IOParameters,
    crossbar: Crossbar | None,
    generator: torch.Generator | None,
) -> Tensor:
    if crossbar is None:
        return product(pulses.values)
    if crossbar.wires is not None:
        return crossbar.wires.sums(pulses, crossbar.product, crossbar.per_column)
    sums = product(pulses.values)
    if has_static_ir_drop(io):
        sums = sums - static_ir_drop(pulses.values, crossbar.weight, crossbar.product, io)
    if has_weight_noise(io):
        deviation = weight_noise_std(pulses.values, crossbar.weight, crossbar.product, io)
        sums = sums + deviation * _normal_like(sums, generator)
    return sums


@torch.no_grad()
def weight_noise_std(
    inputs: Tensor, weight: Tensor, product: MatrixProduct, io: IOParameters
) -> Tensor:
    """Return the standard deviation of the sums due to weight noise that is resampled per MVM.

    ``ADDITIVE_CONSTANT``: w_noise * sqrt(sum_j x_j^2), the same for all columns. ``PCM_READ``:
    w_noise * sqrt(sum_j |w_ij| x_j^2). The noise is independent for each input vector and each
    column. It has no gradient.

    Args:
        inputs: values that reach the crossbar, in units of the input range.
        weight: mapped weights, shape (groups, columns, rows).
        product: linear map.
        io: kind and magnitude of the noise.

    Returns:
        Standard deviation in units of the sums; may have a single column that applies to all.

    Source: aihwkit ``rpu_forward_backward_pass.cpp``; the torch tile has no such noise.
    """
    if io.w_noise_type is WeightNoiseType.PCM_READ:
        power = weight.abs()
    else:
        power = torch.ones_like(weight[:, :1])
    return product(inputs.square(), power).clamp(min=0).sqrt().mul(io.w_noise)


def has_weight_noise(io: IOParameters) -> bool:
    """Return whether the weights have noise that is resampled in each MVM."""
    return not io.is_perfect and io.w_noise > 0 and io.w_noise_type is not WeightNoiseType.NONE


def adc(outputs: Tensor, io: IOParameters, generator: torch.Generator | None = None) -> Tensor:
    """Convert the outputs of the crossbar: saturation, noise, quantisation, bound.

    ``outputs`` is overwritten.
    """
    outputs = _shrink_negative(_saturate(outputs, io), io.out_asymmetry)
    if io.out_noise > 0:
        outputs = outputs.add_(_normal_like(outputs, generator), alpha=io.out_noise)
    step = step_size(io.out_res, io.out_bound)
    return quantise(outputs, step, io.out_sto_round, generator, bound=io.out_bound)


def sees_vectors(io: IOParameters) -> bool:
    """Return whether the DAC treats each input vector separately, by scale or by noise samples."""
    if io.is_perfect:
        return False
    managed = io.noise_management is not NoiseManagementType.NONE
    return managed or io.inp_noise > 0 or (io.inp_sto_round and io.inp_res > 0)


def disturbs_sums(io: IOParameters) -> bool:
    """Return whether the sum of a column is inexact before the ADC adds its noise.

    An engine without weight noise, IR drop and saturation must not compute such tiles.
    """
    if io.is_perfect:
        return False
    dropped = has_static_ir_drop(io) or is_transient(io)
    return dropped or has_weight_noise(io) or io.out_nonlinearity > 0


def _managed_gain(inputs: Tensor, io: IOParameters, vector_dim: int | None) -> Tensor | None:
    """Return a factor, as aihwkit does; a division would round values half-way between codes."""
    kind = io.noise_management
    if kind is NoiseManagementType.NONE:
        return None
    if kind is NoiseManagementType.CONSTANT:
        return 1 / inputs.new_tensor(io.nm_thres if io.nm_thres > 0 else 1.0)
    if vector_dim is None:
        raise ValueError("noise management scales each input vector: give its dimension")
    largest = inputs.amax(vector_dim, keepdim=True)
    if kind is not NoiseManagementType.MAX:
        largest = torch.maximum(largest, -inputs.amin(vector_dim, keepdim=True))
    if io.nm_thres > 0:
        largest = largest.clamp(max=io.nm_thres)
    if kind is NoiseManagementType.ABS_MAX_NP_SUM:
        largest = torch.maximum(largest, _worst_sum(inputs, largest, io, vector_dim))
    return 1 / torch.where(largest > 0, largest, torch.ones_like(largest))


def _silent_vectors(inputs: Tensor, io: IOParameters, vector_dim: int | None) -> Tensor | None:
    """Return the mask of all-zero input vectors without noise, whose outputs are exactly 0.

    aihwkit's compiled tile skips the crossbar for such a vector. Its torch tile uses it, with the
    noise of an input of size 1, unless the whole batch is zero. Gradients pass as for any other
    vector.
    """
    if io.noise_management is NoiseManagementType.CONSTANT or io.inp_noise > 0:
        return None
    assert vector_dim is not None
    return (inputs == 0).all(vector_dim, keepdim=True)


def _worst_sum(inputs: Tensor, largest: Tensor, io: IOParameters, vector_dim: int) -> Tensor:
    """Return the largest sum that weights of typical size can reach, in units of the ADC's bound.

    The typical size, 0.6, is defined only in aihwkit's compiled code.
    """
    positive = inputs.clamp(min=0).sum(vector_dim, keepdim=True)
    negative = inputs.clamp(max=0).sum(vector_dim, keepdim=True)
    bound = io.out_bound if 0 < io.out_bound < math.inf else 1.0
    worst = torch.maximum(positive, -negative) * (0.6 / bound)
    step = step_size(io.inp_res, io.inp_bound)
    return torch.minimum(worst, largest * (io.max_bm_res / step)) if step > 0 else worst


def _saturate(outputs: Tensor, io: IOParameters) -> Tensor:
    if io.out_nonlinearity <= 0:
        return outputs
    bound = io.out_bound if 0 < io.out_bound < math.inf else 1.0
    slope = (1 + io.out_nonlinearity * max(io.slope_calibration, 0.0)) ** 2
    return slope * outputs / (1 + (io.out_nonlinearity / bound) * outputs.abs())


def _normal_like(values: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(values.shape, generator=generator, device=values.device, dtype=values.dtype)


def _shrink_negative(values: Tensor, asymmetry: float) -> Tensor:
    if asymmetry == 0:
        return values
    return torch.where(values < 0, values * (1 - asymmetry), values)
