"""Scores of each class of a task, for the terminal and the page."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import TIME_NAMES, time_label
from analogmed.metrics.registry import label_of
from analogmed.report.levels import near_chance
from analogmed.report.names import metric_title, network_name, place_name
from analogmed.report.tables.evaluation import WIDTH
from analogmed.report.tables.evaluation_page import rows_of
from analogmed.report.text import UNKNOWN, format_fixed, in_interval
from analogmed.report.text_table import (
    Column,
    TextTable,
    estimate_cell,
    named_estimate,
    network_cell,
    terminal,
)
from analogmed.tables.estimates import drop_word
from analogmed.tables.results import NETWORK
from analogmed.tables.table import records

Row = dict[str, Any]
MEANING = (
    "Below each estimate its interval. A score above is the mean over the classes that are listed "
    "for it here."
)
"""Explanation of tables of classes on a page."""


def render_class_scores(classes: pd.DataFrame) -> str:
    """Return the scores of each class as plain text, empty for a single class.

    Args:
        classes: ``class_scores.csv`` of an evaluation, or an empty table.
    """
    tables = () if classes.empty else class_tables(classes)
    return terminal(*tables, *low_classes(classes), width=WIDTH) if tables else ""


def class_tables(classes: pd.DataFrame) -> tuple[TextTable, ...]:
    """Return a table for each metric: one line per class and network; none without a chip."""
    metrics = classes.loc[classes["time_s"].notna(), "metric"].unique()
    return tuple(_class_table(rows_of(classes, metric)) for metric in metrics)


def _class_table(classes: pd.DataFrame) -> TextTable:
    metric, first = str(classes["metric"].iloc[0]), records(_on_chip(classes))[0]
    place = place_name(str(first["task"]), str(first["hardware"]))
    network = Column(
        "network", lambda row: network_cell(row["model"], row["training"]), is_text=True
    )
    return class_table(
        classes,
        f"{metric_title(metric, str(first['unit']))} of each class of {place}",
        drop_word(metric),
        networks=(network,),
    )


def class_table(
    classes: pd.DataFrame,
    title: str,
    drop: str,
    *,
    networks: Sequence[Column] = (),
    names: Mapping[float, str] = TIME_NAMES,
) -> TextTable:
    """Return a metric of each class, digitally and on the chip at one time.

    Args:
        classes: rows of ``class_scores.csv`` of one metric, at least one of them on a chip.
        title: title of the table.
        drop: head of the column of drops.
        networks: columns that name the network.
        names: names of some times.
    """
    on_chip = _on_chip(classes)
    digital = {_key(row): row for row in records(classes[classes["time_s"].isna()])}
    columns = [
        Column("class", lambda row: row["class"], is_text=True, wrap="anywhere"),
        *networks,
        Column("run digitally", lambda row: _score(digital.get(_key(row)))),
        Column(time_label(float(on_chip["time_s"].iloc[0]), names), _score),
        Column(drop, lambda row: named_estimate(row, "drift_drop")),
    ]
    caption = f"{UNKNOWN}: undefined; the notes name the reason."
    caption = caption if on_chip["estimate"].isna().any() else ""
    return TextTable.of(title, columns, records(on_chip), caption=caption)


def low_classes(classes: pd.DataFrame, *, networks: bool = True) -> Iterator[str]:
    """Yield a sentence on each class whose digital score is at chance or little above.

    Args:
        classes: ``class_scores.csv`` of an evaluation, or an empty table.
        networks: whether the sentences name the network.
    """
    digital = () if classes.empty else records(classes[classes["time_s"].isna()])
    for row in digital:
        metric = str(row["metric"])
        near = near_chance(metric, row["estimate"])
        of = f" of the {network_name(row['model'], row['training'])}" if networks else ""
        interval = in_interval(row["low"], row["high"], row["level"])
        if near:
            yield (
                f"The digital {label_of(metric)} of {row['class']}{of} is "
                f"{format_fixed(row['estimate'])}{interval}, {near}: a {drop_word(metric)} of "
                "this class on the chip means little."
            )


def _on_chip(classes: pd.DataFrame) -> pd.DataFrame:
    return classes[classes["time_s"].notna()]


def _key(row: Row) -> tuple[Any, ...]:
    return (row["class"], *(row[name] for name in NETWORK))


def _score(row: Row | None) -> Any:
    if row is None:
        return UNKNOWN
    return estimate_cell(row["estimate"], row["low"], row["high"])
