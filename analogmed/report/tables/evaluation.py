"""The summary of an evaluation as a table for the terminal and as Markdown."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import pandas as pd
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.figures.style import count_range
from analogmed.report.names import metric_title
from analogmed.report.text import printed, records
from analogmed.tables.estimates import (
    Estimate,
    columns_for,
    metrics_of,
    of_metric,
    shown_in,
    spread_of,
    unit_of,
)
from analogmed.tables.robustness import COSTS, PROFILED
from analogmed.tables.table import require_columns

Row: TypeAlias = dict[str, Any]

WIDTH = 120
EN_DASH = "\u2013"
UNKNOWN = EN_DASH
RUN = ("task", "model", "training", "hardware")
GAIN_HEADS = ("model", "training", "gain", "interval")
ESTIMATED = "Estimated time and energy"
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
    metrics = _checked_metrics(summary)
    if summary.empty:
        return "No network was evaluated on a chip.\n"
    parts: list[RenderableType] = []
    for (task, hardware), rows in summary.groupby(["task", "hardware"], sort=False):
        place = f"{task} on {hardware}"
        for metric in metrics:
            of_this = of_metric(rows, metric)
            title = f"{metric_title(metric, unit_of(of_this))} of {place}"
            parts.append(_results_table(title, of_this, metric))
            for title, gains in _gains(of_this, metric):
                parts.append(Text(f"{title}, {place}", style="italic"))
                parts.append(_gain_table(gains))
        parts.append(Text(summary_caption(rows), style="dim"))
        for title, columns in cost_tables(rows):
            parts.append(_cost_table(f"{title} of {place}", rows, columns))
        parts.append("")
    return printed(*parts, width=WIDTH)


def render_cost_tables(summary: pd.DataFrame) -> str:
    """Return tiles, and with a profile time and energy, one line per model, as plain text.

    Args:
        summary: ``summary.csv`` of one or more evaluations.
    """
    groups = summary.groupby(["task", "hardware"], sort=False)
    tables = [
        _cost_table(f"{title} of {task} on {hardware}", rows, columns)
        for (task, hardware), rows in groups
        for title, columns in cost_tables(rows)
    ]
    return printed(*tables, width=WIDTH)


def to_markdown(summary: pd.DataFrame) -> str:
    """Return the same table and caption as Markdown.

    Args:
        summary: result of ``analogmed.evaluation.summaries.summary.summarise``.

    Returns:
        One pipe table per task and hardware; estimates with their interval in brackets.

    Raises:
        DataError: a column of the summary is missing.
    """
    metrics = _checked_metrics(summary)
    if summary.empty:
        return "No network was evaluated on a chip.\n"
    parts = []
    for (task, hardware), rows in summary.groupby(["task", "hardware"], sort=False):
        for metric in metrics:
            parts += _markdown_parts(metric, of_metric(rows, metric), f"{task} on {hardware}")
        parts.append(_escaped(summary_caption(rows)))
        for title, costs in cost_tables(rows):
            if title == ESTIMATED:
                parts.append(f"{title}:")
            lines = [
                [str(row["model"]), *(cost_text(column, row[column]) for column in costs)]
                for row in cost_rows(rows, costs)
            ]
            heads = [" ".join(column_head(column).split()) for column in costs]
            parts.append(_pipe_table(["model", *heads], lines))
    return "\n\n".join(parts) + "\n"


def _markdown_parts(metric: str, rows: pd.DataFrame, place: str) -> list[str]:
    """Return the tables of one metric."""
    shown = _shown(rows)
    heads = [" ".join(estimate.head("terminal", metric).split()) for estimate in shown]
    lines = [_markdown_cells(row, shown) for row in records(rows)]
    title = f"{metric_title(metric, unit_of(rows))} of {place}"
    parts = [f"### {_escaped(title)}"]
    parts.append(_pipe_table(["model", "training", *heads, "missed 1 day"], lines))
    for title, gains in _gains(rows, metric):
        parts.append(f"{title}:")
        parts.append(_pipe_table([head.strip() for head in GAIN_HEADS], gains))
    return parts


def _checked_metrics(summary: pd.DataFrame) -> tuple[str, ...]:
    """Return the metrics of a summary; raise a DataError if it lacks a column."""
    metrics = metrics_of(summary.columns)
    needed = [*RUN] if metrics else [*RUN, "dice_digital"]
    for metric in metrics:
        shown, primary = shown_in("terminal"), metric == metrics[0]
        needed += columns_for(shown, summary.columns, metric, primary=primary)
    require_columns(summary, (*needed, *COUNTS), "the summary")
    return metrics


def _shown(rows: pd.DataFrame) -> list[Estimate]:
    """Return the estimates of the main table; a gain has a table of its own."""
    return [e for e in shown_in("terminal") if e.formula != "gain" and e.key in rows]


def _results_table(title: str, rows: pd.DataFrame, metric: str) -> Table:
    shown = _shown(rows)
    heads = [estimate.head("terminal", metric) for estimate in shown]
    table = _plain_table(title, ["\nmodel", *heads, "missed\n1 day"])
    table.leading = 1
    for row in records(rows):
        cells = [f"{row['model']}\n{row['training']}"]
        cells += [f"{_estimate(row, e)}\n{_interval(row, e.key)}" for e in shown]
        table.add_row(*map(Text, [*cells, _missed(row)]))
    return table


def _gains(rows: pd.DataFrame, metric: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the title of each gain, and one line per training that has one.

    A training has a gain if its model also has a digitally trained network on chips.
    """
    for estimate in shown_in("terminal"):
        if estimate.formula != "gain" or estimate.key not in rows:
            continue
        key = estimate.key
        found = records(rows[rows[key].notna()])
        lines = [
            [str(r["model"]), str(r["training"]), _decimals(r[key]), _interval(r, key)]
            for r in found
        ]
        if lines:
            yield estimate.head("terminal", metric), lines


def _gain_table(lines: Sequence[Sequence[str]]) -> Table:
    table = _plain_table(None, GAIN_HEADS)
    for line in lines:
        table.add_row(*map(Text, line))
    return table


def _plain_table(title: str | None, heads: Sequence[str]) -> Table:
    table = Table(
        title=Text(title) if title else None, title_justify="left", box=box.SIMPLE_HEAD, padding=0
    )
    table.add_column(Text(heads[0]), overflow="fold")
    for head in heads[1:]:
        table.add_column(Text(head), justify="right", no_wrap=len(heads) < 12)
    return table


def summary_caption(rows: pd.DataFrame) -> str:
    """Return the caption: sample sizes, intervals, references and notes."""
    patients = count_range(rows["n_patients"].tolist(), "patient")
    chips = count_range(rows["n_chips"].tolist(), "chip")
    level = 100 * float(rows["level"].iloc[0])
    metrics = metrics_of(rows.columns)
    label = label_of(metrics[0])
    lines = [
        f"{patients}, {chips}. Intervals: {level:.3g} %, from a two-way bootstrap over patients "
        "and chips (digital: patients).",
        f"digital, hwa: trained digitally, or hardware-aware. {label} digital: the same network "
        "run digitally.",
        "Noise drop, and 1 day / digital, compare with the digitally trained network of the model, "
        "run digitally.",
        "t0: right after programming; 1 day: 86,400 s; 1 month: 2,592,000 s. "
        "\u00b1: standard deviation over chips.",
        f"Gain: {label} after 1 day minus that of the digitally trained network of the model, on "
        "the same chips.",
        "AVM: 1 month minus 1 s. Missed: structures whose prediction is empty.",
        *(
            f"{label_of(name)}: lower is better. Its drops are by how much it is worse, its gains "
            "by how much it is better."
            for name in metrics
            if is_lower_better(name)
        ),
    ]
    notes = run_notes(rows)
    return "\n".join([*lines, notes] if notes else lines)


def run_notes(rows: pd.DataFrame) -> str:
    """Return the limitations of each network's results, one per line; empty without any."""
    return "\n".join(
        f"{row['model']}, {row['training']}: {row['note']}."
        for row in records(rows)
        if isinstance(row["note"], str) and row["note"]
    )


def cost_tables(summary: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Return titles and columns of the cost tables: counted and estimated costs."""
    columns = [column for column in summary.columns if column in COSTS]
    estimated = [column for column in columns if column.startswith(PROFILED)]
    counted = [column for column in columns if column not in estimated]
    return [table for table in (("Cost", counted), (ESTIMATED, estimated)) if table[1]]


def _cost_table(title: str, rows: pd.DataFrame, columns: Sequence[str]) -> Table:
    table = _plain_table(title, ["\nmodel", *map(column_head, columns)])
    for row in cost_rows(rows, columns):
        table.add_row(*map(Text, [str(row["model"]), *(cost_text(c, row[c]) for c in columns)]))
    return table


def cost_rows(rows: pd.DataFrame, columns: Sequence[str]) -> list[Row]:
    """Return the cost per model; all trainings of a model use the same tiles."""
    return records(rows[["model", *columns]].drop_duplicates())


def _markdown_cells(row: Row, shown: Sequence[Estimate]) -> list[str]:
    cells = [f"{_estimate(row, e)} ({_interval(row, e.key)})" for e in shown]
    cells = [cell.removesuffix(f" ({UNKNOWN})") for cell in cells]
    return [str(row["model"]), str(row["training"]), *cells, _missed(row)]


def _pipe_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(heads)
    body = [[_escaped(cell) for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [heads, rule, *body])


def _estimate(row: Row, estimate: Estimate) -> str:
    text = _decimals(row[estimate.key])
    spread = spread_of(estimate)
    if spread and not pd.isna(row.get(spread.key)):
        text += f" \u00b1 {_decimals(row[spread.key])}"
    return text


def _interval(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    if pd.isna(low) or pd.isna(high):
        return UNKNOWN
    separator = EN_DASH if low >= 0 else " to "
    return _decimals(low) + separator + _decimals(high)


def _missed(row: Row) -> str:
    return UNKNOWN if pd.isna(row["missed"]) else f"{row['missed']}/{row['missed_of']}"


def _decimals(value: float) -> str:
    return UNKNOWN if pd.isna(value) else f"{value:.3f}".replace("-0.000", "0.000")


def _number(value: Any) -> str:
    """Return a cost as text: text and integers as they are, others with four significant digits."""
    if isinstance(value, str):
        return value
    if pd.isna(value):
        return UNKNOWN
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"


def cost_text(column: str, value: Any) -> str:
    """Return a cost as text: shares in per cent, names as they are."""
    share = column.startswith(("utilisation", "analog_", "estimated_utilisation"))
    return f"{value:.1%}" if share and not pd.isna(value) else _number(value)


def column_head(column: str) -> str:
    """Return the head of a cost column, in two lines."""
    return COSTS[column]


def _escaped(text: str) -> str:
    """Return a name with Markdown escaped."""
    return re.sub(r"([\\|<>*_`#\[\]])", r"\\\1", text).replace("\n", "  \n")
