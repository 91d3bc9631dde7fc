"""Effects of layers, noise sources and placements as tables for the terminal and a page."""

from operator import itemgetter
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import time_label
from analogmed.metrics.properties import input_word
from analogmed.metrics.registry import PRIMARY, label_of
from analogmed.report.text import (
    SAMPLE_COLUMNS,
    format_fixed,
    format_number,
    format_quantity,
    level_of,
    sample_sizes,
)
from analogmed.report.text_table import Column, TextTable, named_estimate, terminal
from analogmed.tables.table import records, require_columns

Row = dict[str, Any]

WIDTH = 120
TITLES = {
    "only_analog": "Only this layer analog: {} drop against digital",
    "only_digital": "Only this layer digital: {} regained against all layers analog",
    "noise_alone": "Only this noise source: {} drop against digital",
    "noise_all_but": "All noise sources but this: {} regained against all",
}
SETTINGS = {
    "only_analog": "only this layer analog",
    "only_digital": "only this layer digital",
    "noise_alone": "only this noise source",
    "noise_all_but": "all noise sources but this",
}
CONTROLS = {"all_analog": "whole network analog", "no_noise": "no noise source"}
_FLAGS = {"kept": "kept", "pareto": "Pareto", "chosen": "chosen"}
"""Columns of placements that are True or False, with their names in the terminal."""


def render_sensitivity(ranking: pd.DataFrame, *, most: int = 8, metric: str = PRIMARY) -> str:
    """Return the first lines of the rankings at the latest evaluated time.

    Args:
        ranking: result of ``analogmed.evaluation.studies.sensitivity.ranking.rank``.
        most: largest number of lines per ranking.
        metric: name of the metric of the ranking.

    Returns:
        plain text, at most 120 columns wide.

    Raises:
        DataError: a column is missing.
    """
    require_columns(ranking, ["setting", "subject", "time_s", "rank", "effect", *SAMPLE_COLUMNS])
    time_s = float(ranking["time_s"].max())
    last = ranking[ranking["time_s"] == time_s]
    parts, label = [], label_of(metric)
    for kind, title in TITLES.items():
        rows = last[last["setting"] == kind].sort_values("rank")
        if rows.empty:
            continue
        columns = (
            Column("rank", itemgetter("rank"), is_text=True),
            Column("layer" if "layer" in title else "source", itemgetter("subject"), is_text=True),
            Column("effect", lambda row: named_estimate(row, "effect")),
            Column("drop in all", lambda row: named_estimate(row, "drop")),
        )
        shown = records(rows.head(most))
        head = f"{title.format(label)}, {time_label(time_s)}"
        parts.append(TextTable.of(head, columns, shown).terminal(WIDTH))
        if len(rows) > most:
            parts.append(f"   and {len(rows) - most} more, in ranking.csv\n")
    for row in records(last[last["setting"].isin(list(CONTROLS))]):
        parts.append(f"{CONTROLS[row['setting']]}: {label} drop {named_estimate(row, 'drop')}\n")
    parts.append(
        f"{sample_sizes(ranking)}; {level_of(ranking)} intervals of a two-way bootstrap.\n"
    )
    return "".join(parts)


def sensitivity_table(ranking: pd.DataFrame, metric: str = PRIMARY) -> TextTable:
    """Return layers and noise sources by their drop of a metric at the last time."""
    time_s = float(ranking["time_s"].max())
    last = ranking[(ranking["time_s"] == time_s) & ranking["setting"].isin(list(SETTINGS))]
    columns = (
        Column("setting", lambda row: SETTINGS[row["setting"]], is_text=True),
        Column("layer or source", itemgetter("subject"), is_text=True),
        Column(f"{label_of(metric)} drop or recovery", lambda row: named_estimate(row, "effect")),
    )
    rows = records(last.sort_values(["setting", "rank"]))
    return TextTable.of(f"The numbers, {time_label(time_s)}", columns, rows)


def render_placement(steps: pd.DataFrame, *, metric: str = PRIMARY) -> str:
    """Return one line per evaluated placement.

    Args:
        steps: ``analogmed.evaluation.studies.placement.study.PlacementResult.steps``.
        metric: name of the metric of the drops.

    Raises:
        DataError: a column is missing.
    """
    costs = ["latency_ms", "energy_mj", "tiles"]
    require_columns(steps, ["layer", "digital_layers", "drop", "predicted_drop", "kept", *costs])
    columns = (
        Column("digital too", _layer, is_text=True),
        Column("in all", itemgetter("digital_layers"), is_text=True),
        Column(f"{label_of(metric)} drop", lambda row: named_estimate(row, "drop")),
        Column("predicted", lambda row: format_fixed(row["predicted_drop"])),
        Column("ms", lambda row: format_quantity(row["latency_ms"])),
        Column("mJ", lambda row: format_quantity(row["energy_mj"])),
        Column("tiles", itemgetter("tiles")),
        Column("", lambda row: " ".join(word for name, word in _FLAGS.items() if row[name])),
    )
    place = f"{steps['profile'].iloc[0]}, level {steps['level_of_profile'].iloc[0]}"
    title = f"Placements; time and energy estimated for {place}"
    return terminal(TextTable.of(title, columns, records(steps)), width=WIDTH)


def placement_table(steps: pd.DataFrame, metric: str = PRIMARY) -> TextTable:
    """Return every evaluated placement."""
    label = label_of(metric)
    columns = (
        Column("layer made digital", _layer, is_text=True),
        Column(
            "status",
            lambda r: "chosen" if r["chosen"] else "kept" if r["kept"] else "not kept",
            is_text=True,
        ),
        Column("digital layers", itemgetter("digital_layers")),
        Column(f"{label} drop", lambda row: named_estimate(row, "drop")),
        Column("ms", lambda row: format_number(row["latency_ms"])),
        Column("mJ", lambda row: format_number(row["energy_mj"])),
        Column("tiles", itemgetter("tiles")),
    )
    caption = (
        f"Each row makes one more layer digital, unless the row before was not kept. {label} drop: "
        "relative to the digital network, with its interval. Time and energy: of one "
        f"{input_word(metric)}, estimated."
    )
    return TextTable.of("Placements", columns, records(steps), caption=caption)


def _layer(row: Row) -> str:
    return str(row["layer"]) or "(all analog)"
