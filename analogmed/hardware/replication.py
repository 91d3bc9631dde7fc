"""Which layers to have several times, so that slices follow each other faster."""

import math
from bisect import bisect_left
from collections.abc import Mapping

from analogmed.foundation.errors import ConfigError


def replicate(
    times_s: Mapping[str, float],
    tiles: Mapping[str, int],
    vectors: Mapping[str, int],
    tile_budget: int,
) -> dict[str, int]:
    """Replicas of each layer that make the slowest layer as fast as a tile budget allows.

    With ``ceil(t / II)`` replicas a layer takes no longer than II. The smallest II whose replicas
    fit into the budget is found by binary search over all times that a layer can be brought to.

    Args:
        times_s: time of each layer with one replica.
        tiles: of one replica of each layer.
        vectors: products of each layer; more replicas than that do nothing.
        tile_budget: tiles in all.

    Returns:
        replicas of each layer, 1 or more.

    Raises:
        ConfigError: the budget is not a whole number above 0, or too small for one replica each.
    """
    needed = sum(tiles.values())
    if type(tile_budget) is not int or tile_budget < 1:
        raise ConfigError(
            f"tile_budget: expected a whole number of tiles, 1 or more, found {tile_budget!r}"
        )
    if tile_budget < needed:
        raise ConfigError(
            f"tile_budget: the network takes {needed} tiles, which {tile_budget} cannot hold; "
            "raise the budget, pack small layers on one tile (without a budget), or keep layers "
            "digital"
        )

    def at(interval_s: float) -> dict[str, int]:
        return {
            name: min(max(1, math.ceil(time_s / interval_s - 1e-9)), vectors[name])
            for name, time_s in times_s.items()
        }

    def fits(interval_s: float) -> bool:
        return sum(tiles[name] * count for name, count in at(interval_s).items()) <= tile_budget

    reachable = sorted(
        {
            time_s / count
            for name, time_s in times_s.items()
            for count in range(1, min(tile_budget // tiles[name], vectors[name]) + 1)
        }
    )
    best = bisect_left(reachable, True, key=fits)
    return at(reachable[best])
