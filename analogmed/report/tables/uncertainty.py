"""Uncertainty and calibration as tables for the terminal and a page."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S, time_label
from analogmed.report.names import model_name
from analogmed.report.text import (
    UNKNOWN,
    age,
    format_fixed,
    format_number,
    format_p,
    level_of,
    patients_of,
)
from analogmed.report.text_table import (
    Cell,
    Column,
    TextTable,
    estimate_cell,
    named_estimate,
    network_cell,
    terminal,
)
from analogmed.tables.table import records, require_columns

Row = dict[str, Any]
Measure = tuple[str, str]
"""Metric and region of an estimate."""

WIDTH = 140
IN_TERMINAL = {
    ("dice", "image"): "Dice",
    ("mean_entropy", "band"): "entropy\n(nats)",
    ("mean_variance", "band"): "variance\nx 1000",
    ("ece", "band"): "ECE",
    ("nll", "band"): "NLL",
    ("auroc_entropy", "band"): "AUROC\nof errors",
    ("aurc_entropy", "band"): "AURC",
    ("dice_correlation_per_foreground", "image"): "rank corr.\nDice",
}
ON_PAGE = {
    ("dice", "image"): "Dice",
    ("mean_variance", "band"): "variance",
    ("mean_entropy", "band"): "entropy (nats)",
    ("ece", "band"): "ECE",
    ("brier", "band"): "Brier",
    ("nll", "band"): "NLL",
    ("auroc_entropy", "band"): "AUROC of errors",
    ("aurc_entropy", "band"): "AURC",
}
_ORIGINS = {
    "mean_variance": "all",
    "mean_read_variance": "between reads",
    "mean_chip_variance": "between chips",
}
_KEYS = ["model", "training", "source", "time_s"]


def render_uncertainty(summary: pd.DataFrame) -> str:
    """Return uncertainty and calibration of each network, by source and time.

    Args:
        summary: ``summary.csv`` of an uncertainty run.

    Returns:
        plain text, at most 140 columns wide.

    Raises:
        DataError: a column is missing.
    """
    require_columns(
        summary, [*_KEYS, "region", "metric", "estimate", "low", "high", "n_patients", "level"]
    )
    columns = [
        Column(
            "model\ntraining",
            lambda row: Cell(str(row["model"]), str(row["training"])),
            is_text=True,
            wrap="no",
        ),
        Column(
            "passes",
            lambda row: Cell(_passes(str(row["source"])), time_text(row["time_s"])),
            is_text=True,
            wrap="no",
        ),
    ]
    columns += [Column(head, _measured(key, _in_terminal)) for key, head in IN_TERMINAL.items()]
    title = "Uncertainty and calibration; all but Dice in the boundary band of the structure"
    table = TextTable.of(title, columns, _by_pass(summary), stacked=True, leading=1)
    return (
        f"{terminal(table, width=WIDTH)}{patients_of(summary)}; {level_of(summary)} bootstrap "
        "intervals over patients, chips pooled. one: a single pass. T: temperature fitted on "
        "validation cases at that time. Whole image: summary.csv.\n"
    )


def uncertainty_table(summary: pd.DataFrame, *, scaled: bool = False) -> TextTable:
    """Return uncertainty and calibration of each network.

    Args:
        summary: ``summary.csv`` of an uncertainty run.
        scaled: whether to show results after temperature scaling instead of before.
    """
    wanted = summary[summary["source"].str.contains("+", regex=False) == scaled]
    known = set(zip(wanted["metric"], wanted["region"], strict=True))
    columns = [
        Column("network", _network, is_text=True),
        Column("passes", lambda row: _source(str(row["source"])), is_text=True),
        Column("time", lambda row: time_text(row["time_s"]), is_text=True),
    ]
    columns += [
        Column(head, _measured(key, _on_page)) for key, head in ON_PAGE.items() if key in known
    ]
    caption = (
        "All but Dice in a band about the structure. Below each estimate its interval over "
        f"{patients_of(summary)}. ECE: calibration error; AUROC: "
        "how well uncertainty finds wrong voxels; AURC: area under the risk-coverage curve."
    )
    title = "With a temperature fitted at each time" if scaled else "Uncertainty and calibration"
    return TextTable.of(title, columns, _by_pass(wanted), caption=caption)


def render_comparison(comparison: pd.DataFrame) -> str:
    """Return hardware-aware minus digital training; empty if one of them is missing.

    Args:
        comparison: ``comparison.csv`` of an uncertainty run.

    Raises:
        DataError: a column is missing.
    """
    require_columns(
        comparison, ["model", "source", "time_s", "region", "metric", "difference", "p_value"]
    )
    rows = records(_on_chips(comparison))
    if not rows:
        return ""
    p_name, p_head = _p_column(comparison)
    columns = (
        Column("model", lambda row: row["model"], is_text=True, wrap="no"),
        Column("time", lambda row: time_text(row["time_s"]), is_text=True, wrap="no"),
        Column("in the band", _metric_words, is_text=True, wrap="no"),
        Column("digital", lambda row: format_number(row["digital"])),
        Column("hwa", lambda row: format_number(row["hwa"])),
        Column(
            "hwa - digital",
            lambda row: named_estimate(row, "difference", write=format_number, dash=False),
        ),
        Column(p_head, lambda row: format_p(row[p_name])),
    )
    title = "Hardware-aware against digital training, on chips"
    return terminal(TextTable.of(title, columns, rows), width=WIDTH)


def trainings_table(comparison: pd.DataFrame, time_s: float | None = None) -> TextTable:
    """Return hardware-aware compared with digital training, on chips.

    Args:
        comparison: ``comparison.csv`` of an uncertainty run.
        time_s: time since programming; all times by default.
    """
    chosen = _on_chips(comparison)
    chosen = chosen if time_s is None else chosen[chosen["time_s"] == time_s]
    p_name, p_head = _p_column(comparison)

    def model(row: Row) -> str:
        when = f", {time_text(row['time_s'])}" if time_s is None else ""
        return model_name(row["model"]) + when

    columns = (
        Column("model", model, is_text=True),
        Column(
            "in the band",
            lambda row: ON_PAGE.get((row["metric"], row["region"])) or _metric_words(row),
            is_text=True,
        ),
        Column("digital", lambda row: format_number(row["digital"], _digits(row))),
        Column("hardware-aware", lambda row: format_number(row["hwa"], _digits(row))),
        Column(
            "difference",
            lambda row: named_estimate(
                row, "difference", write=partial(format_fixed, digits=_digits(row))
            ),
        ),
        Column(p_head, lambda row: format_p(row[p_name])),
    )
    caption = "p: permutation test over patients" + (
        ", with Holm's correction for the number of models, but not for that of metrics and times."
        if p_name == "p_holm"
        else ", not corrected for the number of rows."
    )
    when = "at all times" if time_s is None else age(time_s)
    title = f"Hardware-aware minus digital training, {when}"
    return TextTable.of(title, columns, records(chosen), caption=caption)


def time_to_look_at(comparison: pd.DataFrame) -> float | None:
    """Return one day, or else the last time since programming; ``None`` without a chip."""
    times_s = _on_chips(comparison)["time_s"].dropna()
    if times_s.empty:
        return None
    return DAY_S if (times_s == DAY_S).any() else float(times_s.max())


def split_table(summary: pd.DataFrame) -> TextTable:
    """Return the variance of the probability by origin; without rows if it was not split."""
    columns = [
        Column("network", _network, is_text=True),
        Column("time", lambda row: time_text(row["time_s"]), is_text=True),
    ]
    columns += [
        Column(head, _measured((metric, "band"), _on_page)) for metric, head in _ORIGINS.items()
    ]
    chips = summary[(summary["source"] == "chips") & (summary["region"] == "band")]
    needed = [("mean_read_variance", "band"), ("mean_chip_variance", "band")]
    return TextTable.of(
        "Variance of the probability, about the structure",
        columns,
        (row for row in _by_pass(chips) if all(key in row["measures"] for key in needed)),
        caption="Between reads of one chip: read noise and output noise. Between chips: "
        "programming noise and drift exponents.",
    )


def time_text(time_s: Any) -> str:
    """Return the name of a time since programming; ``digital`` without one."""
    return "digital" if pd.isna(time_s) else time_label(float(time_s))


def _by_pass(summary: pd.DataFrame) -> Iterator[Row]:
    """Yield network, source and time with their rows by metric and region as ``measures``."""
    for key, rows in summary.groupby(_KEYS, dropna=False, sort=False):
        measures = {(str(row["metric"]), str(row["region"])): row for row in records(rows)}
        yield {**dict(zip(_KEYS, key, strict=True)), "measures": measures}


def _measured(key: Measure, write: Callable[[Row], Cell]) -> Callable[[Row], Cell | str]:
    """Return the content of the column of a metric and region."""

    def cell(row: Row) -> Cell | str:
        found = row["measures"].get(key)
        return UNKNOWN if found is None else write(found)

    return cell


def _in_terminal(row: Row) -> Cell:
    factor = 1000.0 if row["metric"] == "mean_variance" else 1.0
    value, low, high = (factor * row[name] for name in ("estimate", "low", "high"))
    return estimate_cell(value, low, high, format_number)


def _on_page(row: Row) -> Cell:
    write = partial(format_fixed, digits=_digits(row))
    return estimate_cell(row["estimate"], row["low"], row["high"], write)


def _on_chips(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return rows on chips in the boundary band; Dice of the whole image."""
    place = (comparison["region"] == "band") | (comparison["metric"] == "dice")
    return comparison[(comparison["source"] == "chips") & place]


def _p_column(comparison: pd.DataFrame) -> tuple[str, str]:
    """Return name and head of the column of p-values, corrected if they are."""
    return ("p_holm", "p (Holm)") if "p_holm" in comparison else ("p_value", "p")


def _metric_words(row: Row) -> str:
    return str(row["metric"]).replace("_", " ")


def _digits(row: Row) -> int:
    return 5 if "variance" in str(row["metric"]) else 3


def _network(row: Row) -> Cell:
    return network_cell(str(row["model"]), str(row["training"]))


def _passes(source: str) -> str:
    """Return the short name of a source of passes, with T if temperature scaling was applied."""
    name, scaled, _ = source.partition("+temperature")
    short = {"deterministic": "one", "mc_dropout": "dropout"}.get(name, name)
    return f"{short} + T" if scaled else short


def _source(source: str) -> str:
    names = {"deterministic": "one, digital", "mc_dropout": "dropout"}
    name, plus, scaled = source.partition("+")
    return names.get(name, name) + (f" + {scaled}" if plus else "")
