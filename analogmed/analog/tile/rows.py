"""Snapshots of the tiles of one layer: effective weights and scales for one read of a chip."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from analogmed.analog.tile.noise_stream import NoiseStream


@dataclass(frozen=True)
class TileRow:
    """Effective weights and output scales of one row of tiles.

    Attributes:
        weight: weights in units of the mapping scale, shape (groups, columns, rows).
        scale: mapping scale of each column, including drift compensation and learned scale, shape
            (groups, columns).
    """

    weight: Tensor
    scale: Tensor


@dataclass(frozen=True)
class LayerSnapshot:
    """Snapshot of one layer: effective tile weights and noise of one read of a chip.

    Attributes:
        rows: weights and scales, one entry per row of tiles.
        stream: source of the output noise.
        prepared: engine-specific cache of preprocessed rows, valid for this snapshot only.
    """

    rows: tuple[TileRow, ...]
    stream: NoiseStream
    prepared: dict[Any, Any] = field(default_factory=dict)

    @property
    def generator(self) -> torch.Generator:
        """Source of the noise that torch samples."""
        return self.stream.generator
