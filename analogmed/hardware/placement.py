"""Placement of layer parts on tiles: one part per tile, or several small parts packed together."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import pandas as pd

from analogmed.foundation.settings.checks import require_choice
from analogmed.hardware.tile_map import TileMap
from analogmed.tables.hardware import TILES

Packing = Literal["none", "first_fit"]


@dataclass(frozen=True)
class Block:
    """A rectangle of a tile that stores a part of a layer's matrix.

    Attributes:
        layer: name of the layer.
        tile: number of the tile, from 0.
        row: first row on the tile.
        col: first column on the tile.
        rows: number of rows.
        cols: number of columns.
    """

    layer: str
    tile: int
    row: int
    col: int
    rows: int
    cols: int


@dataclass(frozen=True)
class Placement:
    """The blocks of all layers on tiles.

    Attributes:
        blocks: blocks in the network's order.
        tile_size: rows and columns of a tile.
        packing: packing method.
    """

    blocks: tuple[Block, ...]
    tile_size: tuple[int, int]
    packing: Packing

    @property
    def tiles(self) -> int:
        """Number of used tiles."""
        return len({block.tile for block in self.blocks})

    @property
    def utilisation(self) -> float:
        """Share of the cells of the used tiles that store a weight (the mean ``per_tile``)."""
        cells = sum(block.rows * block.cols for block in self.blocks)
        return cells / (self.tiles * math.prod(self.tile_size))

    @property
    def shared_tiles(self) -> int:
        """Number of tiles that store parts of two or more layers."""
        owners: dict[int, set[str]] = {}
        for block in self.blocks:
            owners.setdefault(block.tile, set()).add(block.layer)
        return sum(len(layers) > 1 for layers in owners.values())

    def table(self) -> pd.DataFrame:
        """Return one row per block.

        Returns:
            columns ``layer``, ``tile``, ``row``, ``col``, ``rows``, ``cols``, ``tile_rows``,
            ``tile_cols``.
        """
        table = TILES.frame([vars(block) for block in self.blocks])
        return table.assign(tile_rows=self.tile_size[0], tile_cols=self.tile_size[1])


def place(tiles: TileMap, packing: Packing = "none") -> Placement:
    """Assign every part of every layer to a tile.

    Args:
        tiles: network on tiles.
        packing: ``"none"`` assigns each part to a separate tile. ``"first_fit"`` packs several
            parts per tile. Parts, highest first, are placed next to each other on shelves. Each is
            placed on the first shelf with enough room, else on a new shelf of the first tile with
            enough room, else on a new tile (first-fit decreasing height). Parts on one tile run in
            turn: rows of the other parts receive zeros, and their columns are not read. Packing
            therefore saves tiles and can increase the time. Parts of one matrix, which run
            simultaneously, never share a tile; the matrices of a grouped layer may.

    Raises:
        ConfigError: ``packing`` is unknown.

    Source: Coffman, Garey, Johnson, Tarjan 1980, doi:10.1137/0209062 (shelf packing).
    """
    packing = require_choice("packing", packing, get_args(Packing))
    parts = list(parts_of(tiles))
    if packing == "none":
        blocks = [
            Block(part.layer, tile, 0, 0, part.rows, part.cols) for tile, part in enumerate(parts)
        ]
    else:
        blocks = _first_fit(parts, tiles.tile_size)
    return Placement(tuple(blocks), tiles.tile_size, packing)


@dataclass(frozen=True)
class Part:
    """A part of a layer's matrix that occupies a tile or a rectangle of a tile.

    Attributes:
        layer: name of the layer.
        group: number of the matrix of a grouped layer.
        rows: number of rows, those of copies included.
        cols: number of columns.
    """

    layer: str
    group: int
    rows: int
    cols: int


def parts_of(tiles: TileMap) -> Iterator[Part]:
    """Yield the parts of all layers, in the network's order."""
    for layer in tiles.layers:
        for group in range(layer.groups):
            for rows in layer.row_sizes:
                for cols in layer.col_sizes:
                    yield Part(layer.name, group, layer.copies * rows, cols)


@dataclass
class _Shelf:
    tile: int
    row: int
    next_col: int = 0


def _first_fit(parts: list[Part], tile_size: tuple[int, int]) -> list[Block]:
    tile_rows, tile_cols = tile_size
    placed: dict[int, Block] = {}
    shelves: list[_Shelf] = []
    used_rows: list[int] = []  # of each tile, over its shelves
    matrices: list[set[tuple[str, int]]] = []  # on each tile
    by_height = sorted(range(len(parts)), key=lambda i: (-parts[i].rows, -parts[i].cols, i))
    for index in by_height:
        part, matrix = parts[index], (parts[index].layer, parts[index].group)
        on_shelves = (
            shelf
            for shelf in shelves
            if shelf.next_col + part.cols <= tile_cols and matrix not in matrices[shelf.tile]
        )
        shelf = next(on_shelves, None)
        if shelf is None:
            with_room = (
                tile
                for tile, used in enumerate(used_rows)
                if used + part.rows <= tile_rows and matrix not in matrices[tile]
            )
            tile = next(with_room, len(used_rows))
            if tile == len(used_rows):
                used_rows.append(0)
                matrices.append(set())
            shelf = _Shelf(tile, used_rows[tile])
            used_rows[tile] += part.rows
            shelves.append(shelf)
        placed[index] = Block(
            part.layer, shelf.tile, shelf.row, shelf.next_col, part.rows, part.cols
        )
        matrices[shelf.tile].add(matrix)
        shelf.next_col += part.cols
    return [placed[index] for index in range(len(parts))]
