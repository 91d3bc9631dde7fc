"""The passes over memory that gradients need, beside those of a reading."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from analogmed.analog.engines.converters import Converters, TileOps


@dataclass(frozen=True)
class Slice:
    """The channels that one row of tiles sees.

    Attributes:
        first: first channel, within each group of channels.
        last: channel after the last.
        limit: the row's input range; inf for none.
        fresh: [start, stop) of the channels whose gradient no slice has given before.
    """

    first: int
    last: int
    limit: float
    fresh: tuple[int, int]

    @property
    def width(self) -> int:
        """Channels, within each group."""
        return self.last - self.first


@dataclass(frozen=True)
class Slices:
    """The slices of several rows of tiles, side by side within each group of channels.

    Attributes:
        slices: in the order of the rows.
        groups: of channels.
        converters: the tiles'.
    """

    slices: Sequence[Slice]
    groups: int
    converters: Converters

    @property
    def channels(self) -> int:
        """Of all slices and groups."""
        return self.groups * sum(one.width for one in self.slices)


def packed_bytes(flags: int) -> int:
    """How many bytes an entry of so many flags takes in a packed mask."""
    return -(-flags // 8)


class TrainingOps(TileOps, Protocol):
    """See :class:`analogmed.analog.engines.converters.TileOps`."""

    def to_slice_codes(
        self, inputs: Tensor, batches: Sequence[Slices], layout: torch.memory_format
    ) -> list[Tensor]:
        """DAC of several rows of tiles, which reads the inputs once.

        Args:
            inputs: shape (B, channels, *positions), contiguous in the layout.
            batches: what the rows see; those of a batch side by side.
            layout: memory format of the codes.

        Returns:
            codes of each batch, shape (B, its channels, *positions).
        """

    def merge_slice_gradients(
        self,
        gradients: Sequence[Tensor],
        inputs: Tensor,
        batches: Sequence[Slices],
        total: Tensor,
        layout: torch.memory_format,
        *,
        records: bool,
    ) -> Tensor | None:
        """Bring gradients of what rows of tiles see to those of the inputs.

        A channel's gradient overwrites the total where its slice says that it is fresh, and is
        added to it elsewhere. It is 0 where an input is outside of the range, or its code is
        outside of the converter's bound.

        Args:
            gradients: of each batch, by the clamped inputs, shape (B, its channels, *positions),
                contiguous in the layout.
            inputs: shape (B, channels, *positions), contiguous in the layout.
            batches: what the rows see.
            total: like the inputs.
            layout: memory format of the gradients, the inputs and the total.
            records: whether to return sums.

        Returns:
            float64, shape (rows, 3), in the order of the batches: the sum of the gradients that ask
            for a wider range (those below 0 where an input is at or above the range, less those
            above 0 where it is at or below the negative range), the number of inputs at or beyond
            the range, and the sum of gradient times clamped input.
        """

    def pack(self, fits: Tensor, packed: Tensor) -> None:
        """Bring the flags that ``add_outputs`` notes to bits, for keeping.

        Args:
            fits: uint8, 0 or 1, shape (B, columns, *positions), contiguous in some layout.
            packed: a packed mask, to be written: uint8, shape (B, ``packed_bytes`` of an entry's
                flags). The flags of an entry follow each other as in memory, eight in a byte, the
                first one in the lowest bit. Each entry begins with a byte of its own, so that parts
                of a batch have parts of its mask.
        """

    def where_fits(self, gradient: Tensor, packed: Tensor) -> Tensor:
        """A gradient, and 0 where its flag in a packed mask is.

        Args:
            gradient: shape (B, columns, *positions), in the layout of the flags.
            packed: see ``pack``.
        """

    def sum_products(self, gradient: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """The sum of gradient times code over the batch and all positions.

        Args:
            gradient: shape (B, columns, *positions).
            codes: of each row of tiles, in the layout of the gradient; all int8 or all float32.

        Returns:
            float64, shape (rows, columns).
        """
