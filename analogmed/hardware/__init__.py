"""What a network needs of a chip: its tiles, how full they are and how often they are used."""

from analogmed.hardware.mapping import LayerTiles, RowSplit, TileMap, map_tiles, split_even

__all__ = ["LayerTiles", "RowSplit", "TileMap", "map_tiles", "split_even"]
