"""How the weight matrix of a layer lies on tiles."""

from dataclasses import dataclass
from typing import Literal

from analogmed.even_split import even_bounds

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
            row_split: ``"even"``, aihwkit's split into equal parts, or ``"channels"``, which keeps
                the rows of one input channel on one tile.
            channel_rows: rows of one input channel, the kernel volume.
        """
        if row_split == "channels" and 0 < channel_rows <= max_rows:
            channels = even_bounds(in_features // channel_rows, max_rows // channel_rows)
            rows = tuple((a * channel_rows, b * channel_rows) for a, b in channels)
        else:
            rows = even_bounds(in_features, max_rows)
        return cls(rows=rows, cols=even_bounds(out_features, max_cols))
