"""What a network takes of a chip: its tiles, how full they are, time and energy of its slices."""

from analogmed.hardware.estimate import estimate
from analogmed.hardware.mapping import LayerTiles, RowSplit, TileMap, map_tiles, split_even
from analogmed.hardware.pipeline import Cost, Stage
from analogmed.hardware.placement import Block, Packing, Placement, place
from analogmed.hardware.profiles import (
    PLUGIN_GROUP,
    PROFILES,
    Figures,
    Level,
    Profile,
    load_profile,
    profile_names,
)

__all__ = [
    "PLUGIN_GROUP",
    "PROFILES",
    "Block",
    "Cost",
    "Figures",
    "LayerTiles",
    "Level",
    "Packing",
    "Placement",
    "Profile",
    "RowSplit",
    "Stage",
    "TileMap",
    "estimate",
    "load_profile",
    "map_tiles",
    "place",
    "profile_names",
    "split_even",
]
