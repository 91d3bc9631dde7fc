"""Results of an evaluation as tables of a page."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import TIME_NAMES, time_label
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.levels import unstated
from analogmed.report.names import (
    capitalised,
    metric_title,
    model_name,
    normalised_meaning,
    place_name,
)
from analogmed.report.tables.evaluation import (
    column_head,
    cost_rows,
    cost_tables,
    cost_text,
    estimate_of,
    has_missed,
)
from analogmed.report.text import (
    UNKNOWN,
    age,
    count_range,
    format_number,
    format_p,
    level_of,
    sample_sizes,
)
from analogmed.report.text_table import (
    Cell,
    Column,
    TextTable,
    estimate_cell,
    network_cell,
)
from analogmed.tables.estimates import ENDS, Estimate, Place, of_metric, shown_in, unit_of
from analogmed.tables.table import records

Row = dict[str, Any]

COST_CAPTION = (
    "Utilisation: share of a tile's cells that hold a weight. Reuse: how often a tile multiplies a "
    "vector for one input of the network. By tile, by layer: means over these. By module: mean "
    "over all modules, where transposed convolutions and modules without a tile, such as norms and "
    "activations, count as 0."
)


def summary_table(summary: pd.DataFrame, comparison: pd.DataFrame | None, metric: str) -> TextTable:
    """Return a metric of each network, digitally and on the chip.

    Args:
        summary: ``summary.csv`` of an evaluation.
        comparison: ``comparison.csv``; its adjusted p-value of a training against the digital
            training is shown next to the gain.
        metric: name of the metric.
    """
    summary = of_metric(summary, metric)
    p_values = {} if comparison is None else against_digital(rows_of(comparison, metric))
    missed = has_missed(summary)
    columns = [_network_column(summary), *_measured(summary, "page", metric)]
    if p_values:
        columns.append(Column("p (Holm)", lambda row: format_p(_p_value(row, p_values))))
    if missed:
        columns.append(Column("missed", _missed))
    where = "" if _several(summary) else f" of {_place(records(summary)[0])}"
    title = metric_title(metric, unit_of(summary))
    caption = [
        f"Below each estimate its {level_of(summary)} interval, from a two-way bootstrap over "
        f"patients and chips (run digitally: patients). {sample_sizes(summary)}.",
        *_meanings(summary, metric),
        *(["p: of the gain, over patients, after Holm's correction."] if p_values else []),
        *(["Missed: structures whose prediction is empty."] if missed else []),
        *unstated_sentences(records(summary), metric),
    ]
    return TextTable.of(f"{title}{where}", columns, records(summary), caption=" ".join(caption))


def _meanings(summary: pd.DataFrame, metric: str) -> Iterator[str]:
    """Yield the meaning of the columns of a metric that the table has."""
    label, lower = label_of(metric), is_lower_better(metric)
    shown = {estimate.key for estimate in _known(summary, "page")}
    if "t0" in shown:
        yield "t0: right after programming."
    if "normalised_1d" in shown:
        yield normalised_meaning(metric)
    if "gain_1d" in shown:
        on_chip, digital = (
            f"{label} on the chip after a day",
            "that of the digitally trained network",
        )
        gain = f"{digital} minus {on_chip}" if lower else f"{on_chip} minus {digital}"
        yield f"Gain of training: {gain}."
    if lower:
        yield "Lower is better."


def unstated_sentences(rows: list[Row], metric: str) -> list[str]:
    """Return why normalised values are not stated, one sentence per model; none if they are.

    Args:
        rows: networks in a summary of one metric.
        metric: its metric.
    """
    reasons = (unstated(row, metric, f" of the {model_name(row['model'])}") for row in rows)
    return [f"{capitalised(reason)}." for reason in dict.fromkeys(filter(None, reasons))]


def drops_table(summary: pd.DataFrame, metric: str) -> TextTable:
    """Return the drop of each network on the chip, and the variation between chips."""
    summary = of_metric(summary, metric)
    columns = [_network_column(summary), *_measured(summary, "drops", metric)]
    return TextTable.of("The numbers of this figure", columns, records(summary))


def comparison_tables(comparison: pd.DataFrame) -> tuple[TextTable, ...]:
    """Return all pairwise comparisons of networks, one table per metric."""
    metrics = comparison["metric"].unique() if "metric" in comparison else [""]
    return tuple(
        _comparison_table(rows_of(comparison, metric), label_of(metric) if len(metrics) > 1 else "")
        for metric in map(str, metrics)
    )


def _comparison_table(comparison: pd.DataFrame, label: str) -> TextTable:
    columns = (
        Column("network", lambda row: network_cell(row["model"], row["training"]), is_text=True),
        Column(
            "minus",
            lambda row: network_cell(row["other_model"], row["other_training"]),
            is_text=True,
        ),
        Column("difference", lambda row: estimate_cell(row["difference"], row["low"], row["high"])),
        Column("p", lambda row: format_p(row["p_value"])),
        Column("p (Holm)", lambda row: format_p(row["p_holm"])),
    )
    rows = records(comparison)
    time_s = float(comparison["time_s"].iloc[0])
    return TextTable.of(
        f"Every pair of networks, {age(time_s)}" + (f": {label}" if label else ""),
        columns,
        rows,
        caption="p: sign-flip test over patients, and with Holm's correction for "
        f"{count_range([len(rows)], 'pair')}. Intervals count chips too. "
        f"{sample_sizes(comparison)}.",
    )


def curves_table(
    curves: pd.DataFrame, *, drops: bool = False, names: Mapping[float, str] = TIME_NAMES
) -> TextTable:
    """Return the metric of each network at each time, or its drop against the digital run."""
    times_s = sorted(curves["time_s"].dropna().unique())
    metric = str(curves["metric"].iloc[0])
    ends = [f"drift_drop{end}" for end in ENDS] if drops else ["estimate", "low", "high"]
    columns = [Column("network", itemgetter("network"), is_text=True)]
    if not drops:
        columns.append(Column("run digitally", itemgetter("digital")))
    columns += [Column(time_label(time_s, names), _at(time_s)) for time_s in times_s]
    rows = []
    for key, part in curves.groupby(["task", "model", "training"], sort=False):
        found: dict[Any, Cell] = {
            "digital" if pd.isna(row["time_s"]) else row["time_s"]: estimate_cell(
                *(row[name] for name in ends)
            )
            for row in reversed(records(part))
        }
        network = network_cell(str(key[1]), str(key[2]))
        rows.append({"digital": UNKNOWN, **found, "network": network})
    title = metric_title(metric, str(curves["unit"].iloc[0]))
    title = "The numbers of this figure" if drops else f"{title} at each time"
    return TextTable.of(title, columns, rows)


def _at(time_s: float) -> Callable[[dict[Any, Cell]], Cell | str]:
    return lambda row: row.get(time_s, UNKNOWN)


def failure_table(failures: pd.DataFrame) -> TextTable:
    """Return the time to failure of each network, with the limit if there are several."""
    columns = [
        Column("network", lambda row: network_cell(row["model"], row["training"]), is_text=True)
    ]
    if failures["limit"].nunique() > 1:
        columns.append(Column("limit", lambda row: format_number(row["limit"], 2)))
    columns += [
        Column("meets the limit until", lambda row: _time(row["holds_until_s"])),
        Column("fails at", _fails_at),
        Column("reprogram every", _reprogram_every),
    ]
    unmet = failures["holds_until_s"].isna().any()
    caption = f"{UNKNOWN}: the limit is not met at the first measured time." if unmet else ""
    return TextTable.of("Time to failure", columns, records(failures), caption=caption)


def _fails_at(row: Row) -> str:
    return "not in the sweep" if row["censored"] else _time(row["fails_at_s"])


def _reprogram_every(row: Row) -> str:
    again = row["reprogram_every_s"]
    at_least = "at least " if row["censored"] and not pd.isna(again) else ""
    return at_least + _time(again)


def _time(time_s: float) -> str:
    return UNKNOWN if pd.isna(time_s) else time_label(time_s)


def cost_tables_of(summary: pd.DataFrame) -> tuple[TextTable, ...]:
    """Return tiles, time and energy, if the summary contains them."""
    return tuple(_cost_tables(summary))


def _cost_tables(summary: pd.DataFrame) -> Iterator[TextTable]:
    for title, names in reversed(cost_tables(summary)):
        columns = [Column("model", lambda row: model_name(row["model"]), is_text=True)]
        columns += [Column(column_head(name, summary), partial(_cost, name)) for name in names]
        caption = COST_CAPTION if any("utilisation_" in name for name in names) else ""
        yield TextTable.of(title, columns, cost_rows(summary, names), caption=caption)


def _cost(name: str, row: Row) -> str:
    return cost_text(name, row[name])


def against_digital(comparison: pd.DataFrame) -> dict[tuple[Any, ...], float]:
    """Return the adjusted p-value of each training against the digital one of the same model.

    Keys are task, hardware, model and training; empty if the table has no adjusted p-values.
    """
    if "p_holm" not in comparison:
        return {}
    found: dict[tuple[Any, ...], float] = {}
    for row in records(comparison):
        trainings = {row["training"], row["other_training"]}
        if row["model"] == row["other_model"] and "digital" in trainings and len(trainings) == 2:
            (training,) = trainings - {"digital"}
            key = (row["task"], row["hardware"], row["model"], training)
            found[key] = row["p_holm"]
    return found


def rows_of(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return the rows of a metric; all rows of a table that does not name its metric."""
    return table[table["metric"] == metric] if "metric" in table else table


def _measured(summary: pd.DataFrame, place: Place, metric: str) -> Iterator[Column]:
    """Yield the columns of the estimates of a place that have a value."""
    for estimate in _known(summary, place):
        yield Column(estimate.head(place, metric), partial(estimate_of, estimate, metric))


def _known(summary: pd.DataFrame, place: Place) -> list[Estimate]:
    """Return the estimates of a place that have a value."""
    return [e for e in shown_in(place) if e.key in summary and summary[e.key].notna().any()]


def _several(summary: pd.DataFrame) -> bool:
    return len(summary[["task", "hardware"]].drop_duplicates()) > 1


def _place(row: Row) -> str:
    return place_name(str(row["task"]), str(row["hardware"]))


def _network_column(summary: pd.DataFrame) -> Column:
    """Return the column of networks, with task and hardware if they differ between rows."""
    several = _several(summary)

    def network(row: Row) -> Cell:
        cell = network_cell(row["model"], row["training"])
        where = f"{_place(row)}: " if several else ""
        return Cell(where + cell.text, cell.second, cell.joined)

    return Column("network", network, is_text=True)


def _p_value(row: Row, p_values: dict[tuple[Any, ...], float]) -> float:
    key = tuple(row[name] for name in ("task", "hardware", "model", "training"))
    return p_values.get(key, float("nan"))


def _missed(row: Row) -> str:
    known = not pd.isna(row["missed"])
    return f"{int(row['missed'])} of {int(row['missed_of'])}" if known else UNKNOWN
