"""What a network takes of a chip: its tiles, how full they are, time and energy of its slices."""

from analogmed.hardware.estimate import estimate
from analogmed.hardware.lookup import (
    Agreement,
    LookupTable,
    Timing,
    agreement,
    describe_machine,
    measure_networks,
    measure_operations,
    read_table,
)
from analogmed.hardware.mapping import map_tiles
from analogmed.hardware.operations import Operation, Recorded, record
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
from analogmed.hardware.tile_map import LayerTiles, RowSplit, TileMap

__all__ = [
    "PLUGIN_GROUP",
    "PROFILES",
    "Agreement",
    "Block",
    "Cost",
    "Figures",
    "LayerTiles",
    "Level",
    "LookupTable",
    "Operation",
    "Packing",
    "Placement",
    "Profile",
    "Recorded",
    "RowSplit",
    "Stage",
    "TileMap",
    "Timing",
    "agreement",
    "describe_machine",
    "estimate",
    "load_profile",
    "map_tiles",
    "measure_networks",
    "measure_operations",
    "place",
    "profile_names",
    "read_table",
    "record",
]
