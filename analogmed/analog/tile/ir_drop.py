"""IR drop: the voltage loss along the wires of a crossbar."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.enums import AnalogMVType
from aihwkit.simulator.parameters.io import IOParameters, IOParametersIRDropT
from torch import Tensor

MatrixProduct = Callable[[Tensor, Tensor], Tensor]
"""Linear map of a row of tiles: (inputs, weight (groups, columns or 1, rows)) -> sums."""

PerColumn = Callable[[Tensor], Tensor]
"""Map from one value per column (groups, columns) to a tensor that broadcasts with the sums."""


def has_static_ir_drop(io: IOParameters) -> bool:
    """Return whether the static IR drop of aihwkit's compiled tile applies."""
    return io.ir_drop > 0 and not io.is_perfect and not isinstance(io, IOParametersIRDropT)


def is_transient(io: IOParameters) -> bool:
    """Return whether inputs are pulses in time: aihwkit's ``TorchInferenceRPUConfigIRDropT``."""
    return isinstance(io, IOParametersIRDropT) and not io.is_perfect


def static_ir_drop(
    inputs: Tensor, weight: Tensor, product: MatrixProduct, io: IOParameters
) -> Tensor:
    """Return the reduction of each sum by the resistance of the wires.

    A column with n rows loses ir_drop * c * sum_j w_j x_j (1 - (1 - j/n)^2), where c = a (0.05 a^2
    - 0.2 a + 0.5) and a = n * sum_j |w_j x_j| / ir_drop_g_ratio.

    Args:
        inputs: values that reach the crossbar, in units of the input range.
        weight: mapped weights, shape (groups, columns, rows).
        product: linear map.
        io: magnitude of the drop, and conductance of the wires.

    Source: aihwkit ``rpu_forward_backward_pass.cpp``; the torch tile has no such effect.
    """
    rows = weight.shape[2]
    current = product(inputs.abs(), weight.abs()) * (rows / io.ir_drop_g_ratio)
    share = current * (current * (0.05 * current - 0.2) + 0.5)
    row = torch.arange(rows, device=weight.device, dtype=weight.dtype)
    return io.ir_drop * share * product(inputs, weight * (1 - (1 - row / rows) ** 2))


@dataclass(frozen=True)
class PulsePhase:
    """One phase of an MVM in time.

    Attributes:
        values: signed length of the pulse on each row, in units of the full input.
        weight: weight of the phase's output in the sum over all phases.
        duration: duration of the phase, in units of the full input.
        steps: number of time steps of the phase.
    """

    values: Tensor
    weight: float
    duration: float
    steps: int

    def steps_on(self, *, plain_sum: bool) -> Tensor:
        """Return the signed number of time steps of each pulse, as the integration counts them.

        The trapezoidal rule repeats the first step, as aihwkit does.
        """
        lengths = self.values.abs()
        times = torch.linspace(0.0, self.duration, self.steps, device=lengths.device)
        count = torch.searchsorted(times.to(lengths.dtype), lengths).to(lengths.dtype)
        if not plain_sum:
            count = count + 0.5 * ((count > 0) & (count < self.steps))
        return count * self.values.sign()


def pulse_trains(inputs: Tensor, io: IOParameters) -> list[PulsePhase]:
    """Return the phases into which the DAC splits an input.

    ``ONE_PASS`` is one pulse. ``SPLIT_MODE`` sends the lower bits and then the upper ones.
    ``BIT_WISE`` sends each bit separately.

    Args:
        inputs: inputs after the DAC.
        io: parameters of the converters.
    """
    if not isinstance(io, IOParametersIRDropT):
        return [PulsePhase(inputs, 1.0, 1.0, 0)]
    step = 2 * _resolution(io)
    scale = io.ir_drop_time_step_resolution_scale
    if io.mv_type is AnalogMVType.SPLIT_MODE:
        return _split(inputs, io, step, scale)
    if io.mv_type is AnalogMVType.BIT_WISE:
        trains, left = [], inputs / step
        for bit in range(int(math.log2(2 / step + 2)) - 1):
            trains.append(PulsePhase(torch.fmod(left, 2) * step, 2.0**bit, step, 2))
            left = left.sign() * torch.floor(left.abs() / 2)
        return trains
    steps = int((io.inp_bound / _resolution(io) + 2) / 2 * scale)
    return [PulsePhase(inputs, 1.0, 1.0, steps)]


def _split(inputs: Tensor, io: IOParametersIRDropT, step: float, scale: float) -> list[PulsePhase]:
    radix = 2**io.split_mode_bit_shift
    codes = inputs / step
    upper = codes.sign() * torch.floor(codes.abs() / radix)
    bits = math.log2(io.inp_bound / _resolution(io) + 2) - io.split_mode_bit_shift - 1
    high = 2 ** int(bits)
    return [
        PulsePhase(torch.fmod(codes, radix) * step, 1.0, step * (radix - 1), int(radix * scale)),
        PulsePhase(upper * step, float(radix), step * (high - 1), int(high * scale)),
    ]


def _resolution(io: IOParameters) -> float:
    return 1 / io.inp_res if io.inp_res > 1 else io.inp_res


@dataclass(frozen=True)
class WireModel:
    """Wire model of a row of tiles, for inputs that are pulses in time.

    The voltages of aihwkit's ``AnalogMVMIRDropT`` are linear in the state of the rows, whose
    conductances are constant in time. Therefore a column's charge is a sum over rows of the
    duration of each pulse. It is computed as a matrix product, without a simulation in time.

    Attributes:
        pairs: per pair of devices of a unit cell: charge of a row that is on for one time step
            (groups, columns, rows), charge of a step without input (groups, columns), and the
            factor from charge to sum (groups, columns).
        io: parameters of the converters.
    """

    pairs: tuple[tuple[Tensor, Tensor, Tensor], ...]
    io: IOParametersIRDropT

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        weight: Tensor,
        cols: tuple[tuple[int, int], ...],
        config: TorchInferenceRPUConfig,
    ) -> "WireModel":
        """Return the wire model of a row of tiles.

        Args:
            weight: mapped weights, shape (groups, columns, rows).
            cols: [start, stop) of each column tile.
            config: configuration, a ``TorchInferenceRPUConfigIRDropT``.
        """
        io = config.forward
        assert isinstance(io, IOParametersIRDropT)
        tiles = [
            [_tile_charges(group[start:stop], config, io) for start, stop in cols]
            for group in weight
        ]
        pairs = tuple(
            tuple(
                torch.stack([torch.cat([tile[pair][part] for tile in row]) for row in tiles])
                for part in range(3)
            )
            for pair in range(len(tiles[0][0]))
        )
        return cls(pairs, io)  # type: ignore[arg-type]

    @torch.no_grad()
    def sums(self, pulses: PulsePhase, product: MatrixProduct, per_column: PerColumn) -> Tensor:
        """Return the ADC input of one phase as a sum of products; no gradient, as in aihwkit."""
        inputs = pulses.steps_on(plain_sum=self.io.ir_drop_integration_sum)
        total: Tensor | None = None
        for charge, idle, scale in self.pairs:
            charges = product(inputs, charge) + per_column(idle * pulses.steps)
            if self.io.adc_quantization:
                ticks = torch.trunc(charges / 100 * self.io.adc_frequency)
                charges = ticks * 100 / self.io.adc_frequency
            part = charges * per_column(scale)
            total = part if total is None else total + part
        assert total is not None
        return total


_READ_VOLTAGES = (0.2, 0.4)  # as in aihwkit: active row relative to idle; idle row


def _tile_charges(
    weight: Tensor, config: TorchInferenceRPUConfig, io: IOParametersIRDropT
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return the charges of a tile (columns, rows), centred in the rows; ADC sides alternate."""
    columns, rows = weight.shape
    physical = config.mapping.max_input_size or rows
    before = (physical - rows) // 2
    padded = torch.nn.functional.pad(weight, (before, physical - rows - before)).T
    conductances, parameters = config.noise_model.g_converter.convert_to_conductances(padded)
    unit = parameters["scale_ratio"] * 0.2 * io.inp_bound / _resolution(io) / 2
    found = []
    devices = zip(conductances[::2], conductances[1::2], strict=True)
    for factor, (positive, negative) in zip(parameters.get("f_lst", [1.0]), devices, strict=True):
        gain, idle = weight.new_empty(padded.shape), weight.new_empty(columns)
        gain[:, 0::2], idle[0::2] = _charges(positive[:, 0::2], negative[:, 0::2], io)
        flipped, idle[1::2] = _charges(positive.flip(0)[:, 1::2], negative.flip(0)[:, 1::2], io)
        gain[:, 1::2] = flipped.flip(0)
        scale = (factor / unit).to(idle).expand(columns)
        found.append((gain[before : before + rows].T, idle, scale))
    return found


def _charges(positive: Tensor, negative: Tensor, io: IOParametersIRDropT) -> tuple[Tensor, Tensor]:
    """Return the Thevenin equivalent of columns whose last row is the nearest to the ADC.

    Args:
        positive: conductance of each positive device in uS, shape (rows, columns).
        negative: conductance of each negative device in uS, same shape.
        io: resistance and segments of the wires, and voltage of the ADC.

    Returns:
        Current in uA of each row that is on, (rows, columns), and of idle rows, (columns,).
    """
    on, idle_volts = _READ_VOLTAGES
    segments, rows = io.ir_drop_segments, len(positive)
    wire = 1e-6 * io.ir_drop * io.ir_drop_rs * (rows // segments)  # MOhm of one segment
    signed = (positive - negative).double()
    inside = (positive + negative).double().unflatten(0, (segments, -1)).sum(1)
    total = inside + 1e-12  # aihwkit's guard against division by zero
    share = torch.zeros_like(total)  # share of each segment in the column's voltage
    resistance, share[0] = 1 / total[0], 1.0
    for segment in range(1, segments):
        above, beside = resistance + wire, 1 / total[segment]
        resistance = above * beside / (above + beside)
        share[:segment] *= resistance / above
        share[segment] = resistance / beside
    resistance = resistance + 0.5 * wire
    of_segment = share / total / resistance
    gain = on * signed.unflatten(0, (segments, -1)) * of_segment[:, None]
    idle = idle_volts * (of_segment * inside).sum(0) - io.ir_drop_v_read / resistance
    return gain.flatten(0, 1).to(positive), idle.to(positive)
