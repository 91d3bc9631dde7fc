"""What the tiles of one layer hold: effective weights and scales, for one read of a chip."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from analogmed.analog.tile.noise_stream import NoiseStream


@dataclass(frozen=True)
class TileRow:
    """What the crossbars of one row of tiles hold.

    Attributes:
        weight: in units of the mapping scale, shape (groups, columns, rows).
        scale: mapping scale of each column, drift compensation and learned scale included, shape
            (groups, columns).
    """

    weight: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Reading:
    """The tiles of one layer as one read of a chip finds them, and the noise of the read.

    Attributes:
        rows: the rows of tiles.
        stream: source of the output noise.
        prepared: what an engine keeps of the rows while the reading lasts.
    """

    rows: tuple[TileRow, ...]
    stream: NoiseStream
    prepared: dict[Any, Any] = field(default_factory=dict)

    @property
    def generator(self) -> torch.Generator:
        """Source of the noise that torch draws."""
        return self.stream.generator
