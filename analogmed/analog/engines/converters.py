"""Converters of a tile in units of their steps, and the passes of compiled code over memory.

A code is a number of steps: of the DAC for inputs, of the ADC for outputs. With weights in ADC
steps per DAC step, the product of codes is in codes, and no pass is required for rescaling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from aihwkit.simulator.parameters.io import IOParameters
from torch import Tensor

from analogmed.analog.engines.layout import CHANNELS_LAST
from analogmed.analog.engines.vectors import Scaling, VectorMap
from analogmed.analog.tile.noise_stream import NoiseAddress
from analogmed.analog.tile.quantise import step_size


@dataclass(frozen=True)
class Converters:
    """Steps and bounds of a tile. A step of 0 disables rounding; codes are then plain values.

    Attributes:
        dac_step: DAC step (LSB) in units of the input range.
        adc_step: ADC step (LSB) in units of the output.
        inp_bound: largest code that reaches the crossbar; inf for none.
        out_bound: largest code of an output; inf for none.
        noise: standard deviation of the output noise, in codes.
        out_scale: digital factor of aihwkit after the ADC.
    """

    dac_step: float
    adc_step: float
    inp_bound: float
    out_bound: float
    noise: float
    out_scale: float = 1.0

    @classmethod
    def of(cls, io: IOParameters) -> "Converters":
        """Return the converters for aihwkit's parameters."""
        dac_step = step_size(io.inp_res, io.inp_bound)
        adc_step = step_size(io.out_res, io.out_bound)
        return cls(
            dac_step,
            adc_step,
            io.inp_bound / (dac_step or 1.0) if io.inp_bound > 0 else math.inf,
            io.out_bound / (adc_step or 1.0) if io.out_bound > 0 else math.inf,
            io.out_noise / (adc_step or 1.0),
            io.out_scale,
        )

    @property
    def weight_gain(self) -> float:
        """Factor from a mapped weight to ADC steps per DAC step."""
        return (self.dac_step or 1.0) / (self.adc_step or 1.0)

    @property
    def adc_lsb_normalised(self) -> float:
        """ADC step (LSB) in units of (input range x mapping scale)."""
        return (self.adc_step or 1.0) * self.out_scale

    def adc_lsb(self, limit: float) -> float:
        """Return the ADC step (LSB) in units of the mapping scale."""
        return self.adc_lsb_normalised * (1.0 if math.isinf(limit) else limit)

    def input_gain(self, limit: float) -> float:
        """Return the factor from an input to its code; ``limit`` is the input range or inf."""
        return 1.0 / ((1.0 if math.isinf(limit) else limit) * (self.dac_step or 1.0))

    def largest_code(self, limit: float) -> float:
        """Return the magnitude of the largest input's code, rounded as in the reference engine."""
        if math.isinf(limit):
            return self.inp_bound
        code = np.float32(1) / np.float32(self.dac_step or 1.0)
        return min(float(np.rint(code)) if self.dac_step > 0 else float(code), self.inp_bound)


@dataclass(frozen=True)
class OutputStage:
    """Output stage of one row of tiles, from sums to outputs.

    Attributes:
        converters: converters of the tile.
        scale: value of one code per column, in the form of ``TileOps.by_column``.
        bias: bias that is added once, in the same form.
        draw: address of the noise.
        row: number of the row of tiles. The first row overwrites the total, the others add to it.
        spread: standard deviation of the noise at each position, in codes, instead of the
            converters' value; shape (B, shares, *positions) in the layout of the sums. Each value
            applies to columns / shares adjacent columns.
        factor: factor on the result at each position, with a shape of the same kind.
    """

    converters: Converters
    scale: Tensor
    bias: Tensor
    draw: NoiseAddress
    row: int
    spread: Tensor | None = None
    factor: Tensor | None = None


@dataclass(frozen=True)
class ClippingRecord:
    """Clipping record of an output stage, for the backward pass.

    Attributes:
        fits: flags in the shape of the sums, uint8, set to 1 where the ADC's bound did not clip.
        codes: clamped codes in the shape of the sums, float32, or int8 if they are below 128.
    """

    fits: Tensor
    codes: Tensor | None = None


@dataclass(frozen=True)
class TileRowInput:
    """Part of a feature map that one row of tiles uses, and its codes.

    Attributes:
        start: first channel.
        stop: channel after the last.
        limit: input range; inf for none.
        codes: codes to be written, one position after the other, channels last in memory.
    """

    start: int
    stop: int
    limit: float
    codes: Tensor


class TileOps(Protocol):
    """Passes over memory around a product; compiled for one kind of device, in float32.

    Attributes:
        part_elements: number of elements of a layer's input or output that are computed at once;
            ``None`` for all. Small parts need less memory, but increase the time that threads wait
            for each other.
    """

    part_elements: int | None

    def layout_of(self, values: Tensor) -> torch.memory_format:
        """Return the memory format in which the direct engine computes a feature map."""

    def in_layout(self, values: Tensor, layout: torch.memory_format) -> Tensor:
        """Return the values in another memory format, with its strides.

        The result is the same tensor if it already has the format, and shares its memory if it is
        contiguous in both formats.
        """

    def by_column(self, values: Tensor) -> Tensor:
        """Return values of the columns, any shape, in the form that ``add_outputs`` accepts."""

    def to_codes(
        self, inputs: Tensor, limit: float, converters: Converters, layout: torch.memory_format
    ) -> Tensor:
        """Convert inputs by the DAC, and return a new tensor of codes in the layout.

        Args:
            inputs: any shape and strides.
            limit: input range; inf for none.
            converters: converters of the tile.
            layout: memory format of the codes.
        """

    def to_row_codes(
        self, inputs: Tensor, rows: Sequence[TileRowInput], converters: Converters
    ) -> None:
        """Convert inputs by the DAC for several rows of tiles, in one pass over the feature map.

        Args:
            inputs: shape (B, channels, *positions), channels last in memory.
            rows: channels, range and codes of each row.
            converters: converters of the tile.
        """

    def add_outputs(
        self,
        sums: Tensor,
        total: Tensor,
        readout: OutputStage,
        *,
        first: int = 0,
        record: ClippingRecord | None = None,
    ) -> int:
        """Convert the sums of a part of the batch by the ADC, and add the outputs to the total.

        Args:
            sums: sums in codes, shape (part, columns, *positions), contiguous in the layout of the
                total.
            total: outputs of the whole batch, contiguous in its layout.
            readout: noise, converter and scale.
            first: number of the part's first entry in the batch.
            record: clipping record to be written; cannot be combined with spread and factor of
                ``readout``.

        Returns:
            Number of outputs that the bound clipped, if ``record`` is given; otherwise 0.
        """


class VectorOps(TileOps, Protocol):
    """Passes for hardware that scales each input vector separately."""

    def lay_out(
        self,
        pixels: Tensor,
        vectors: VectorMap,
        scaling: Scaling,
        converters: Converters,
        first: int,
        codes: Tensor,
        sizes: Tensor,
        powers: Tensor,
    ) -> None:
        """Convert inputs by the DAC, with each input vector divided by its size.

        Args:
            pixels: shape (B, depth, height, width, channels), contiguous.
            vectors: location of the vectors in it.
            scaling: sizes of the vectors.
            converters: converters of the tile.
            first: first position, counted over all positions of all entries.
            codes: codes of the vectors to be written, shape (positions, groups, at least 16 more
                than the length of a vector), in the order of the runs; the last 16 or more may get
                any value.
            sizes: sizes of the vectors to be written, shape (positions, groups).
            powers: sums of the squared codes of the vectors to be written, same shape.
        """


def layout_of(values: Tensor) -> torch.memory_format:
    """Return the memory format of compiled layers."""
    return CHANNELS_LAST.get(values.ndim, torch.contiguous_format)
