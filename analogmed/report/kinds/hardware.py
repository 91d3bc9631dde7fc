"""Runs of ``analogmed hardware map``."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pandas as pd

from analogmed.report.figures.hardware import reuse_per_layer, slice_timeline, tile_occupancy
from analogmed.report.kinds.kind import Kind
from analogmed.report.page.sections import PageFigure, Section, page_figure
from analogmed.report.run import Run
from analogmed.report.tables.hardware import estimate_tables, layers_table, tiles_table
from analogmed.report.text import count_range, format_quantity, format_share
from analogmed.tables.hardware import LAYERS, SUMMARY, TILES, TIMELINE, item_of
from analogmed.tables.table import records

_MOST_DRAWN = 8
"""Largest number of networks whose layers are drawn."""
_MOST_FOUND = 3
"""Largest number of networks whose largest layers are named."""


def _findings(run: Run) -> Iterator[str]:
    rows = records(run.tables["summary"])
    for row in rows:
        yield _size(row)
        if "latency_ms" in row:
            yield _cost(row)
            yield from _largest(run.tables["layers"], row) if len(rows) <= _MOST_FOUND else ()


def _size(row: dict[str, Any]) -> str:
    tiles = count_range([row["tiles_placed"]], "tile")
    used = format_share(row["utilisation_placed"])
    return (
        f"{row['model']} takes {tiles} of {row['tile_size']} cells; {used} of them store weights."
    )


def _cost(row: dict[str, Any]) -> str:
    size, latency = row["input"], format_quantity(row["latency_ms"])
    return (
        f"One {item_of([size])} of {size} takes {latency} ms and "
        f"{format_quantity(row['energy_mj'])} mJ in {row['model']}, estimated for {row['profile']} "
        f"(level {row['level']})."
    )


def _largest(layers: pd.DataFrame, row: dict[str, Any]) -> Iterator[str]:
    """Yield a sentence on the layers of a network that take most time and energy."""
    own = layers[layers["model"] == row["model"]]
    for column, unit, word in (("time_ms", "ms", "time"), ("energy_mj", "mJ", "energy")):
        if column in own and own[column].sum() > 0:
            first = records(own.nlargest(1, column))[0]
            share = format_share(first[column] / own[column].sum(), 0)
            yield (
                f"In {row['model']}, the layer {first['layer']} takes most {word}: "
                f"{format_quantity(first[column])} {unit}, {share} of the sum over all layers."
            )


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    summary = run.tables["summary"]
    if "latency_ms" in summary:
        yield Section(
            f"{prefix}-cost",
            "Time and energy",
            "Estimates from published values of the tiles, not measurements.",
            tables=tuple(estimate_tables(summary)),
        )
    yield Section(f"{prefix}-tiles", "Tiles", tables=(tiles_table(summary),))
    models = list(dict.fromkeys(summary["model"]))
    for number, model in enumerate(models):
        layers = _of(run, "layers", model)
        drawn = len(models) <= _MOST_DRAWN
        key = f"{prefix}-layers{number}"
        yield Section(
            key,
            f"Layers of {model}",
            figures=tuple(_figures(run, model, key)) if drawn else (),
            folded=(layers_table(layers, "Layers"),),
        )


def _figures(run: Run, model: str, key: str) -> Iterator[PageFigure]:
    timeline = _of(run, "timeline", model)
    if not timeline.empty:
        item = item_of(_of(run, "summary", model)["input"])
        draw = partial(slice_timeline, item=item)
        stack = f"{item.title()}s of a stack"
        alt = f"{stack} in each layer of {model} over time; the table has the times"
        yield page_figure(draw, timeline, f"{key}-pipeline", alt, narrow=False)
    if not (tiles := _of(run, "tiles", model)).empty:
        alt = f"Tiles of each layer of {model}, filled where they store weights"
        yield page_figure(tile_occupancy, tiles, f"{key}-tiles", alt, paper=True, narrow=False)
    if not (layers := _of(run, "layers", model)).empty:
        alt = f"Matrix-vector products of each layer of {model}; the table has the numbers"
        yield page_figure(reuse_per_layer, layers, f"{key}-reuse", alt, paper=True, narrow=False)


def _of(run: Run, name: str, model: str) -> pd.DataFrame:
    """Return the rows of a network in a table; none if the run lacks the table."""
    table = run.tables.get(name, pd.DataFrame({"model": []}))
    return table[table["model"] == model]


KIND = Kind(
    name="hardware",
    program="hardware map",
    tables=(SUMMARY, LAYERS, TILES, TIMELINE),
    known_table=LAYERS,
    known_column="reuse_factor",
    findings=_findings,
    sections=_sections,
)
