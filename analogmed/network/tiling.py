"""Partition of a layer's weight matrix into tiles."""

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Literal

RowSplit = Literal["even", "channels"]


@dataclass(frozen=True)
class TileGrid:
    """Partition of a layer's weight matrix into tiles.

    Attributes:
        rows: [start, stop) of each row tile, over the input features.
        cols: [start, stop) of each column tile, over the output features.
    """

    rows: tuple[tuple[int, int], ...]
    cols: tuple[tuple[int, int], ...]

    @classmethod
    def cut(
        cls,
        in_features: int,
        out_features: int,
        *,
        max_rows: int,
        max_cols: int,
        row_split: RowSplit = "even",
        channel_rows: int = 1,
    ) -> "TileGrid":
        """Cut a matrix of ``out_features`` x ``in_features`` into tiles.

        Args:
            in_features: number of crossbar rows: input channels times kernel volume.
            out_features: number of crossbar columns.
            max_rows: rows of a tile; 0 for no limit, as in aihwkit.
            max_cols: columns of a tile; 0 for no limit.
            row_split: ``"even"`` or ``"channels"``; see :func:`split_rows`.
            channel_rows: rows per input channel, the kernel volume.
        """
        rows = bounds_of(split_rows(in_features, max_rows, row_split, channel_rows))
        return cls(rows=rows, cols=even_bounds(out_features, max_cols))


def split_even(size: int, limit: int) -> tuple[int, ...]:
    """Split a size into the fewest parts that differ by at most one, larger parts first.

    Args:
        size: size to split, 1 or more.
        limit: largest part; 0 for no limit, as in aihwkit.

    Example:
        >>> split_even(10, 4), split_even(10, 0)
        ((4, 3, 3), (10,))
    """
    parts = -(-size // limit) if limit > 0 else 1
    base, larger = divmod(size, parts)
    return (base + 1,) * larger + (base,) * (parts - larger)


def even_bounds(size: int, limit: int) -> tuple[tuple[int, int], ...]:
    """Return start and stop of each part of :func:`split_even`.

    Example:
        >>> even_bounds(10, 4)
        ((0, 4), (4, 7), (7, 10))
    """
    return bounds_of(split_even(size, limit))


def split_rows(
    rows: int, limit: int, row_split: RowSplit, channel_rows: int = 1
) -> tuple[int, ...]:
    """Split the rows of a weight matrix into row tiles.

    Args:
        rows: rows of the matrix: input channels times kernel volume.
        limit: rows of a tile; 0 for no limit, as in aihwkit.
        row_split: ``"even"``, aihwkit's split into equal parts, or ``"channels"``, which keeps the
            rows of an input channel on one tile if they fit and otherwise splits evenly.
        channel_rows: rows per input channel, the kernel volume.

    Example:
        >>> [split_rows(36, limit, "channels", 9) for limit in (20, 8)]
        [(18, 18), (8, 7, 7, 7, 7)]
    """
    if row_split == "channels" and 0 < channel_rows <= limit:
        channels = split_even(rows // channel_rows, limit // channel_rows)
        return tuple(count * channel_rows for count in channels)
    return split_even(rows, limit)


def row_copies(rows: int, tile_rows: int, most: int) -> int:
    """Return how often a layer's weights are stored below each other on a tile.

    With k copies of n rows whose products are independent, a sum is k * sqrt(n) times as large as
    one product. At most sqrt(tile rows / n) copies keep it below the sum of a full tile, and so in
    the range of the converter.

    Args:
        rows: rows of the layer on one tile.
        tile_rows: rows of a tile; 0 for no limit, where no row is idle.
        most: largest number of copies, 1 or more.

    Example:
        >>> [row_copies(rows, 512, 8) for rows in (9, 27, 108, 300)]
        [7, 4, 2, 1]
    """
    return max(1, min(most, math.isqrt(tile_rows // rows)))


def bounds_of(sizes: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return start and stop of consecutive parts of these sizes.

    Example:
        >>> bounds_of((4, 3, 3))
        ((0, 4), (4, 7), (7, 10))
    """
    return tuple(pairwise(accumulate(sizes, initial=0)))
