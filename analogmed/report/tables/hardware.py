"""Hardware cost of networks as tables for the terminal."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import pandas as pd

from analogmed.report.text import format_quantity, format_share
from analogmed.report.text_table import Column, TextTable, terminal
from analogmed.tables.hardware import MEANS, item_of
from analogmed.tables.table import records, require_columns

WIDTH = 120
TILES = {
    "parameters": "parameters",
    "analog_layers": "layers\non tiles",
    "tiles": "tiles",
    **MEANS,
}
PLACED = {
    "tiles_placed": "tiles",
    "utilisation_placed": "cells\nused",
    "chips": "chips",
    "area_mm2": "area\nmm2",
    "latency_ms": "one\n{item}\nms",
    "interval_ms": "interval\nms",
    "throughput_per_s": "{item}s\nper s",
    "stack_ms": "{slices}\n{item}s\nms",
    "stack_pipelined_ms": "pipelined\nms",
    "energy_mj": "one\n{item}\nmJ",
    "tops_per_w": "TOPS/W",
    "skip_buffer_kib": "skips\nKiB",
}
LAYERS = {
    "type": "type",
    "rows": "rows",
    "cols": "cols",
    "groups": "groups",
    "copies": "copies",
    "tiles": "tiles",
    "utilisation": "utilisation",
    "reuse_factor": "reuse\nfactor",
    "replicas": "replicas",
    "time_ms": "time\nms",
    "bound_by": "bound\nby",
    "energy_mj": "energy\nmJ",
}
_ONLY_IF_SEVERAL = ("groups", "copies", "replicas")
"""Columns of :data:`LAYERS` that are left out where each layer has one."""

DIGITAL = {"layer": "layer", "macs": "MACs", "mac_share": "share of\nall MACs"}


def render_tiles(costs: pd.DataFrame) -> str:
    """Return :func:`tiles_table` as plain text, 120 columns wide."""
    return terminal(tiles_table(costs), width=WIDTH)


def tiles_table(costs: pd.DataFrame) -> TextTable:
    """Return tiles, utilisation and reuse factor, one line per network.

    Args:
        costs: one row per network with ``model``, ``input`` and the result of
            ``analogmed.hardware.TileMap.summary``.

    Raises:
        DataError: a column is missing.
    """
    require_columns(costs, ["model", "input", "tile_size", *TILES])
    sizes = " and ".join(dict.fromkeys(costs["tile_size"]))
    return _table(f"Networks on tiles of {sizes}", costs, TILES)


def render_costs(costs: pd.DataFrame) -> str:
    """Return :func:`estimate_tables` as plain text, 120 columns wide."""
    parts: list[TextTable | str] = []
    for table, lines in _estimates(costs):
        parts += [table, *lines]
    return "".join(terminal(part, width=WIDTH) for part in parts)


def estimate_tables(costs: pd.DataFrame) -> list[TextTable]:
    """Return time, energy and area, one line per network, a table per profile and level.

    Args:
        costs: one row per network with ``model``, ``input`` and the result of
            ``analogmed.hardware.Cost.summary``, with its tiles as ``tiles_placed``.

    Raises:
        DataError: a column is missing.
    """
    return [
        replace(table, caption=" ".join(f"{line}." for line in lines))
        for table, lines in _estimates(costs)
    ]


def _estimates(costs: pd.DataFrame) -> Iterator[tuple[TextTable, list[str]]]:
    """Yield each table of :func:`estimate_tables`, and lines about layers that it lacks."""
    kinds = ["profile", "level", "slices", "packing"]
    require_columns(costs, ["model", "input", *kinds, "uncosted_layers", *PLACED])
    for (profile, level, slices, packing), rows in costs.groupby(kinds, sort=False):
        packed = "" if packing == "none" else f", packed ({packing})"
        words = {"slices": slices, "item": item_of(rows["input"])}
        heads = {name: head.format(**words) for name, head in PLACED.items()}
        table = _table(f"Estimates for {profile}, level {level}{packed}", rows, heads)
        yield table, [_left_out(row) for row in records(rows[rows["uncosted_layers"] > 0])]


def _left_out(row: Mapping[str, object]) -> str:
    """Return the line about digital layers that are missing from times or energies."""
    number = row["uncosted_layers"]
    untimed = row.get("untimed_layers", number)
    unpowered = row.get("unpowered_layers", number)
    if untimed == unpowered:
        return f"{row['model']}: {number} layers are digital and in none of these figures"
    lacking = f"{untimed} of them not in the times, {unpowered} not in the energies"
    return f"{row['model']}: {number} layers are digital, {lacking}"


def render_layers(layers: pd.DataFrame, title: str) -> str:
    """Return :func:`layers_table` as plain text, 120 columns wide."""
    return terminal(layers_table(layers, title), width=WIDTH)


def layers_table(layers: pd.DataFrame, title: str) -> TextTable:
    """Return one line per layer of a network.

    Args:
        layers: result of ``analogmed.hardware.TileMap.table``, optionally with columns of
            ``analogmed.hardware.Cost.table``.
        title: text above the table; it must name profile and level if there is a time.

    Raises:
        DataError: a column is missing.
    """
    require_columns(layers, ["layer", "tiles", "utilisation", "reuse_factor"])
    heads = {name: head for name, head in LAYERS.items() if name in layers.columns}
    for name in _ONLY_IF_SEVERAL:
        if name in heads and (layers[name] == 1).all():
            del heads[name]
    return _table(title, layers, heads, first="layer")


def render_digital(layers: pd.DataFrame) -> str:
    """Return one line per digital layer that multiplies a weight, as plain text.

    Args:
        layers: result of ``analogmed.hardware.TileMap.digital_table``, with ``model``.

    Raises:
        DataError: a column is missing.
    """
    require_columns(layers, ["model", *DIGITAL])
    title = "Digital layers, with their multiply-accumulates (MACs)"
    return terminal(_table(title, layers, DIGITAL), width=WIDTH)


def _table(
    title: str,
    rows: pd.DataFrame,
    heads: Mapping[str, str],
    *,
    first: str = "model",
) -> TextTable:
    lines = max(head.count("\n") for head in heads.values())
    lowered = {name: "\n" * (lines - head.count("\n")) + head for name, head in heads.items()}
    name_head = "\n" * lines + first
    columns = [
        Column(name_head, itemgetter(first), is_text=True, wrap="anywhere", least_width=8),
        *(Column(head, partial(_cell, name), wrap="no") for name, head in lowered.items()),
    ]
    return TextTable.of(title, columns, records(rows), spaced=False)


def _cell(name: str, row: Mapping[str, Any]) -> str:
    value = row[name]
    if name.startswith("utilisation") or (name == "mac_share" and not pd.isna(value)):
        return format_share(value, 2)
    return format_quantity(value)
