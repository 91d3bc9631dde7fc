"""Uncertainty, conformal masks and mitigations as text for the terminal."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.table import Table
from rich.text import Text

from analogmed.report.figures.style import count_range, time_label
from analogmed.report.text import printed, records
from analogmed.tables.table import require_columns

WIDTH = 140
UNKNOWN = "\u2013"
SHOWN = {
    ("dice", "image"): "Dice",
    ("mean_entropy", "band"): "entropy\n(nats)",
    ("mean_variance", "band"): "variance\nx 1000",
    ("ece", "band"): "ECE",
    ("nll", "band"): "NLL",
    ("auroc_entropy", "band"): "AUROC\nof errors",
    ("aurc_entropy", "band"): "AURC",
    ("dice_correlation_per_foreground", "image"): "rank corr.\nDice",
}
_SCALED = "+temperature"
_KEYS = ["model", "training", "source", "time_s"]
_COSTS = {
    "images": "images",
    "labelled_images": "labelled",
    "passes": "passes",
    "parameters": "digital\nnumbers",
}


def render_uncertainty(summary: pd.DataFrame) -> str:
    """Return uncertainty and calibration of each network, by source and time.

    Args:
        summary: ``summary.csv`` of an uncertainty run.

    Returns:
        plain text, at most 140 columns wide.

    Raises:
        DataError: a column is missing.
    """
    require_columns(summary, [*_KEYS, "region", "metric", "estimate", "low", "high", "n_patients"])
    lines = []
    for key, rows in summary.groupby(_KEYS, dropna=False, sort=False):
        model, training, source, time_s = key
        known = {(str(row["metric"]), str(row["region"])): row for row in records(rows)}
        cells = [_with_interval(known.get(name), name[0]) for name in SHOWN]
        lines.append([f"{model}\n{training}", f"{_passes(str(source))}\n{_time(time_s)}", *cells])
    text = _render(
        "Uncertainty and calibration; all but Dice in the boundary band of the structure",
        ["model\ntraining", "passes", *SHOWN.values()],
        lines,
        text_columns=2,
        leading=1,
    )
    patients = count_range(summary["n_patients"].tolist(), "patient")
    return (
        f"{text}{patients}; 95 % bootstrap intervals over patients, chips pooled. one: a single "
        "pass. T: temperature fitted on validation cases at that time. Whole image: summary.csv.\n"
    )


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
    rows = comparison[
        (comparison["source"] == "chips")
        & ((comparison["region"] == "band") | (comparison["metric"] == "dice"))
    ]
    if rows.empty:
        return ""
    p_value, p_head = ("p_holm", "p (Holm)") if "p_holm" in rows else ("p_value", "p")
    lines = [
        [
            str(row["model"]),
            _time(row["time_s"]),
            str(row["metric"]).replace("_", " "),
            _number(row["digital"]),
            _number(row["hwa"]),
            _interval(row, "difference"),
            _number(row[p_value], 2),
        ]
        for row in records(rows)
    ]
    heads = ["model", "time", "in the band", "digital", "hwa", "hwa - digital", p_head]
    return _render(
        "Hardware-aware against digital training, on chips", heads, lines, text_columns=3
    )


def render_conformal(summary: pd.DataFrame) -> str:
    """Return false-negative rate and predicted volume of conformal masks.

    Args:
        summary: ``conformal_summary.csv`` of an uncertainty run.

    Raises:
        DataError: a column is missing.
    """
    if summary.empty:
        return ""
    needed = ["model", "training", "calibrated", "time_s", "class", "fnr", "volume_ratio", "kept"]
    require_columns(summary, [*needed, "alpha", "n_units", "trivial"])
    lines = [
        [
            f"{row['model']} {row['training']}",
            str(row["class"]),
            {"digital": "digitally", "first": "at first time", "each": "at this time"}[
                row["calibrated"]
            ],
            _time(row["time_s"]),
            _interval(row, "fnr"),
            _interval(row, "volume_ratio"),
            "marks all" if row["trivial"] else str(row["kept"]),
            str(row["n_units"]),
        ]
        for row in records(summary)
    ]
    title = f"Conformal masks: at most {100 * summary['alpha'].iloc[0]:g} % of a structure missed?"
    heads = ["network", "class", "set", "used", "share missed", "marked / true volume"]
    return _render(title, [*heads, "kept", "patients\nto set"], lines, text_columns=4)


def render_mitigation(summary: pd.DataFrame) -> str:
    """Return the effect and cost of each mitigation at each time.

    Args:
        summary: ``summary.csv`` of a mitigation run.

    Raises:
        DataError: a column is missing.
    """
    require_columns(
        summary, ["model", "training", "time_s", "option", "metric", "value", "gain", *_COSTS]
    )
    lines = []
    keys = ["model", "training", "time_s", "option"]
    for key, rows in summary.groupby(keys, sort=False):
        by_metric = {str(row["metric"]): row for row in records(rows)}
        cells = []
        for metric in ("dice", "ece_band", "nll_band"):
            row = by_metric[metric]
            cells.append(f"{_number(row['value'])}\n{_signed(row)}")
        any_row = by_metric["dice"]
        costs = [str(any_row[name]) for name in _COSTS]
        lines.append([f"{key[0]}\n{key[1]}", _time(key[2]), str(key[3]), *cells, *costs])
    heads = ["model", "time", "option", "Dice\ngain", "ECE, band\ngain", "NLL, band\ngain"]
    text = _render(
        "Mitigations on the chip", [*heads, *_COSTS.values()], lines, text_columns=3, leading=1
    )
    patients = count_range(summary["n_patients"].tolist(), "patient")
    chips = count_range(summary["n_chips"].tolist(), "chip")
    return (
        f"{text}Gain: drift_compensation and all against none, the others against "
        f"drift_compensation; {patients}, {chips}, 95 % intervals of a two-way bootstrap.\n"
        "images: unlabelled images, labelled: labelled images needed each time; passes through the "
        "chip.\n"
    )


def _with_interval(row: dict[str, Any] | None, metric: str) -> str:
    if row is None or pd.isna(row["estimate"]):
        return UNKNOWN
    factor = 1000.0 if metric == "mean_variance" else 1.0
    text = _number(factor * row["estimate"])
    if pd.isna(row["low"]):
        return text
    separator = "\u2013" if row["low"] >= 0 else " to "
    return f"{text}\n{_number(factor * row['low'])}{separator}{_number(factor * row['high'])}"


def _passes(source: str) -> str:
    """Return the short name of a source of passes, with T if temperature scaling was applied."""
    name, scaled, _ = source.partition(_SCALED)
    short = {"deterministic": "one", "mc_dropout": "dropout"}.get(name, name)
    return f"{short} + T" if scaled else short


def _interval(row: dict[str, Any], name: str) -> str:
    text, low, high = _number(row[name]), row[f"{name}_low"], row[f"{name}_high"]
    return text if pd.isna(low) else f"{text} ({_number(low)} to {_number(high)})"


def _signed(row: dict[str, Any]) -> str:
    if pd.isna(row["gain"]):
        return ""
    if pd.isna(row["gain_low"]):
        return f"{row['gain']:+.3f}"
    return f"{row['gain']:+.3f}\n{row['gain_low']:+.3f} to {row['gain_high']:+.3f}"


def _time(time_s: Any) -> str:
    return "digital" if pd.isna(time_s) else time_label(float(time_s))


def _number(value: float, digits: int = 3) -> str:
    if pd.isna(value):
        return UNKNOWN
    small = value != 0 and abs(value) < 10**-digits
    return f"{value:.1e}" if small else f"{value:.{digits}f}"


def _render(
    title: str,
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    *,
    text_columns: int,
    leading: int = 0,
) -> str:
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.leading = leading
    for index, head in enumerate(heads):
        left = index < text_columns
        table.add_column(Text(head), justify="left" if left else "right", no_wrap=left)
    for line in lines:
        table.add_row(*map(Text, line))
    return printed(table, width=WIDTH)
