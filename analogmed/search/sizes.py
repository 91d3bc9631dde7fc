"""How large the operations of a network are: in parameters, or in tiles."""

from typing import Literal, TypeAlias, get_args

from analogmed.errors import ConfigError, CoverageError
from analogmed.hardware import map_tiles
from analogmed.models.subnet import Subnet
from analogmed.search.unions import Operation
from analogmed.suggest import nearest

Unit: TypeAlias = Literal["parameters", "tiles"]


def operation_sizes(network: Subnet, unit: Unit, *, tile_size: int = 256) -> dict[Operation, float]:
    """Size of the block of each level, with its upsampling partner and the block that joins.

    Args:
        network: of any genotype.
        unit: ``"parameters"`` or ``"tiles"``.
        tile_size: rows and columns of a tile.

    Raises:
        ConfigError: another unit.
    """
    if unit not in get_args(Unit):
        raise ConfigError(f"size: {nearest(str(unit), get_args(Unit))}")
    levels = network.genotype.levels[: network.genotype.depth]
    sizes = {(number, level.block): 0.0 for number, level in enumerate(levels)}
    found = _parameters(network) if unit == "parameters" else _tiles(network, tile_size)
    for name, size in found.items():
        if name.startswith("levels."):
            number = int(name.split(".")[1])
            sizes[number, levels[number].block] += size
    return sizes


def _parameters(network: Subnet) -> dict[str, int]:
    return {name: parameter.numel() for name, parameter in network.named_parameters()}


def _tiles(network: Subnet, tile_size: int) -> dict[str, int]:
    """The number of tiles of a layer does not depend on the size of the images."""
    side = 2**network.genotype.depth
    in_channels = next(network.levels.parameters()).shape[1]  # levels without weights pass it on
    shape = (1, in_channels, *(side,) * network.genotype.spatial_dims)
    try:
        mapped = map_tiles(network, shape, tile_size, row_split="even")
    except CoverageError:
        return {}  # all of it is digital
    return {layer.name: layer.tiles for layer in mapped.layers}
