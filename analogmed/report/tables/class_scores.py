"""Scores of each class of a task, for the terminal and the page."""

from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import time_label
from analogmed.metrics.properties import is_lower_better
from analogmed.report.names import metric_title, place_name
from analogmed.report.tables.evaluation import WIDTH
from analogmed.report.tables.evaluation_page import rows_of
from analogmed.report.text import UNKNOWN
from analogmed.report.text_table import (
    Column,
    TextTable,
    estimate_cell,
    named_estimate,
    network_cell,
    terminal,
)
from analogmed.tables.results import NETWORK
from analogmed.tables.table import records

Row = dict[str, Any]


def render_class_scores(classes: pd.DataFrame) -> str:
    """Return the scores of each class as plain text, empty for a single class.

    Args:
        classes: ``class_scores.csv`` of an evaluation, or an empty table.
    """
    tables = () if classes.empty else class_tables(classes)
    return terminal(*tables, width=WIDTH) if tables else ""


def class_tables(classes: pd.DataFrame) -> tuple[TextTable, ...]:
    """Return a table for each metric: one line per class and network; none without a chip."""
    metrics = classes.loc[classes["time_s"].notna(), "metric"].unique()
    return tuple(_class_table(rows_of(classes, metric)) for metric in metrics)


def _class_table(classes: pd.DataFrame) -> TextTable:
    on_chip = classes[classes["time_s"].notna()]
    digital = {_key(row): row for row in records(classes[classes["time_s"].isna()])}
    metric, time_s = str(classes["metric"].iloc[0]), float(on_chip["time_s"].iloc[0])
    columns = [
        Column("class", lambda row: row["class"], is_text=True, wrap="anywhere"),
        Column("network", lambda row: network_cell(row["model"], row["training"]), is_text=True),
        Column("run digitally", lambda row: _score(digital.get(_key(row)))),
        Column(time_label(time_s), _score),
        Column(
            "added" if is_lower_better(metric) else "lost",
            lambda row: named_estimate(row, "drift_drop"),
        ),
    ]
    first = records(on_chip)[0]
    place = place_name(str(first["task"]), str(first["hardware"]))
    unknown = on_chip["estimate"].isna().any()
    return TextTable.of(
        f"{metric_title(metric, str(first['unit']))} of each class of {place}",
        columns,
        records(on_chip),
        caption=f"{UNKNOWN}: undefined; the notes name the reason." if unknown else "",
    )


def _key(row: Row) -> tuple[Any, ...]:
    return (row["class"], *(row[name] for name in NETWORK))


def _score(row: Row | None) -> Any:
    return UNKNOWN if row is None else estimate_cell(row["estimate"], row["low"], row["high"])
