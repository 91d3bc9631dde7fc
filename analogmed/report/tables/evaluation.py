"""The summary of an evaluation as tables for the terminal and as Markdown."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import pandas as pd

from analogmed.metrics.properties import input_word, is_lower_better
from analogmed.metrics.registry import PRIMARY, label_of
from analogmed.report.levels import unstated
from analogmed.report.names import capitalised, metric_title, normalised_meaning, place_name
from analogmed.report.text import (
    UNKNOWN,
    format_fixed,
    format_quantity,
    format_share,
    level_of,
    sample_sizes,
)
from analogmed.report.text_table import (
    Cell,
    Column,
    TextTable,
    markdown,
    named_estimate,
    terminal,
)
from analogmed.tables.estimates import (
    CHANGED_CHIP,
    Estimate,
    columns_for,
    metrics_of,
    of_metric,
    shown_in,
    spread_of,
    unit_of,
)
from analogmed.tables.results import RUN
from analogmed.tables.robustness import COSTS, PROFILED
from analogmed.tables.table import records, require_columns

Row: TypeAlias = dict[str, Any]

WIDTH = 120
_MANY = 12
"""Number of columns from which the terminal breaks their cells."""
ESTIMATED = "Estimated time and energy"
NOT_STATED = "not stated"
COUNTS = ("n_patients", "n_chips", "missed", "missed_of", "level", "note")


def render_summary(summary: pd.DataFrame) -> str:
    """Return the summary with one line per model and training, next to its digital baseline.

    Args:
        summary: result of ``analogmed.evaluation.summaries.summary.summarise``; the columns of
            ``COSTS`` are shown in a second table.

    Returns:
        Plain text 120 columns wide, without terminal codes. The caption states the numbers of
        patients and chips, and the method of the intervals.

    Raises:
        DataError: a column of the summary is missing.
    """
    return terminal(*_parts(summary, dash=True), width=WIDTH)


def render_cost_tables(summary: pd.DataFrame) -> str:
    """Return tiles, and with a profile time and energy, one line per model, as plain text.

    Args:
        summary: ``summary.csv`` of one or more evaluations.
    """
    groups = summary.groupby(["task", "hardware"], sort=False)
    tables = [
        _cost_table(f"{place_name(str(task), str(hardware))}: {title}", rows, columns)
        for (task, hardware), rows in groups
        for title, columns in cost_tables(rows)
    ]
    return terminal(*tables, width=WIDTH)


def to_markdown(summary: pd.DataFrame) -> str:
    """Return the same tables and caption as Markdown; see :func:`render_summary`."""
    return markdown(*_parts(summary))


def _parts(summary: pd.DataFrame, *, dash: bool = False) -> Iterator[TextTable | str]:
    """Yield tables and captions, for each task and hardware.

    Args:
        summary: content of ``summary.csv``.
        dash: whether intervals have a dash, which is narrower.

    Raises:
        DataError: a column of the summary is missing.
    """
    metrics = _checked_metrics(summary)
    if summary.empty:
        yield "No network was evaluated on a chip."
    for (task, hardware), rows in summary.groupby(["task", "hardware"], sort=False):
        place = place_name(str(task), str(hardware))
        for metric in metrics:
            yield from _metric_tables(of_metric(rows, metric), metric, place, dash=dash)
        yield summary_caption(rows)
        for title, columns in cost_tables(rows):
            yield _cost_table(f"{place}: {title}", rows, columns)


def _checked_metrics(summary: pd.DataFrame) -> tuple[str, ...]:
    """Return the metrics of a summary; raise a DataError if it lacks a column."""
    metrics = metrics_of(summary.columns)
    needed = [*RUN] if metrics else [*RUN, "dice_digital"]
    for metric in metrics:
        shown, primary = shown_in("terminal"), metric == metrics[0]
        needed += columns_for(shown, summary.columns, metric, primary=primary)
    require_columns(summary, (*needed, *COUNTS), "the summary")
    return metrics


def _metric_tables(
    rows: pd.DataFrame, metric: str, place: str, *, dash: bool
) -> Iterator[TextTable]:
    """Yield the table of results, and one table per gain.

    Args:
        rows: summary of one metric, see :func:`analogmed.tables.estimates.of_metric`.
        metric: its name.
        place: data set and chips.
        dash: whether intervals have a dash.
    """
    shown = [estimate for estimate in shown_in("terminal") if estimate.key in rows]
    columns = [Column("\nmodel", _network, is_text=True, wrap="anywhere")]
    columns += [
        Column(estimate.head("terminal", metric), partial(_estimate, estimate, metric, dash=dash))
        for estimate in shown
        if estimate.formula != "gain"
    ]
    if has_missed(rows):
        columns.append(Column("missed\n1 day", _missed))
    title = f"{place}: {metric_title(metric, unit_of(rows))}"
    yield _table(title, columns, records(rows), stacked=True, leading=1)
    for estimate in shown:
        if estimate.formula == "gain":
            yield from _gain_tables(rows, estimate, metric, place)


def _gain_tables(
    rows: pd.DataFrame, estimate: Estimate, metric: str, place: str
) -> Iterator[TextTable]:
    """Yield the table of a gain: a training has one if its model is also trained digitally."""
    key = estimate.key
    columns = [
        Column("model", lambda row: str(row["model"]), is_text=True, wrap="anywhere"),
        Column("training", lambda row: str(row["training"])),
        Column("gain", lambda row: format_fixed(row[key])),
        Column("interval", lambda row: _estimate(estimate, metric, row).second),
    ]
    if found := records(rows[rows[key].notna()]):
        yield _table(f"{place}: {estimate.head('terminal', metric)}", columns, found)


def _cost_table(title: str, rows: pd.DataFrame, names: Sequence[str]) -> TextTable:
    columns = [Column("\nmodel", lambda row: str(row["model"]), is_text=True, wrap="anywhere")]
    columns += [Column(column_head(name, rows), partial(_cost, name)) for name in names]
    return _table(title, columns, cost_rows(rows, names))


def _table(title: str, columns: Sequence[Column], rows: Sequence[Row], **layout: Any) -> TextTable:
    """Return a table without blanks between columns; few columns of numbers are not wrapped."""
    if len(columns) < _MANY:
        columns = [c if c.is_text else replace(c, wrap="no") for c in columns]
    return TextTable.of(title, columns, rows, spaced=False, **layout)


def summary_caption(rows: pd.DataFrame) -> str:
    """Return the caption: sample sizes, intervals, references and notes."""
    metrics = metrics_of(rows.columns)
    label = label_of(metrics[0])
    lines = [
        f"{sample_sizes(rows)}. Intervals: {level_of(rows)}, from a two-way bootstrap over "
        "patients and chips (digital: patients).",
        f"digital, hwa: trained digitally, or hardware-aware. {label} digital: the same network "
        "run digitally.",
        "Noise drop: against the digitally trained network of the model, run digitally.",
        "t0: right after programming; 1 day: 86,400 s; 1 month: 2,592,000 s. "
        "\u00b1: standard deviation over chips.",
        f"Gain: {label} after 1 day minus that of the digitally trained network of the model, on "
        "the same chips.",
        "AVM: 1 month minus 1 s."
        + (" Missed: structures whose prediction is empty." if has_missed(rows) else ""),
        *map(normalised_meaning, metrics),
        *(
            f"{label_of(name)}: lower is better. Its drops are by how much it is worse, its gains "
            "by how much it is better."
            for name in metrics
            if is_lower_better(name)
        ),
    ]
    notes = run_notes(rows, metrics)
    return "\n".join([*lines, notes] if notes else lines)


def run_notes(rows: pd.DataFrame, metrics: Sequence[str] = ()) -> str:
    """Return the limitations of each network's results, one per line; empty without any.

    Args:
        rows: rows of ``summary.csv``.
        metrics: metrics whose digital values are noted where they allow no normalised value; by
            default the primary one.
    """
    noted = metrics or metrics_of(rows.columns)[:1]
    of_metrics = [(name, records(of_metric(rows, name))) for name in noted]
    found: list[tuple[str, list[str]]] = []
    for number, row in enumerate(records(rows)):
        texts = row["note"].split("; ") if isinstance(row["note"], str) else []
        texts += [unstated(each[number], name) for name, each in of_metrics]
        found.append((f"{row['model']}, {row['training']}", [*filter(None, texts)]))
    of_chip = [text for _, texts in found[:1] for text in texts if text.startswith(CHANGED_CHIP)]
    shared = [text for text in of_chip if all(text in texts for _, texts in found)]
    notes = [f"{capitalised(text)}." for text in shared]
    for name, texts in found:
        if own := [text for text in texts if text not in shared]:
            notes.append(f"{name}: {'; '.join(own)}.")
    return "\n".join(notes)


def cost_tables(summary: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Return titles and columns of the cost tables: counted and estimated costs."""
    columns = [column for column in summary.columns if column in COSTS]
    estimated = [column for column in columns if column.startswith(PROFILED)]
    counted = [column for column in columns if column not in estimated]
    return [table for table in (("Cost", counted), (ESTIMATED, estimated)) if table[1]]


def cost_rows(rows: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """Return the cost per model; all trainings of a model use the same tiles."""
    return records(rows[["model", *columns]].drop_duplicates())


def cost_text(column: str, value: Any) -> str:
    """Return a cost as text: shares in per cent, names as they are."""
    share = column.startswith(("utilisation", "analog_", "estimated_utilisation"))
    return format_share(value) if share else format_quantity(value)


def column_head(column: str, summary: pd.DataFrame) -> str:
    """Return the head of a cost column of a summary, in two lines."""
    primary = (metrics_of(summary.columns) or (PRIMARY,))[0]
    return COSTS[column].format(input=input_word(primary))


def _network(row: Row) -> Cell:
    return Cell(str(row["model"]), str(row["training"]), ", {}")


def estimate_of(estimate: Estimate, metric: str, row: Row, **layout: Any) -> Cell:
    """Return an estimate of a network with its interval, or that it is not stated.

    Args:
        estimate: estimate.
        metric: metric of the row.
        row: network in a summary of one metric.
        **layout: further arguments of :func:`analogmed.report.text_table.estimate_cell`.
    """
    if estimate.formula == "ratio" and pd.notna(row[estimate.key]) and unstated(row, metric):
        return Cell(NOT_STATED)
    return named_estimate(row, estimate.key, **layout)


def _estimate(estimate: Estimate, metric: str, row: Row, *, dash: bool = False) -> Cell:
    """Return an estimate, its deviation over chips if that is known, and its interval."""
    cell = estimate_of(estimate, metric, row, unknown=UNKNOWN, dash=dash)
    spread = spread_of(estimate)
    if spread and not pd.isna(row.get(spread.key)):
        return replace(cell, text=f"{cell.text} \u00b1 {format_fixed(row[spread.key])}")
    return cell


def has_missed(rows: pd.DataFrame) -> bool:
    """Return whether missed structures are known, as they are for masks."""
    return bool(rows["missed"].notna().any())


def _missed(row: Row) -> str:
    return UNKNOWN if pd.isna(row["missed"]) else f"{row['missed']}/{row['missed_of']}"


def _cost(name: str, row: Row) -> str:
    return cost_text(name, row[name])
