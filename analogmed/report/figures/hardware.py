"""Figures of a network on tiles: utilisation, reuse, and slices over time."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PatchCollection
from matplotlib.colors import ListedColormap, Normalize, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analogmed.foundation.errors import DataError
from analogmed.report.figures.style import (
    SMALLEST_PT,
    WIDTH_IN,
    publication_style,
    save_figure,
)
from analogmed.tables.table import require_columns

MOST_NAMED_LAYERS = 90
"""Largest number of layers for which all names are shown."""
MOST_LINES = 40
"""Largest number of layers for which each layer has a separate line of tiles."""
TILES_PER_LINE = 32
TITLE_IN, KEY_IN, MARGIN_IN = 0.4, 0.6, 0.1
CHARACTER_IN = 0.063
EMPTY_COLOR, EDGE_COLOR = "0.95", "0.7"
_Place = tuple[float, float]


def tile_occupancy(
    blocks: pd.DataFrame, path: Path | str, *, title: str = "", width_in: float = WIDTH_IN
) -> Path:
    """Draw each tile as a rectangle, filled where it stores weights.

    If no tile is shared, each layer has a separate line of tiles. Otherwise, the tiles are ordered
    by number and the color identifies the layer.

    Args:
        blocks: result of ``analogmed.hardware.Placement.table``.
        path: ``.png`` or ``.svg`` file.
        title: text above the tiles; the tile size and the share of used cells are appended.
        width_in: width of the figure in inches.

    Returns:
        ``path``; identical blocks yield identical bytes.

    Raises:
        DataError: there is no block, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    require_columns(
        blocks,
        ["layer", "tile", "row", "col", "rows", "cols", "tile_rows", "tile_cols"],
        "the table to draw",
    )
    if blocks.empty:
        raise DataError("nothing to draw: there is no tile")
    layers = list(dict.fromkeys(blocks["layer"]))
    shared = (blocks.groupby("tile")["layer"].nunique() > 1).any()
    by_layer = not shared and len(layers) <= MOST_LINES
    places, lines = _by_layer(blocks) if by_layer else _by_number(blocks)
    labels = [
        f"{name}  {share:.{2 if share < 0.001 else 1}%}" for name, share in _shares(blocks).items()
    ]
    with publication_style():
        label_in = CHARACTER_IN * max(map(len, labels)) if by_layer else 0.0
        height = 1 + max(y for _, y in places.values())
        figure, axes = _tile_canvas(height, label_in, 0.0 if by_layer else KEY_IN, width_in)
        _draw_tiles(axes, blocks, places, _colors(layers))
        if by_layer:
            axes.set_yticks([line + 0.45 for line in lines], labels, fontsize=SMALLEST_PT)
            for label in axes.get_yticklabels():
                label.set_parse_math(False)
        else:
            _color_key(figure, layers)
        axes.set_title(_occupancy_title(blocks, title), parse_math=False, loc="left", fontsize=10)
        return save_figure(figure, path)


def reuse_per_layer(
    layers: pd.DataFrame, path: Path | str, *, title: str = "", width_in: float = WIDTH_IN
) -> Path:
    """Draw the number of MVMs of each layer's tiles for one input.

    Args:
        layers: result of ``analogmed.hardware.TileMap.table``.
        path: ``.png`` or ``.svg`` file.
        title: text above the bars.
        width_in: width of the figure in inches.

    Raises:
        DataError: there is no layer, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    require_columns(layers, ["layer", "reuse_factor"], "the table to draw")
    if layers.empty:
        raise DataError("nothing to draw: there is no layer on tiles")
    names = layers["layer"].tolist()
    with publication_style():
        figure = Figure(figsize=(width_in, 1.2 + _line_in(len(names)) * len(names)))
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        axes.barh(range(len(names)), layers["reuse_factor"], color=_colors(names), log=True)
        axes.set_xlim(left=0.5 * layers["reuse_factor"].min())
        _layer_axis(axes, names)
        axes.set_xlabel("matrix-vector products per tile and input (reuse factor)")
        axes.set_title(title, parse_math=False, loc="left", fontsize=10)
        return save_figure(figure, path)


def slice_timeline(
    timeline: pd.DataFrame,
    path: Path | str,
    *,
    title: str = "",
    width_in: float = WIDTH_IN,
    item: str = "slice",
) -> Path:
    """Draw the slices of a pipelined stack in each layer as a Gantt chart.

    Args:
        timeline: result of ``analogmed.hardware.Cost.timeline``.
        path: ``.png`` or ``.svg`` file.
        title: text above the chart; profile and level are appended.
        width_in: width of the figure in inches.
        item: word for one input of the network.

    Raises:
        DataError: the timeline is empty, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    require_columns(
        timeline, ["slice", "layer", "start_ms", "end_ms", "profile", "level"], "the table to draw"
    )
    if timeline.empty:
        raise DataError("nothing to draw: no layer takes any time")
    names = list(dict.fromkeys(timeline["layer"]))
    slices = sorted(timeline["slice"].unique())
    palette = seaborn.color_palette("colorblind", 8)
    with publication_style():
        figure = Figure(figsize=(width_in, 1.6 + _line_in(len(names)) * len(names)))
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        for number in slices:
            rows = timeline[timeline["slice"] == number]
            axes.barh(
                [names.index(layer) for layer in rows["layer"]],
                rows["end_ms"] - rows["start_ms"],
                left=rows["start_ms"],
                height=0.8,
                color=palette[int(number) % len(palette)],
                edgecolor=palette[int(number) % len(palette)],
                linewidth=0.7,  # keeps short bars visible
                label=f"{item} {number + 1}",
            )
        _layer_axis(axes, names)
        axes.set_xlim(0, timeline["end_ms"].max())
        axes.set_xlabel("time (ms)")
        places = timeline[["profile", "level"]].drop_duplicates().agg(", ".join, axis=1)
        parts = [title, *places, "estimated"]
        axes.set_title(
            ", ".join(part for part in parts if part), parse_math=False, loc="left", fontsize=10
        )
        if len(slices) <= len(palette):
            figure.legend(loc="outside lower center", ncols=len(slices), frameon=False)
        return save_figure(figure, path)


def _by_layer(blocks: pd.DataFrame) -> tuple[dict[int, _Place], list[float]]:
    """Return the place of each tile (in tiles, from the upper left) and each layer's first line."""
    places: dict[int, _Place] = {}
    lines: list[float] = []
    line = 0
    for _, rows in blocks.groupby("layer", sort=False):
        lines.append(line)
        numbers = rows["tile"].unique()
        for index, tile in enumerate(numbers):
            places[int(tile)] = (index % TILES_PER_LINE, line + index // TILES_PER_LINE)
        line += -(-len(numbers) // TILES_PER_LINE)
    return places, lines


def _by_number(blocks: pd.DataFrame) -> tuple[dict[int, _Place], list[float]]:
    numbers = sorted(blocks["tile"].unique())
    places = {
        int(tile): (float(index % TILES_PER_LINE), float(index // TILES_PER_LINE))
        for index, tile in enumerate(numbers)
    }
    return places, []


def _tile_canvas(
    height: float, label_in: float, key_in: float, total_width_in: float
) -> tuple[Figure, Axes]:
    """Return a figure whose height fits its tiles, with one axis unit per tile."""
    left = MARGIN_IN + label_in
    width_in = total_width_in - left - MARGIN_IN
    height_in = (height + 0.15) * width_in / (TILES_PER_LINE + 0.1)
    total_in = TITLE_IN + height_in + MARGIN_IN + key_in
    figure = Figure(figsize=(total_width_in, total_in))
    axes = figure.add_axes(
        (
            left / total_width_in,
            (MARGIN_IN + key_in) / total_in,
            width_in / total_width_in,
            height_in / total_in,
        )
    )
    axes.set_xlim(-0.1, TILES_PER_LINE)
    axes.set_ylim(height, -0.15)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def _colors(layers: Sequence[str]) -> list[tuple[float, float, float, float]]:
    """Return one color per layer, in order."""
    shades = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.92, max(len(layers), 2)))
    return [to_rgba(tuple(shade)) for shade in shades[: len(layers)]]


def _draw_tiles(
    axes: Axes,
    blocks: pd.DataFrame,
    places: dict[int, _Place],
    colors: Sequence[tuple[float, float, float, float]],
) -> None:
    """Draw tiles as unit squares with gaps, regardless of their rows and columns."""
    color_of = dict(zip(dict.fromkeys(blocks["layer"]), colors, strict=True))
    scale = 0.86
    tiles = [Rectangle(place, scale, scale) for place in places.values()]
    columns = ["row", "col", "rows", "cols", "tile_rows", "tile_cols"]
    used, faces = [], []
    for layer, tile, sizes in zip(
        blocks["layer"], blocks["tile"], blocks[columns].to_numpy(dtype=float), strict=True
    ):
        x, y = places[int(tile)]
        row, col, rows, cols, tile_rows, tile_cols = sizes
        to_x, to_y = scale / tile_cols, scale / tile_rows
        used.append(Rectangle((x + col * to_x, y + row * to_y), cols * to_x, rows * to_y))
        faces.append(color_of[layer])
    axes.add_collection(
        PatchCollection(tiles, facecolor=EMPTY_COLOR, edgecolor=EDGE_COLOR, linewidth=0.4)
    )
    axes.add_collection(PatchCollection(used, facecolor=faces, edgecolor=faces, linewidth=0.5))


def _shares(blocks: pd.DataFrame) -> dict[str, float]:
    """Return the share of the cells of its tiles that each layer uses."""
    size = int(blocks["tile_rows"].iloc[0] * blocks["tile_cols"].iloc[0])
    return {
        str(layer): float((rows["rows"] * rows["cols"]).sum()) / (rows["tile"].nunique() * size)
        for layer, rows in blocks.groupby("layer", sort=False)
    }


def _color_key(figure: Figure, layers: Sequence[str]) -> None:
    axes = figure.add_axes((0.25, 0.3 / figure.get_figheight(), 0.5, 0.1 / figure.get_figheight()))
    scale = ScalarMappable(norm=Normalize(0, 1), cmap=ListedColormap(_colors(layers)))
    key = figure.colorbar(scale, cax=axes, orientation="horizontal")
    key.set_ticks([0, 1], labels=[layers[0], layers[-1]], fontsize=SMALLEST_PT)
    key.outline.set_visible(False)
    for label in axes.get_xticklabels():
        label.set_parse_math(False)


def _occupancy_title(blocks: pd.DataFrame, title: str) -> str:
    rows, cols = int(blocks["tile_rows"].iloc[0]), int(blocks["tile_cols"].iloc[0])
    tiles = blocks["tile"].nunique()
    share = (blocks["rows"] * blocks["cols"]).sum() / (tiles * rows * cols)
    text = f"{tiles} tiles of {rows} x {cols}, {share:.1%} of their cells used"
    return f"{title}: {text}" if title else text


def _line_in(layers: int) -> float:
    """Return the height of a layer's line in inches."""
    return 0.17 if layers <= MOST_NAMED_LAYERS else 0.17 * MOST_NAMED_LAYERS / layers


def _layer_axis(axes: Axes, names: Sequence[str]) -> None:
    """Label the vertical axis with the layers from top to bottom."""
    step = -(-len(names) // MOST_NAMED_LAYERS)
    axes.set_yticks(range(0, len(names), step), names[::step], fontsize=SMALLEST_PT)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)
