"""Results of evaluations, placements and sensitivities as tables of a page."""

from typing import Any

import pandas as pd

from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.figures.style import age, count_range, time_label
from analogmed.report.names import metric_title, model_name, network_label, place_name
from analogmed.report.tables.evaluation import column_head, cost_rows, cost_tables, cost_text
from analogmed.report.tables.page import UNKNOWN, PageTable, number, p_text, with_interval
from analogmed.report.text import records
from analogmed.tables.estimates import Place, of_metric, shown_in, unit_of

Row = dict[str, Any]

COST_CAPTION = (
    "Utilisation: share of a tile's cells that hold a weight. Reuse: how often a tile multiplies a "
    "vector for one image. Both are means over tiles, over layers, and over all leaf modules, "
    "where transposed convolutions and modules without a tile count as 0."
)


def summary_table(summary: pd.DataFrame, comparison: pd.DataFrame | None, metric: str) -> PageTable:
    """Return a metric of each network, digitally and on the chip.

    Args:
        summary: ``summary.csv`` of an evaluation.
        comparison: ``comparison.csv``; its adjusted p-value of a training against the digital
            training is shown next to the gain.
        metric: name of the metric.
    """
    summary = of_metric(summary, metric)
    label, lower = label_of(metric), is_lower_better(metric)
    shown = _measured(summary, "page", metric)
    p_values = {} if comparison is None else against_digital(rows_of(comparison, metric))
    missed = bool(summary["missed"].notna().any())
    heads = ["network", *shown.values()]
    heads += ["p (Holm)"] * bool(p_values) + ["missed"] * missed
    rows = []
    for row in records(summary):
        cells = [_network(row, summary), *(_estimate(row, name) for name in shown)]
        if p_values:
            key = tuple(row[n] for n in ("task", "hardware", "model", "training"))
            cells.append(p_text(p_values.get(key, float("nan"))))
        rows.append((*cells, _missed(row)) if missed else tuple(cells))
    where = "" if _several(summary) else f" of {_place(records(summary)[0])}"
    level = 100 * float(summary["level"].iloc[0])
    digital = "that of the digitally trained network"
    on_chip = f"{label} on the chip after a day"
    kept = "Times digital" if lower else "Kept"
    gain = f"{digital}, less {on_chip}" if lower else f"{on_chip}, less {digital}"
    caption = (
        f"Below each estimate its {level:.3g} % interval, from a two-way bootstrap over patients "
        f"and chips (run digitally: patients). {_n(summary)}. t0: right after programming. {kept}: "
        f"{label} on the chip divided by {digital} run digitally. Gain of training: {gain}."
    )
    caption += " Lower is better." if lower else ""
    caption += " p: of the gain, over patients, after Holm's correction." if p_values else ""
    caption += " Missed: structures whose prediction is empty." if missed else ""
    title = metric_title(metric, unit_of(summary))
    return PageTable(f"{title}{where}", tuple(heads), tuple(rows), 1, caption)


def losses_table(summary: pd.DataFrame, metric: str) -> PageTable:
    """Return the loss of each network on the chip, and the variation between chips."""
    summary = of_metric(summary, metric)
    shown = _measured(summary, "losses", metric)
    rows = tuple(
        (_network(row, summary), *(_estimate(row, name) for name in shown))
        for row in records(summary)
    )
    return PageTable("The numbers of this figure", ("network", *shown.values()), rows)


def comparison_tables(comparison: pd.DataFrame) -> tuple[PageTable, ...]:
    """Return all pairwise comparisons of networks, one table per metric."""
    metrics = comparison["metric"].unique() if "metric" in comparison else [""]
    return tuple(
        _comparison_table(rows_of(comparison, metric), label_of(metric) if len(metrics) > 1 else "")
        for metric in map(str, metrics)
    )


def _comparison_table(comparison: pd.DataFrame, label: str) -> PageTable:
    rows = [
        (
            network_label(row["model"], row["training"]),
            network_label(row["other_model"], row["other_training"]),
            with_interval(row["difference"], row["low"], row["high"]),
            p_text(row["p_value"]),
            p_text(row["p_holm"]),
        )
        for row in records(comparison)
    ]
    time_s = float(comparison["time_s"].iloc[0])
    return PageTable(
        f"Every pair of networks, {age(time_s)}" + (f": {label}" if label else ""),
        ("network", "minus", "difference", "p", "p (Holm)"),
        tuple(rows),
        2,
        "p: sign-flip test over patients, and with Holm's correction for "
        f"{count_range([len(rows)], 'pair')}. Intervals count chips too. {_n(comparison)}.",
    )


def curves_table(curves: pd.DataFrame) -> PageTable:
    """Return the Dice of each network at each time."""
    times_s = sorted(curves["time_s"].dropna().unique())
    keys = ["task", "model", "training"]
    rows = []
    for key, part in curves.groupby(keys, sort=False):
        at = {row["time_s"]: row for row in records(part.dropna(subset="time_s"))}
        digital = records(part[part["time_s"].isna()])
        found = [digital[0] if digital else None, *(at.get(time_s) for time_s in times_s)]
        cells = [UNKNOWN if r is None else _of_interval(r) for r in found]
        name = network_label(str(key[1]), str(key[2]))
        rows.append((name, *cells))
    heads = ("network", "run digitally", *map(time_label, times_s))
    return PageTable("The numbers of this figure", heads, tuple(rows))


def failure_table(failures: pd.DataFrame) -> PageTable:
    """Return the time to failure of each network, with the limit if there are several."""
    rows = []
    several = failures["limit"].nunique() > 1
    for row in records(failures):
        until_s, again = row["holds_until_s"], row["reprogram_every_s"]
        fails_at = UNKNOWN if pd.isna(row["fails_at_s"]) else time_label(row["fails_at_s"])
        at_least = "at least " if row["censored"] else ""
        rows.append(
            (
                network_label(row["model"], row["training"]),
                *([number(row["limit"], 2)] if several else []),
                UNKNOWN if pd.isna(until_s) else time_label(until_s),
                "not in the sweep" if row["censored"] else fails_at,
                UNKNOWN if pd.isna(again) else at_least + time_label(again),
            )
        )
    heads = ("network", *(["limit"] if several else []), "meets the limit until", "fails at")
    caption = f"{UNKNOWN}: the limit is not met at the first measured time."
    return PageTable(
        "Time to failure",
        (*heads, "reprogram every"),
        tuple(rows),
        caption=caption if failures["holds_until_s"].isna().any() else "",
    )


def cost_tables_of(summary: pd.DataFrame) -> tuple[PageTable, ...]:
    """Return tiles, time and energy, if the summary contains them."""
    found = []
    for title, columns in cost_tables(summary):
        heads = ("model", *(" ".join(column_head(column).split()) for column in columns))
        rows = tuple(
            (model_name(row["model"]), *(cost_text(column, row[column]) for column in columns))
            for row in cost_rows(summary, columns)
        )
        caption = COST_CAPTION if any("utilisation_" in column for column in columns) else ""
        found.append(PageTable(title, heads, rows, caption=caption))
    return tuple(found)


def placement_table(steps: pd.DataFrame) -> PageTable:
    """Return every evaluated placement."""
    rows = tuple(
        (
            str(row["layer"]) or "(all analog)",
            "chosen" if row["chosen"] else "kept" if row["kept"] else "",
            str(row["digital_layers"]),
            with_interval(row["drop"], row["drop_low"], row["drop_high"]),
            number(row["latency_ms"]),
            number(row["energy_mj"]),
            str(row["tiles"]),
        )
        for row in records(steps)
    )
    heads = ("layer moved", "", "digital layers", "Dice lost", "ms", "mJ", "tiles")
    return PageTable("Placements", heads, rows, 2, "Time and energy of one slice, estimated.")


def sensitivity_table(ranking: pd.DataFrame) -> PageTable:
    """Return layers and noise sources by their Dice drop at the last time."""
    names = {
        "only_analog": "only this layer analog",
        "only_digital": "only this layer digital",
        "noise_alone": "only this noise source",
        "noise_all_but": "all noise sources but this",
    }
    time_s = float(ranking["time_s"].max())
    last = ranking[(ranking["time_s"] == time_s) & ranking["setting"].isin(list(names))]
    rows = tuple(
        (
            names[row["setting"]],
            str(row["subject"]),
            with_interval(row["effect"], row["effect_low"], row["effect_high"]),
        )
        for row in records(last.sort_values(["setting", "rank"]))
    )
    heads = ("setting", "layer or source", "Dice lost or regained")
    return PageTable(f"The numbers, {time_label(time_s)}", heads, rows, 2)


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


def _measured(summary: pd.DataFrame, place: Place, metric: str) -> dict[str, str]:
    """Return the keys and heads of the estimates of a place that have a value."""
    return {
        estimate.key: estimate.head(place, metric)
        for estimate in shown_in(place)
        if estimate.key in summary and summary[estimate.key].notna().any()
    }


def _several(summary: pd.DataFrame) -> bool:
    return len(summary[["task", "hardware"]].drop_duplicates()) > 1


def _place(row: Row) -> str:
    return place_name(str(row["task"]), str(row["hardware"]))


def _network(row: Row, summary: pd.DataFrame) -> str:
    """Return the name of a network, with task and hardware if they differ between rows."""
    where = f"{_place(row)}: " if _several(summary) else ""
    return where + network_label(row["model"], row["training"])


def _estimate(row: Row, name: str) -> str:
    return with_interval(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _of_interval(row: Row) -> str:
    return with_interval(row["estimate"], row["low"], row["high"])


def _missed(row: Row) -> str:
    known = not pd.isna(row["missed"])
    return f"{int(row['missed'])} of {int(row['missed_of'])}" if known else UNKNOWN


def _n(rows: pd.DataFrame) -> str:
    patients = count_range([int(n) for n in rows["n_patients"]], "patient")
    return f"{patients}, {count_range([int(n) for n in rows['n_chips']], 'chip')}"
