"""Effect and cost of mitigations as tables for the terminal and a page."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from analogmed.metrics.registry import label_of
from analogmed.report.figures.mitigation import OPTIONS, primary_of, shown_metrics
from analogmed.report.tables.uncertainty import WIDTH, time_text
from analogmed.report.text import (
    SAMPLE_COLUMNS,
    UNKNOWN,
    format_number,
    format_signed,
    level_of,
    sample_sizes,
)
from analogmed.report.text_table import (
    Cell,
    Column,
    Content,
    TextTable,
    estimate_cell,
    network_cell,
    terminal,
)
from analogmed.tables.table import records, require_columns

Row = dict[str, Any]

_COSTS = {
    "images": "images",
    "labelled_images": "labelled",
    "passes": "passes",
    "parameters": "digital\nnumbers",
}
_COSTS_ON_PAGE = {"images": "images", "labelled_images": "labelled images", "passes": "passes"}
_KEYS = ["model", "training", "time_s", "option"]


def render_mitigation(summary: pd.DataFrame) -> str:
    """Return the effect and cost of each mitigation at each time.

    Args:
        summary: ``summary.csv`` of a mitigation run.

    Raises:
        DataError: a column is missing.
    """
    require_columns(summary, [*_KEYS, "metric", "value", "gain", *_COSTS, *SAMPLE_COLUMNS])
    columns = [
        Column(
            "model", lambda r: Cell(str(r["model"]), str(r["training"])), is_text=True, wrap="no"
        ),
        Column("time", lambda row: time_text(row["time_s"]), is_text=True, wrap="no"),
        Column("option", lambda row: row["option"], is_text=True, wrap="no"),
    ]
    shown, primary = shown_metrics(summary), primary_of(summary)
    columns += [Column(f"{head}\ngain", _of_metric(name, _gain)) for name, head in shown.items()]
    columns += [Column(head, _cost(primary, name)) for name, head in _COSTS.items()]
    table = TextTable.of(
        "Mitigations on the chip", columns, _by_option(summary), stacked=True, leading=1
    )
    return (
        f"{terminal(table, width=WIDTH)}Gain: drift_compensation and all against none, the others "
        f"against drift_compensation; {sample_sizes(summary)}, {level_of(summary)} intervals of a "
        "two-way bootstrap.\n"
        "images: unlabelled images, labelled: labelled images needed each time; passes through the "
        "chip.\n"
    )


def mitigation_table(summary: pd.DataFrame) -> TextTable:
    """Return the effect and cost of each mitigation at each time."""
    measured, primary = set(summary["metric"]), primary_of(summary)
    label = label_of(primary)
    columns = [
        Column(
            "network", lambda r: network_cell(str(r["model"]), str(r["training"])), is_text=True
        ),
        Column("time", lambda row: time_text(row["time_s"]), is_text=True),
        Column("mitigation", lambda row: OPTIONS.get(row["option"], row["option"]), is_text=True),
    ]
    columns += [
        Column(head, _of_metric(name, lambda row: format_number(row["value"])))
        for name, head in shown_metrics(summary).items()
        if name in measured
    ]
    columns.append(
        Column(
            f"{label} gain",
            _of_metric(primary, lambda r: estimate_cell(r["gain"], r["gain_low"], r["gain_high"])),
        )
    )
    columns += [
        Column(head, _cost(primary, name))
        for name, head in _COSTS_ON_PAGE.items()
        if name in summary
    ]
    caption = (
        f"{label} gain: of drift compensation, and of all together, relative to no mitigation; "
        'of those with "+", which are added to drift compensation, relative to drift compensation. '
        "Images, labelled images and passes through the chip: number that each use of the "
        "mitigation needs."
    )
    rows = _by_option(summary)
    return TextTable.of("Mitigations on the chip", columns, rows, caption=caption)


def _by_option(summary: pd.DataFrame) -> Iterator[Row]:
    """Yield network, time and option with their rows by metric as ``metrics``."""
    for key, rows in summary.groupby(_KEYS, sort=False):
        by_metric = {str(row["metric"]): row for row in records(rows)}
        yield {**dict(zip(_KEYS, key, strict=True)), "metrics": by_metric}


def _of_metric(name: str, write: Callable[[Row], Content]) -> Callable[[Row], Content]:
    """Return the content of the column of a metric."""

    def cell(row: Row) -> Content:
        return write(row["metrics"][name]) if name in row["metrics"] else UNKNOWN

    return cell


def _cost(metric: str, name: str) -> Callable[[Row], Content]:
    """Return the content of the column of a cost, which is the same for all metrics."""
    return lambda row: row["metrics"][metric][name]


def _gain(row: Row) -> Cell:
    """Return a value with its gain and the interval of that below it."""
    value, gain = format_number(row["value"]), row["gain"]
    if pd.isna(gain):
        return Cell(value)
    found = estimate_cell(gain, row["gain_low"], row["gain_high"], format_signed)
    return Cell(value, "\n".join(filter(None, (found.text, found.second))))
