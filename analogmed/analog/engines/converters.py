"""A tile's converters in their own units, and the passes over memory that compiled code does.

A code is a number of steps: of the DAC for inputs, of the ADC for outputs. With weights in ADC
steps per DAC step, the product of codes gives codes, and no pass is spent on rescaling.
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
from analogmed.analog.tile.noise_stream import Draw
from analogmed.analog.tile.quantise import step_size


@dataclass(frozen=True)
class Converters:
    """Steps and bounds of a tile: a step of 0 does not round, and codes are plain values then.

    Attributes:
        dac_step: in units of the input range.
        adc_step: in units of the output.
        inp_bound: largest code that reaches the crossbar; inf for none.
        out_bound: largest code of an output; inf for none.
        noise: standard deviation of the output noise, in codes.
        out_scale: aihwkit's digital factor behind the ADC.
    """

    dac_step: float
    adc_step: float
    inp_bound: float
    out_bound: float
    noise: float
    out_scale: float = 1.0

    @classmethod
    def of(cls, io: IOParameters) -> "Converters":
        """The converters that aihwkit's parameters describe."""
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
        """From a mapped weight to ADC steps per DAC step."""
        return (self.dac_step or 1.0) / (self.adc_step or 1.0)

    @property
    def output_worth(self) -> float:
        """What one code of an output is worth, in units of (input range x mapping scale)."""
        return (self.adc_step or 1.0) * self.out_scale

    def worth(self, limit: float) -> float:
        """What one code of an output is worth, in units of the mapping scale."""
        return self.output_worth * (1.0 if math.isinf(limit) else limit)

    def input_gain(self, limit: float) -> float:
        """From an input to its code; ``limit`` is the input range, inf for none."""
        return 1.0 / ((1.0 if math.isinf(limit) else limit) * (self.dac_step or 1.0))

    def largest_code(self, limit: float) -> float:
        """Size of the largest input's code, as the definition rounds it."""
        if math.isinf(limit):
            return self.inp_bound
        code = np.float32(1) / np.float32(self.dac_step or 1.0)
        return min(float(np.rint(code)) if self.dac_step > 0 else float(code), self.inp_bound)


@dataclass(frozen=True)
class Readout:
    """How the sums of one row of tiles become outputs.

    Attributes:
        converters: the tile's.
        scale: what a code of a column is worth, as ``TileOps.by_column`` gives it.
        bias: added once, in the same form.
        draw: address of the noise.
        row: number of the row of tiles. The first one overwrites the total, others add to it.
        spread: standard deviation of the noise at each position, in codes, in place of the
            converters'; shape (B, shares, *positions) in the layout of the sums, where
            columns / shares neighbouring columns have it in common.
        factor: of the result at each position; its shape is of the same kind.
    """

    converters: Converters
    scale: Tensor
    bias: Tensor
    draw: Draw
    row: int
    spread: Tensor | None = None
    factor: Tensor | None = None


@dataclass(frozen=True)
class Record:
    """What a readout notes for the backward pass.

    Attributes:
        fits: set to 1 where the ADC's bound did not clip, uint8, like the sums.
        codes: set to the clamped codes, like the sums, float32, or int8 where they are below 128.
    """

    fits: Tensor
    codes: Tensor | None = None


@dataclass(frozen=True)
class RowCodes:
    """What one row of tiles sees of a feature map.

    Attributes:
        start: first channel.
        stop: channel after the last.
        limit: the input range; inf for none.
        codes: to be written, the positions one after the other, the channels last in memory.
    """

    start: int
    stop: int
    limit: float
    codes: Tensor


class TileOps(Protocol):
    """The passes over memory around a product; compiled for one kind of device, in float32.

    Attributes:
        part_elements: how much of a layer's input or output is computed at once; ``None`` for all
            of it. Small parts need less memory, and keep more threads waiting for each other.
    """

    part_elements: int | None

    def layout_of(self, values: Tensor) -> torch.memory_format:
        """The memory format that the direct engine shall compute a feature map in."""

    def in_layout(self, values: Tensor, layout: torch.memory_format) -> Tensor:
        """Return the values in another memory format, with its strides.

        The result is the same tensor where it has the format already, and shares its memory where
        it is contiguous in both.
        """

    def by_column(self, values: Tensor) -> Tensor:
        """Values of the columns, any shape, in the form that ``add_outputs`` takes."""

    def to_codes(
        self, inputs: Tensor, limit: float, converters: Converters, layout: torch.memory_format
    ) -> Tensor:
        """DAC: a new tensor of codes in the layout.

        Args:
            inputs: any shape and strides.
            limit: the input range; inf for none.
            converters: the tile's.
            layout: memory format of the codes.
        """

    def to_row_codes(
        self, inputs: Tensor, rows: Sequence[RowCodes], converters: Converters
    ) -> None:
        """DAC for several rows of tiles, which reads the feature map once.

        Args:
            inputs: shape (B, channels, *positions), the channels last in memory.
            rows: channels, range and codes of each.
            converters: the tile's.
        """

    def add_outputs(
        self,
        sums: Tensor,
        total: Tensor,
        readout: Readout,
        *,
        first: int = 0,
        record: Record | None = None,
    ) -> int:
        """ADC: bring the sums of a part of the batch to outputs and add them to the total.

        Args:
            sums: in codes, shape (part, columns, *positions), contiguous in the total's layout.
            total: of the whole batch, contiguous in its layout.
            readout: noise, converter and scale.
            first: number of the part's first entry in the batch.
            record: what to note; not together with the readout's spread and factor.

        Returns:
            how many outputs the bound clipped, where ``record`` asks for it; else 0.
        """


class VectorOps(TileOps, Protocol):
    """The passes of hardware that scales each input vector by itself."""

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
        """DAC that divides each input vector by its own size.

        Args:
            pixels: shape (B, depth, height, width, channels), contiguous.
            vectors: where they lie in it.
            scaling: their sizes.
            converters: the tile's.
            first: position to begin with, of all positions of all entries.
            codes: of the vectors, shape (positions, groups, 16 or more than a vector has), to be
                written, in the order of the runs; the last 16 or more may get any value.
            sizes: of the vectors, shape (positions, groups), to be written.
            powers: sums of their squared codes, likewise.
        """


def layout_of(values: Tensor) -> torch.memory_format:
    """The memory format that compiled layers compute in."""
    return CHANNELS_LAST.get(values.ndim, torch.contiguous_format)
