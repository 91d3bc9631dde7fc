"""Passes over memory for gradients, in addition to those of inference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from analogmed.analog.engines.converters import Converters, TileOps


@dataclass(frozen=True)
class ChannelSlice:
    """Channels that one row of tiles uses.

    Attributes:
        first: first channel, within each group of channels.
        last: channel after the last one.
        limit: input range of the row; inf for none.
        fresh: [start, stop) of the channels whose gradient no earlier slice has written.
    """

    first: int
    last: int
    limit: float
    fresh: tuple[int, int]

    @property
    def width(self) -> int:
        """Number of channels within each group."""
        return self.last - self.first


@dataclass(frozen=True)
class ChannelSlices:
    """Concatenated slices of several rows of tiles, within each group of channels.

    Attributes:
        slices: slices in the order of the rows.
        groups: number of groups of channels.
        converters: converters of the tiles.
    """

    slices: Sequence[ChannelSlice]
    groups: int
    converters: Converters

    @property
    def channels(self) -> int:
        """Number of channels of all slices and groups."""
        return self.groups * sum(one.width for one in self.slices)


def packed_bytes(flags: int) -> int:
    """Return the number of bytes of an entry with this number of flags in a packed mask."""
    return -(-flags // 8)


class TrainingOps(TileOps, Protocol):
    """Passes of training; see :class:`analogmed.analog.engines.converters.TileOps`."""

    def to_slice_codes(
        self, inputs: Tensor, batches: Sequence[ChannelSlices], layout: torch.memory_format
    ) -> list[Tensor]:
        """Convert inputs by the DAC for several rows of tiles, in one pass over the inputs.

        Args:
            inputs: shape (B, channels, *positions), contiguous in the layout.
            batches: slices of the rows; those of a batch are concatenated.
            layout: memory format of the codes.

        Returns:
            Codes of each batch, shape (B, its channels, *positions).
        """

    def merge_slice_gradients(
        self,
        gradients: Sequence[Tensor],
        inputs: Tensor,
        batches: Sequence[ChannelSlices],
        total: Tensor,
        layout: torch.memory_format,
        *,
        records: bool,
    ) -> Tensor | None:
        """Merge gradients of the slices of rows of tiles to gradients of the inputs.

        A channel's gradient overwrites the total where its slice is marked as fresh, and is added
        to it elsewhere. It is 0 where an input is outside the range, or its code outside the
        converter's bound.

        Args:
            gradients: gradients of each batch by the clamped inputs, shape (B, its channels,
                *positions), contiguous in the layout.
            inputs: shape (B, channels, *positions), contiguous in the layout.
            batches: slices of the rows.
            total: gradients of the inputs to be written, same shape and format as the inputs.
            layout: memory format of the gradients, the inputs and the total.
            records: whether to return sums.

        Returns:
            float64, shape (rows, 3), in the order of the batches: the sum of the gradients that
            request a wider range (those below 0 where an input is at or above the range, minus
            those above 0 where it is at or below the negative range), the number of inputs at or
            beyond the range, and the sum of gradient times clamped input.
        """

    def pack(self, fits: Tensor, packed: Tensor) -> None:
        """Pack the flags of ``add_outputs`` into bits, for storage.

        Args:
            fits: uint8, 0 or 1, shape (B, columns, *positions), contiguous in some layout.
            packed: packed mask to be written: uint8, shape (B, ``packed_bytes`` of an entry's
                flags). The flags of an entry have the order of memory, eight per byte, the first
                one in the lowest bit. Each entry starts with a new byte, so that parts of a batch
                have parts of its mask.
        """

    def where_fits(self, gradient: Tensor, packed: Tensor) -> Tensor:
        """Return a gradient, set to 0 where its flag in a packed mask is 0.

        Args:
            gradient: shape (B, columns, *positions), in the layout of the flags.
            packed: packed mask, see ``pack``.
        """

    def sum_products(self, gradient: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """Return the sum of gradient times code over the batch and all positions.

        Args:
            gradient: shape (B, columns, *positions).
            codes: codes of each row of tiles, in the layout of the gradient; all int8 or all
                float32.

        Returns:
            float64, shape (rows, columns).
        """
