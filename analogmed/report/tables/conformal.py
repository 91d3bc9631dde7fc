"""Conformal masks as tables for the terminal and a page."""

from functools import partial
from operator import itemgetter
from typing import Any

import pandas as pd

from analogmed.report.tables.uncertainty import WIDTH, time_text
from analogmed.report.text import format_number
from analogmed.report.text_table import (
    Column,
    TextTable,
    named_estimate,
    network_cell,
    terminal,
)
from analogmed.tables.table import records, require_columns

Row = dict[str, Any]


_rate = partial(named_estimate, write=format_number)
"""Content of a cell with an estimate and its interval."""


def render_conformal(summary: pd.DataFrame) -> str:
    """Return false-negative rate and predicted volume of conformal masks.

    Args:
        summary: ``conformal_summary.csv`` of an uncertainty run.

    Raises:
        DataError: a column is missing.
    """
    if summary.empty:
        return ""
    needed = ["model", "training", "calibrated", "time_s", "class", "fnr", "volume_ratio", "kept"]
    require_columns(summary, [*needed, "alpha", "n_units", "trivial"])
    size, head = _size(summary)
    times = {"digital": "digitally", "first": "at first time", "each": "at this time"}
    columns = (
        Column("network", lambda r: f"{r['model']} {r['training']}", is_text=True, wrap="no"),
        Column("class", itemgetter("class"), is_text=True, wrap="no"),
        Column("set", lambda row: times[row["calibrated"]], is_text=True, wrap="no"),
        Column("used", lambda row: time_text(row["time_s"]), is_text=True, wrap="no"),
        Column("share missed", lambda row: _rate(row, "fnr")),
        Column(head, lambda row: _rate(row, size)),
        Column("kept", _kept),
        Column("patients\nto set", itemgetter("n_units")),
    )
    title = _title(summary)
    return terminal(TextTable.of(title, columns, records(summary)), width=WIDTH)


def conformal_table(summary: pd.DataFrame) -> TextTable:
    """Return the false-negative rates of conformal masks."""
    size, head = _size(summary)
    times = {"digital": "digitally", "first": "at the first time", "each": "at this time"}
    columns = (
        Column("network", lambda row: network_cell(row["model"], row["training"]), is_text=True),
        Column("class", itemgetter("class"), is_text=True),
        Column(
            "threshold set", lambda r: times.get(r["calibrated"], r["calibrated"]), is_text=True
        ),
        Column("used", lambda row: time_text(row["time_s"]), is_text=True),
        Column("share missed", lambda row: named_estimate(row, "fnr")),
        Column(head.removesuffix(" volume"), lambda row: format_number(row[size], 2)),
        Column("kept", _kept),
    )
    title = _title(summary)
    return TextTable.of(title, columns, records(summary))


def _size(summary: pd.DataFrame) -> tuple[str, str]:
    """Return column and head of the size of predictions; label sets have no volume."""
    if summary["volume_ratio"].isna().all():
        return "marked_share", "share marked"
    return "volume_ratio", "marked / true volume"


def _title(summary: pd.DataFrame) -> str:
    alpha = f"at most {100 * float(summary['alpha'].iloc[0]):g} %"
    if _size(summary)[0] == "marked_share":
        return f"Conformal label sets, target: {alpha} of the images with a class missed"
    return f"Conformal masks, target: {alpha} of a structure missed"


def _kept(row: Row) -> str:
    return "marks all" if row["trivial"] else str(row["kept"])
