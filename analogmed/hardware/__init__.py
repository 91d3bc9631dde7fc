"""Mapping of a network onto tiles, and estimates of utilisation, latency and energy."""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.hardware.estimation import estimate as estimate
    from analogmed.hardware.lookup import Agreement as Agreement
    from analogmed.hardware.lookup import LookupTable as LookupTable
    from analogmed.hardware.lookup import Timing as Timing
    from analogmed.hardware.lookup import agreement as agreement
    from analogmed.hardware.lookup import describe_machine as describe_machine
    from analogmed.hardware.lookup import measure_networks as measure_networks
    from analogmed.hardware.lookup import measure_operations as measure_operations
    from analogmed.hardware.lookup import read_table as read_table
    from analogmed.hardware.mapping import map_tiles as map_tiles
    from analogmed.hardware.operations import Operation as Operation
    from analogmed.hardware.operations import Recorded as Recorded
    from analogmed.hardware.operations import record as record
    from analogmed.hardware.pipeline import Cost as Cost
    from analogmed.hardware.pipeline import Stage as Stage
    from analogmed.hardware.placement import Block as Block
    from analogmed.hardware.placement import Packing as Packing
    from analogmed.hardware.placement import Placement as Placement
    from analogmed.hardware.placement import place as place
    from analogmed.hardware.profiles import PLUGIN_GROUP as PLUGIN_GROUP
    from analogmed.hardware.profiles import PROFILES as PROFILES
    from analogmed.hardware.profiles import Figures as Figures
    from analogmed.hardware.profiles import Level as Level
    from analogmed.hardware.profiles import Profile as Profile
    from analogmed.hardware.profiles import load_profile as load_profile
    from analogmed.hardware.profiles import profile_names as profile_names
    from analogmed.hardware.tile_map import LayerTiles as LayerTiles
    from analogmed.hardware.tile_map import RowSplit as RowSplit
    from analogmed.hardware.tile_map import TileMap as TileMap

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Agreement": "lookup",
        "Block": "placement",
        "Cost": "pipeline",
        "Figures": "profiles",
        "LayerTiles": "tile_map",
        "Level": "profiles",
        "LookupTable": "lookup",
        "Operation": "operations",
        "PLUGIN_GROUP": "profiles",
        "PROFILES": "profiles",
        "Packing": "placement",
        "Placement": "placement",
        "Profile": "profiles",
        "Recorded": "operations",
        "RowSplit": "tile_map",
        "Stage": "pipeline",
        "TileMap": "tile_map",
        "Timing": "lookup",
        "agreement": "lookup",
        "describe_machine": "lookup",
        "estimate": "estimation",
        "load_profile": "profiles",
        "map_tiles": "mapping",
        "measure_networks": "lookup",
        "measure_operations": "lookup",
        "place": "placement",
        "profile_names": "profiles",
        "read_table": "lookup",
        "record": "operations",
    },
)
