"""Uncertainty and calibration as tables for the terminal and a page."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S, time_label
from analogmed.metrics.registry import PRIMARY, is_metric, label_of
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
from analogmed.tables.uncertainty import REGIONS

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
OF_IMAGES = {
    ("mean_variance", "image"): "variance",
    ("mean_entropy", "image"): "entropy (nats)",
    ("mean_mutual_information", "image"): "mutual information (nats)",
    ("ece_pooled", "image"): "ECE",
    ("brier", "image"): "Brier",
    ("nll", "image"): "NLL",
    ("auroc_entropy", "image"): "AUROC of errors",
}
"""Measures of classified images, besides the primary metric, in the terminal and on a page."""
_HEADS = {
    "variance": "variance\nx 1000",
    "entropy (nats)": "entropy\n(nats)",
    "AUROC of errors": "AUROC\nof errors",
}
"""Heads of columns in the terminal that differ from those on a page."""
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
    shown = _shown(summary, IN_TERMINAL)
    shown.pop(("mean_mutual_information", "image"), None)  # nine columns are too wide
    columns += [
        Column(_HEADS.get(head, head), _measured(key, _in_terminal)) for key, head in shown.items()
    ]
    title, more = "Uncertainty and calibration", "Each class"
    if has_band(summary):
        title += "; all but Dice in the boundary band of the structure"
        more = "Whole image"
    table = TextTable.of(title, columns, _by_pass(summary), stacked=True, leading=1)
    return (
        f"{terminal(table, width=WIDTH)}{patients_of(summary)}; {level_of(summary)} bootstrap "
        "intervals over patients, chips pooled. one: a single pass. T: temperature fitted on "
        f"validation cases at that time. {more}: summary.csv.\n"
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
        Column(head, _measured(key, _on_page))
        for key, head in _shown(summary, ON_PAGE).items()
        if key in known
    ]
    interval = f"Below each estimate its interval over {patients_of(summary)}."
    caption = (
        f"All but Dice in a band about the structure. {interval} ECE: calibration error; AUROC: "
        "how well uncertainty finds wrong voxels; AURC: area under the risk-coverage curve."
        if has_band(summary)
        else f"{interval} ECE: calibration error; AUROC of errors: how well uncertainty finds "
        "wrong predictions."
    )
    title = "With a temperature fitted at each time" if scaled else "Uncertainty and calibration"
    return TextTable.of(title, columns, _by_pass(wanted), caption=caption)


def class_table(summary: pd.DataFrame) -> TextTable:
    """Return the calibration of each class of classified images; without rows for masks."""
    classes = summary[~summary["region"].isin(REGIONS)]
    primary = _primary_of(summary)
    heads = {primary: label_of(primary), "ece_pooled": "ECE", "brier": "Brier", "nll": "NLL"}
    columns = [
        Column("network", _network, is_text=True),
        Column("passes", lambda row: _source(str(row["source"])), is_text=True),
        Column("time", lambda row: time_text(row["time_s"]), is_text=True),
        Column("class", lambda row: row["region"], is_text=True),
    ]
    columns += [Column(head, _of_class(metric)) for metric, head in heads.items()]
    rows = _by_pass(classes, "region")
    caption = "ECE: mean gap between the probability of a class and the share of images with it."
    return TextTable.of("Score and calibration of each class", columns, rows, caption=caption)


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
        Column(_place_words(comparison), _metric_words, is_text=True, wrap="no"),
        Column("digital", lambda row: format_number(row["digital"])),
        Column("hwa", lambda row: format_number(row["hwa"])),
        Column(
            "hwa - digital",
            lambda row: named_estimate(row, "difference", write=format_number),
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
    named = _shown(comparison, ON_PAGE)

    def model(row: Row) -> str:
        when = f", {time_text(row['time_s'])}" if time_s is None else ""
        return model_name(row["model"]) + when

    columns = (
        Column("model", model, is_text=True),
        Column(
            _place_words(comparison),
            lambda row: named.get((row["metric"], row["region"])) or _metric_words(row),
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
    place = "band" if has_band(summary) else "image"
    columns += [
        Column(head, _measured((metric, place), _on_page)) for metric, head in _ORIGINS.items()
    ]
    chips = summary[(summary["source"] == "chips") & (summary["region"] == place)]
    needed = [("mean_read_variance", place), ("mean_chip_variance", place)]
    return TextTable.of(
        f"Variance of the probability{', about the structure' * has_band(summary)}",
        columns,
        (row for row in _by_pass(chips) if all(key in row["measures"] for key in needed)),
        caption="Between reads of one chip: read noise and output noise. Between chips: "
        "programming noise and drift exponents.",
    )


def time_text(time_s: Any) -> str:
    """Return the name of a time since programming; ``digital`` without one."""
    return "digital" if pd.isna(time_s) else time_label(float(time_s))


def _of_class(metric: str) -> Callable[[Row], Cell | str]:
    """Return the content of the column of a metric in rows of a class."""
    return lambda row: _measured((metric, row["region"]), _on_page)(row)


def has_band(table: pd.DataFrame) -> bool:
    """Return whether a table has rows in the boundary band of masks."""
    return bool((table["region"] == "band").any())


def _primary_of(table: pd.DataFrame) -> str:
    """Return the primary metric of an uncertainty run: the only score among its metrics."""
    return next((name for name in table["metric"].unique() if is_metric(name)), PRIMARY)


def _shown(table: pd.DataFrame, of_masks: dict[Measure, str]) -> dict[Measure, str]:
    """Return the measures to show: those of masks, or those of classified images."""
    primary = _primary_of(table)
    known = set(zip(table["metric"], table["region"], strict=True))
    if has_band(table):
        return dict(of_masks)
    of_images = {key: head for key, head in OF_IMAGES.items() if key in known}
    return {(primary, "image"): label_of(primary), **of_images}


def _by_pass(summary: pd.DataFrame, *further: str) -> Iterator[Row]:
    """Yield network, source and time with their rows by metric and region as ``measures``."""
    keys = [*_KEYS, *further]
    for key, rows in summary.groupby(keys, dropna=False, sort=False):
        measures = {(str(row["metric"]), str(row["region"])): row for row in records(rows)}
        yield {**dict(zip(keys, key, strict=True)), "measures": measures}


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
    """Return rows on chips in the boundary band and Dice of the whole image, or of all images."""
    place = (comparison["region"] == "band") | (comparison["metric"] == "dice")
    if not has_band(comparison):
        place = comparison["region"] == "image"
    return comparison[(comparison["source"] == "chips") & place]


def _place_words(comparison: pd.DataFrame) -> str:
    return "in the band" if has_band(comparison) else "of all images"


def _p_column(comparison: pd.DataFrame) -> tuple[str, str]:
    """Return name and head of the column of p-values, corrected if they are."""
    return ("p_holm", "p (Holm)") if "p_holm" in comparison else ("p_value", "p")


def _metric_words(row: Row) -> str:
    return str(row["metric"]).replace("_", " ")


def _digits(row: Row) -> int:
    return 5 if any(word in str(row["metric"]) for word in ("variance", "mutual")) else 3


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
