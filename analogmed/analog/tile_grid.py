"""How the weight matrix of a layer lies on tiles."""

from dataclasses import dataclass
from typing import Literal

from analogmed.even_split import bounds_of, even_bounds, split_rows

RowSplit = Literal["even", "channels"]


@dataclass(frozen=True)
class TileGrid:
    """How the weight matrix of a layer lies on tiles.

    Attributes:
        rows: [start, stop) of each row tile over the input features.
        cols: [start, stop) of each column tile over the output features.
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
            in_features: rows of the crossbar, input channels times kernel volume.
            out_features: columns of the crossbar.
            max_rows: rows of one tile; 0 for no limit, as in aihwkit.
            max_cols: columns of one tile; 0 for no limit.
            row_split: ``"even"`` or ``"channels"``; see :func:`analogmed.even_split.split_rows`.
            channel_rows: rows of one input channel, the kernel volume.
        """
        rows = bounds_of(split_rows(in_features, max_rows, row_split, channel_rows))
        return cls(rows=rows, cols=even_bounds(out_features, max_cols))
