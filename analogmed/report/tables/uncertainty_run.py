"""Results of uncertainty and mitigation runs as tables of a page."""

from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S
from analogmed.report.figures.style import age, count_range, time_label
from analogmed.report.names import model_name, network_label
from analogmed.report.tables.page import UNKNOWN, PageTable, number, p_text, with_interval
from analogmed.report.text import records

Row = dict[str, Any]

METRICS = {
    ("dice", "image"): "Dice",
    ("mean_variance", "band"): "variance",
    ("mean_entropy", "band"): "entropy (nats)",
    ("ece", "band"): "ECE",
    ("brier", "band"): "Brier",
    ("nll", "band"): "NLL",
    ("auroc_entropy", "band"): "AUROC of errors",
    ("aurc_entropy", "band"): "AURC",
}
_PARTS = {
    "mean_variance": "all",
    "mean_read_variance": "between reads",
    "mean_chip_variance": "between chips",
}


def uncertainty_table(summary: pd.DataFrame, *, scaled: bool = False) -> PageTable:
    """Return uncertainty and calibration of each network.

    Args:
        summary: ``summary.csv`` of an uncertainty run.
        scaled: whether to show results after temperature scaling instead of before.
    """
    wanted = summary["source"].str.contains("+", regex=False) == scaled
    shown = {
        key: head
        for key, head in METRICS.items()
        if (wanted & (summary["metric"] == key[0]) & (summary["region"] == key[1])).any()
    }
    rows = []
    keys = ["model", "training", "source", "time_s"]
    for key, part in summary[wanted].groupby(keys, dropna=False, sort=False):
        found = {(row["metric"], row["region"]): row for row in records(part)}
        cells = [_of_metric(found.get(name)) for name in shown]
        name = network_label(str(key[0]), str(key[1]))
        rows.append((name, _source(str(key[2])), _time(key[3]), *cells))
    heads = ("network", "passes", "time", *shown.values())
    caption = (
        "All but Dice in a band about the structure. Below each estimate its interval over "
        f"{count_range(summary['n_patients'].tolist(), 'patient')}. ECE: calibration error; AUROC: "
        "how well uncertainty finds wrong voxels; AURC: area under the risk-coverage curve."
    )
    title = "With a temperature fitted at each time" if scaled else "Uncertainty and calibration"
    return PageTable(title, heads, tuple(rows), 3, caption)


def trainings_table(comparison: pd.DataFrame, time_s: float | None = None) -> PageTable:
    """Return hardware-aware compared with digital training, on chips.

    Args:
        comparison: ``comparison.csv`` of an uncertainty run.
        time_s: time since programming; all times by default.
    """
    chosen = _on_chips(comparison)
    chosen = chosen if time_s is None else chosen[chosen["time_s"] == time_s]
    corrected = "p_holm" in comparison
    rows = [
        (
            model_name(row["model"]) + ("" if time_s is not None else f", {_time(row['time_s'])}"),
            METRICS.get((row["metric"], row["region"]), str(row["metric"]).replace("_", " ")),
            number(row["digital"], _digits(row)),
            number(row["hwa"], _digits(row)),
            with_interval(
                row["difference"], row["difference_low"], row["difference_high"], _digits(row)
            ),
            p_text(row["p_holm" if corrected else "p_value"]),
        )
        for row in records(chosen)
    ]
    heads = ("model", "in the band", "digital", "hardware-aware", "difference")
    caption = "p: permutation test over patients" + (
        ", with Holm's correction for the number of models, but not for that of metrics and times."
        if corrected
        else ", not corrected for the number of rows."
    )
    when = "at all times" if time_s is None else age(time_s)
    return PageTable(
        f"Hardware-aware minus digital training, {when}",
        (*heads, "p (Holm)" if corrected else "p"),
        tuple(rows),
        2,
        caption,
    )


def time_to_look_at(comparison: pd.DataFrame) -> float | None:
    """Return one day, or else the last time since programming; ``None`` without a chip."""
    times_s = _on_chips(comparison)["time_s"].dropna()
    if times_s.empty:
        return None
    return DAY_S if (times_s == DAY_S).any() else float(times_s.max())


def split_table(summary: pd.DataFrame) -> PageTable:
    """Return the variance of the probability by origin; without rows if it was not split."""
    chips = summary[(summary["source"] == "chips") & (summary["region"] == "band")]
    rows = []
    for key, part in chips.groupby(["model", "training", "time_s"], sort=False):
        found = {row["metric"]: row for row in records(part)}
        if "mean_read_variance" in found and "mean_chip_variance" in found:
            cells = [_of_metric(found.get(name)) for name in _PARTS]
            name = network_label(str(key[0]), str(key[1]))
            rows.append((name, _time(key[2]), *cells))
    return PageTable(
        "Variance of the probability, about the structure",
        ("network", "time", *_PARTS.values()),
        tuple(rows),
        2,
        "Between reads of one chip: read noise and output noise. Between chips: programming noise "
        "and drift exponents.",
    )


def conformal_table(summary: pd.DataFrame) -> PageTable:
    """Return the false-negative rates of conformal masks."""
    ways = {"digital": "digitally", "first": "at the first time", "each": "at this time"}
    rows = tuple(
        (
            network_label(row["model"], row["training"]),
            str(row["class"]),
            ways.get(row["calibrated"], str(row["calibrated"])),
            _time(row["time_s"]),
            with_interval(row["fnr"], row["fnr_low"], row["fnr_high"]),
            number(row["volume_ratio"], 2),
            "marks all" if row["trivial"] else str(row["kept"]),
        )
        for row in records(summary)
    )
    heads = ("network", "class", "threshold set", "used", "share missed", "marked / true", "kept")
    title = f"At most {100 * float(summary['alpha'].iloc[0]):g} % of a structure missed?"
    return PageTable(title, heads, rows, 4)


def mitigation_table(summary: pd.DataFrame) -> PageTable:
    """Return the effect and cost of each mitigation at each time."""
    costs = {"images": "images", "labelled_images": "labelled images", "passes": "passes"}
    costs = {name: head for name, head in costs.items() if name in summary}
    shown = {"dice": "Dice", "ece_band": "ECE, band", "nll_band": "NLL, band"}
    shown = {name: head for name, head in shown.items() if (summary["metric"] == name).any()}
    rows = []
    keys = ["model", "training", "time_s", "option"]
    for key, part in summary.groupby(keys, sort=False):
        found = {row["metric"]: row for row in records(part)}
        gain = found["dice"]
        gained = with_interval(gain["gain"], gain["gain_low"], gain["gain_high"])
        values = [number(found[name]["value"]) if name in found else UNKNOWN for name in shown]
        rows.append(
            (
                network_label(str(key[0]), str(key[1])),
                _time(key[2]),
                str(key[3]).replace("_", " "),
                *values,
                gained,
                *(str(gain[name]) for name in costs),
            )
        )
    heads = ("network", "time", "correction", *shown.values(), "Dice gained", *costs.values())
    return PageTable("Corrections of a programmed chip", heads, tuple(rows), 3)


def _on_chips(comparison: pd.DataFrame) -> pd.DataFrame:
    """Return rows on chips in the boundary band; Dice of the whole image."""
    place = (comparison["region"] == "band") | (comparison["metric"] == "dice")
    return comparison[(comparison["source"] == "chips") & place]


def _of_metric(row: Row | None) -> str:
    if row is None:
        return UNKNOWN
    return with_interval(row["estimate"], row["low"], row["high"], _digits(row))


def _digits(row: Row) -> int:
    return 5 if "variance" in str(row["metric"]) else 3


def _source(source: str) -> str:
    names = {"deterministic": "one, digital", "mc_dropout": "dropout"}
    name, plus, scaled = source.partition("+")
    return names.get(name, name) + (f" + {scaled}" if plus else "")


def _time(time_s: Any) -> str:
    return "digital" if pd.isna(time_s) else time_label(float(time_s))
