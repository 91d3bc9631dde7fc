"""Latency and energy estimates of the layers of a network on the tiles of a profile."""

import math
from collections import Counter
from collections.abc import Mapping

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.hardware.pipeline import NUMBER_BYTES, Cost, Stage
from analogmed.hardware.placement import Placement, parts_of, place
from analogmed.hardware.profiles import Level, Profile
from analogmed.hardware.replication import replicate
from analogmed.hardware.schedule import smallest_interval
from analogmed.hardware.tile_map import LayerTiles, TileMap


@checks_arguments
def estimate(
    mapped: TileMap,
    profile: Profile,
    level: Level = "mvm_only",
    *,
    tile_budget: int | None = None,
    placement: Placement | None = None,
) -> Cost:
    """Estimate latency and energy of a network on tiles.

    At level ``mvm_only``, the time of a layer is
    ``vectors / replicas * max(t_mvm, bytes / bandwidth, t_digital)``, with the terms that the
    profile defines. At level ``measured_layer``, it is the measured time.

    Args:
        mapped: network on tiles of the profile's size.
        profile: tile type.
        level: accounting level, ``mvm_only`` or ``measured_layer``.
        tile_budget: total number of tiles; slow layers are replicated to fill it. Without a budget,
            each layer exists once. Replicas share the MVMs of one call. Calls run in sequence, so
            that a layer with one MVM per call, as in a recurrence, is not replicated.
        placement: placement of ``mapped``; one part per tile by default. Packed layers cannot be
            replicated.

    Raises:
        ConfigError: the tile size differs from that of the profile; the level is unknown or missing
            in this profile; the placement belongs to another network; the budget is not a positive
            integer, is too small for the network, or is combined with packing.
    """
    if mapped.tile_size != profile.tile_size:
        raise ConfigError(
            f"profile '{profile.name}' is for tiles of {_size(profile.tile_size)}, but the network "
            f"lies on tiles of {_size(mapped.tile_size)}; map it on the profile's, or write a "
            "profile of your own as YAML"
        )
    placement = placement or place(mapped)
    _check_placement(placement, mapped)
    if tile_budget is not None and placement.packing != "none":
        raise ConfigError("tile_budget replicates whole layers and packing shares tiles: choose")
    times_s = _call_times(mapped, profile, level, placement)
    replicas = dict.fromkeys((layer.name for layer in mapped.layers), 1)
    if tile_budget is not None:
        replicas = _replicas(mapped, times_s, tile_budget)
    stages = _stages(mapped, profile, level, times_s, replicas)
    tiles = sum(replicas[layer.name] * layer.tiles for layer in mapped.layers)
    return Cost(
        profile=profile,
        level=level,
        stages=stages,
        tiles=tiles if placement.packing == "none" else placement.tiles,
        interval_s=smallest_interval(
            [(stage.start_s, stage.time_s) for stage in stages],
            _resources(mapped, placement),
        ),
        macs=sum(layer.macs for layer in mapped.layers),
        mapped=mapped,
        placement=placement,
    )


def _size(tile_size: tuple[int, int]) -> str:
    return f"{tile_size[0]} x {tile_size[1]}"


def _check_placement(placement: Placement, mapped: TileMap) -> None:
    placed = {block.layer for block in placement.blocks}
    different = placed ^ {layer.name for layer in mapped.layers}
    if different or placement.tile_size != mapped.tile_size:
        raise ConfigError(
            f"placement: expected that of this network's {len(mapped.layers)} layers on tiles of "
            f"{_size(mapped.tile_size)}, found {len(placed)} layers on tiles of "
            f"{_size(placement.tile_size)}"
            + (f"; only one of the two has '{min(different)}'" if different else "")
            + "; make it with place(mapped)"
        )
    expected = Counter((part.layer, part.rows, part.cols) for part in parts_of(mapped))
    found = Counter((block.layer, block.rows, block.cols) for block in placement.blocks)
    if expected != found:
        layer, rows, cols = min((expected - found) or (found - expected))
        raise ConfigError(
            f"placement: the matrices differ from this network's; layer '{layer}' has "
            f"{found[layer, rows, cols]} blocks of {rows} x {cols} cells, expected "
            f"{expected[layer, rows, cols]}; make it with place(mapped)"
        )


def _product(layer: LayerTiles, profile: Profile, level: Level) -> tuple[float, str]:
    """Return the time of one MVM in ns, and the component that limits it."""
    if level != "mvm_only":
        return profile.figures(level).time_ns, "measured"
    terms = {
        "mvm": profile.figures(level).time_ns,
        "io": _bytes(layer) / (profile.io_gb_per_s or math.inf),  # B / (GB/s) is ns
        "digital": profile.digital_ns or 0.0,
    }
    slowest = max(terms, key=lambda term: terms[term])
    return terms[slowest], slowest


def _bytes(layer: LayerTiles) -> int:
    """Return the input and output bytes of the layer's fullest tile for one MVM."""
    return (max(layer.row_sizes) + max(layer.col_sizes)) * NUMBER_BYTES


def _all_bytes(layer: LayerTiles) -> int:
    """Return the input and output bytes of all tiles of the layer for one MVM."""
    rows = sum(layer.row_sizes) * len(layer.col_sizes)
    cols = sum(layer.col_sizes) * len(layer.row_sizes)
    return layer.groups * (rows + cols) * NUMBER_BYTES


def _call_times(
    mapped: TileMap, profile: Profile, level: Level, placement: Placement
) -> list[float]:
    """Return the time of each call in s, with one replica."""
    turns = _turns(placement)
    layers = {layer.name: layer for layer in mapped.layers}
    times_s = []
    for call in mapped.calls:
        if layer := layers.get(call.layer):
            time_ns = _product(layer, profile, level)[0] * turns[call.layer]
            times_s.append(1e-9 * call.vectors * time_ns)
        elif profile.digital_gmac_per_s is None:
            times_s.append(0.0)
        else:
            times_s.append(1e-9 * call.macs / profile.digital_gmac_per_s)
    return times_s


def _turns(placement: Placement) -> dict[str, int]:
    """Return the largest number of blocks of a layer that share one tile and run in turn."""
    counts: dict[tuple[str, int], int] = {}
    for block in placement.blocks:
        counts[block.layer, block.tile] = counts.get((block.layer, block.tile), 0) + 1
    turns: dict[str, int] = {}
    for (layer, _), count in counts.items():
        turns[layer] = max(turns.get(layer, 0), count)
    return turns


def _replicas(mapped: TileMap, times_s: list[float], tile_budget: int) -> dict[str, int]:
    totals: dict[str, float] = {}
    largest: dict[str, int] = {}  # calls run in sequence: only the MVMs of one call are shared
    for call, time_s in zip(mapped.calls, times_s, strict=True):
        totals[call.layer] = totals.get(call.layer, 0.0) + time_s
        largest[call.layer] = max(largest.get(call.layer, 0), call.vectors)
    return replicate(
        {layer.name: totals[layer.name] for layer in mapped.layers},
        {layer.name: layer.tiles for layer in mapped.layers},
        {layer.name: largest[layer.name] for layer in mapped.layers},
        tile_budget,
    )


def _stages(
    mapped: TileMap,
    profile: Profile,
    level: Level,
    times_s: list[float],
    replicas: Mapping[str, int],
) -> tuple[Stage, ...]:
    layers = {layer.name: layer for layer in mapped.layers}
    stages, start_s = [], 0.0
    for call, time_s in zip(mapped.calls, times_s, strict=True):
        if layer := layers.get(call.layer):
            stage = Stage(
                layer=call.layer,
                start_s=start_s,
                time_s=time_s / min(replicas[call.layer], max(1, call.vectors)),
                energy_j=call.vectors * _product_j(layer, profile, level),
                tiles=layer.tiles * replicas[call.layer],
                replicas=replicas[call.layer],
                bound_by=_product(layer, profile, level)[1],
            )
        else:
            known = profile.digital_gmac_per_s is not None
            energy_j = 1e-12 * call.macs * (profile.digital_pj_per_mac or 0.0)
            bound_by = "processor" if known else "unknown"
            stage = Stage(call.layer, start_s, time_s, energy_j, 0, 1, bound_by)
        stages.append(stage)
        start_s += stage.time_s
    return tuple(stages)


def _product_j(layer: LayerTiles, profile: Profile, level: Level) -> float:
    """Return the energy of one MVM over all tiles of a layer, in J."""
    energy_nj = layer.tiles * profile.figures(level).energy_nj
    if level == "mvm_only":
        energy_nj += layer.tiles * (profile.digital_nj or 0.0)
        energy_nj += 1e-3 * _all_bytes(layer) * (profile.io_pj_per_byte or 0.0)
    return 1e-9 * energy_nj


def _resources(mapped: TileMap, placement: Placement) -> list[frozenset[int]]:
    """Return the exclusive resources of each call: its tiles, or the digital processor (-1)."""
    tiles: dict[str, set[int]] = {}
    for block in placement.blocks:
        tiles.setdefault(block.layer, set()).add(block.tile)
    return [frozenset(tiles.get(call.layer, {-1})) for call in mapped.calls]
