"""Results of an evaluation as a table that fits a terminal of 80 columns."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S, MONTH_S, T0_S, time_label
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.levels import few_patients
from analogmed.report.names import metric_title, network_label, place_name
from analogmed.report.tables.class_scores import low_classes
from analogmed.report.tables.evaluation import render_cost_tables, run_notes
from analogmed.report.tables.evaluation_page import rows_of
from analogmed.report.text import format_fixed, level_of, sample_sizes
from analogmed.report.text_table import (
    Cell,
    Column,
    TextTable,
    estimate_cell,
    network_cell,
    terminal,
)
from analogmed.tables.estimates import (
    ENDS,
    OWN_REFERENCE,
    drop_word,
    metrics_of,
    of_metric,
    unit_of,
)
from analogmed.tables.table import records

Row = dict[str, Any]

WIDTH = 80
_LONG_HEAD = 6
_MOST_LOW = 4
_LARGE = 10.0
"""Absolute value from which one decimal is shown."""


def render_evaluation(
    summary: pd.DataFrame,
    curves: pd.DataFrame,
    classes: pd.DataFrame | None = None,
    *,
    costs: bool = False,
) -> str:
    """Return one line per network: its metric digitally, on the chip over time, and the drop.

    Args:
        summary: ``summary.csv`` of one or more evaluations.
        curves: ``curves.csv`` of the same evaluations.
        classes: ``class_scores.csv`` of the same evaluations, for sentences on classes with a low
            digital score.
        costs: whether tables of the costs follow, 120 columns wide.

    Returns:
        Plain text of at most 80 columns, without terminal codes.
    """
    if summary.empty:
        return "No network was evaluated on a chip.\n"
    parts: list[TextTable | str] = []
    for (task, hardware), rows in summary.groupby(["task", "hardware"], sort=False):
        here = curves[(curves["task"] == task) & (curves["hardware"] == hardware)]
        for metric in metrics_of(rows.columns):
            of_this = of_metric(rows, metric)
            title = metric_title(metric, unit_of(of_this))
            title = f"{place_name(str(task), str(hardware))}: {title}"
            parts.append(_table(title, of_this, rows_of(here, metric), metric))
        if missed := [*_missed(rows)]:
            parts += [*missed, ""]
    if low := _low_classes(pd.DataFrame() if classes is None else classes):
        parts += [low, ""]
    parts.append(_caption(summary, has_intervals=bool(curves["drift_drop_low"].notna().any())))
    return terminal(*parts, width=WIDTH) + (render_cost_tables(summary) if costs else "")


def shown_times(times_s: Sequence[float]) -> list[float]:
    """Return at most three times: the first one, one day, and one month or else the last one.

    Example:
        >>> shown_times([0.0, 1.0, 86_400.0, 2_592_000.0, 31_536_000.0])
        [0.0, 86400.0, 2592000.0]
        >>> shown_times([1.0, 86_400.0, 172_800.0])
        [1.0, 86400.0, 172800.0]
    """
    known = sorted(times_s)
    last = MONTH_S if MONTH_S in known else known[-1]
    return [time_s for time_s in known if time_s in (known[0], DAY_S, last)]


def _table(title: str, summary: pd.DataFrame, curves: pd.DataFrame, metric: str) -> TextTable:
    """Return the table of one metric of the networks on one kind of chip."""
    times_s = shown_times(curves["time_s"].dropna().unique().tolist())
    drop_at_s = DAY_S if DAY_S in times_s else times_s[-1]
    at = {(row["model"], row["training"], row["time_s"]): row for row in records(curves)}
    digits = _digits([*summary["own_digital"], *curves["estimate"], *curves["drift_drop_high"]])
    head = f"{drop_word(metric)} {_since(drop_at_s)}"

    def row_at(row: Row, time_s: float) -> Row:
        return at.get((row["model"], row["training"], time_s), {})

    def value_at(time_s: float, row: Row) -> str:
        return format_fixed(row_at(row, time_s).get("estimate", math.nan), digits)

    def drop(row: Row) -> Cell:
        at_s = row_at(row, drop_at_s)
        value, low, high = (at_s.get(f"drift_drop{end}", math.nan) for end in ENDS)
        write = partial(format_fixed, digits=digits)
        return estimate_cell(value, low, high, write=write)

    columns = [
        Column(
            "\nnetwork",
            lambda row: network_cell(row["model"], row["training"]),
            is_text=True,
            wrap="anywhere",
        ),
        Column("\ndigital", lambda row: format_fixed(row["own_digital"], digits), wrap="no"),
        *(Column(_head(time_s), partial(value_at, time_s), wrap="no") for time_s in times_s),
        Column(f"{head}\n({level_of(summary)} interval)", drop, wrap="no"),
    ]
    return TextTable.of(title, columns, records(summary), spaced=False)


def _digits(values: Sequence[float]) -> int:
    """Return the number of decimals for values of one metric."""
    largest = max((abs(value) for value in values if pd.notna(value)), default=0.0)
    return 1 if largest >= _LARGE else 3


def _head(time_s: float) -> str:
    """Return the head of a time in two lines."""
    label = "new chip" if time_s == T0_S else time_label(time_s)
    return label.replace(" ", "\n") if len(label) > _LONG_HEAD else f"\n{label}"


def _since(time_s: float) -> str:
    return "on a new chip" if time_s == T0_S else f"in {time_label(time_s)}"


def _missed(summary: pd.DataFrame) -> Iterator[str]:
    """Yield a sentence on the structures that networks miss after one day, if it was measured."""
    known = records(summary[summary["missed"].notna()])
    missing = [
        f"{network_label(row['model'], row['training'])} {row['missed']:.0f} of "
        f"{row['missed_of']:.0f}"
        for row in known
        if row["missed"]
    ]
    if missing:
        yield f"Missed after 1 day, of all structures on all chips: {'; '.join(missing)}."
    elif known:
        yield "No network misses a structure on chips after 1 day."


def _low_classes(classes: pd.DataFrame) -> str:
    """Return sentences on the first classes with a low digital score; empty without one."""
    found = [*low_classes(classes)]
    more = f"{len(found) - _MOST_LOW} more of such classes: --wide true."
    return "\n".join([*found[:_MOST_LOW], *([more] if len(found) > _MOST_LOW else [])])


def reference_of(summary: pd.DataFrame) -> str:
    """Return the network that drops refer to, of ``summary.csv`` or ``curves.csv``."""
    is_own = [OWN_REFERENCE in note for note in summary["note"].astype("string").fillna("")]
    if all(is_own):
        return "the same network without a chip"
    other = "the digitally trained network without a chip"
    return f"{other}, or else the same network" if any(is_own) else other


def _caption(summary: pd.DataFrame, *, has_intervals: bool) -> str:
    """Return the caption: sample sizes, intervals, the reference of drops, and notes."""
    metrics = metrics_of(summary.columns)
    label = label_of(metrics[0])
    words = ", ".join(dict.fromkeys(map(drop_word, metrics)))
    intervals = f" Intervals: {level_of(summary)}, over patients and chips."
    lines = [
        f"{sample_sizes(summary)} per network.{intervals if has_intervals else ''}",
        *few_patients(int(summary["n_patients"].min()), float(summary["level"].iloc[0])),
        f"digital: {label} of the network without a chip. new chip: right after programming.",
        f"{words}: against {reference_of(summary)}, paired.",
        *(f"{label_of(name)}: lower is better." for name in metrics if is_lower_better(name)),
    ]
    return "\n".join([*lines, run_notes(summary)]).rstrip()
