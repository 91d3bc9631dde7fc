"""Replication of slow layers, which shortens the initiation interval."""

import math
from bisect import bisect_left
from collections.abc import Mapping

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one


def replicate(
    times_s: Mapping[str, float],
    tiles: Mapping[str, int],
    vectors: Mapping[str, int],
    tile_budget: int,
) -> dict[str, int]:
    """Return the replicas per layer that minimise the time of the slowest layer within a budget.

    With ``ceil(t / II)`` replicas, a layer takes at most II. The smallest feasible II is found by
    binary search over all times that a layer can reach.

    Args:
        times_s: time of each layer with one replica, in s.
        tiles: number of tiles of one replica of each layer.
        vectors: number of MVMs in the largest call of each layer, which is the largest useful
            number of replicas.
        tile_budget: total number of tiles.

    Returns:
        number of replicas of each layer, 1 or more.

    Raises:
        ConfigError: the budget is not a positive integer, or too small for one replica each.
    """
    needed = sum(tiles.values())
    require_at_least_one("tile_budget", tile_budget)
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
