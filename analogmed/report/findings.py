"""Findings of a run as sentences; every value has its confidence interval."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S
from analogmed.report.evaluation_findings import findings_of_evaluation
from analogmed.report.figures.style import age, count_range, time_label
from analogmed.report.names import model_name, network_name
from analogmed.report.runs import Run
from analogmed.report.tables.page import fixed, in_interval, number, size_interval
from analogmed.report.text import records

Row = dict[str, Any]

_CALIBRATION = {
    "mean_variance": ("less certain", "more certain", "variance of the probability"),
    "mean_entropy": ("less certain", "more certain", "entropy"),
    "ece": ("worse calibrated", "better calibrated", "calibration error"),
}
"""Meaning of higher and lower values, and name of each metric."""


def findings(run: Run) -> list[str]:
    """Return sentences on one run, the most important one first.

    Args:
        run: run of any kind.

    Returns:
        plain text; empty if the run has no finding.
    """
    says = {
        "evaluation": findings_of_evaluation,
        "uncertainty": _of_uncertainty,
        "mitigation": _of_mitigation,
        "placement": _of_placement,
        "sensitivity": _of_sensitivity,
        "training": _of_training,
    }
    return list(says[run.kind](run))


def _of_uncertainty(run: Run) -> Iterator[str]:
    comparison = run.tables.get("comparison")
    if comparison is None or "metric" not in comparison:
        return
    rows = comparison[(comparison["source"] == "chips") & (comparison["region"] == "band")]
    for model, of_model in rows.groupby("model", sort=False):
        times_s = of_model["time_s"]
        at = of_model[times_s == (DAY_S if (times_s == DAY_S).any() else times_s.max())]
        by_metric = {row["metric"]: row for row in records(at)}
        told: dict[str, list[str]] = {}
        for metric in filter(by_metric.__contains__, _CALIBRATION):
            what, values = _compared(by_metric[metric], metric)
            told.setdefault(what, []).append(values)
        if told:
            patients = count_range(at["n_patients"].tolist(), "patient")
            outcomes = [f"{what} ({'; '.join(values)})" for what, values in told.items()]
            yield (
                f"On the chip, {age(float(at['time_s'].iloc[0]))} and about the structure, "
                f"hardware-aware training makes the {model_name(str(model))} "
                f"{', '.join(outcomes)}. {patients}, 95 % intervals."
            )


def _compared(row: Row, metric: str) -> tuple[str, str]:
    """Return the outcome of a comparison and the values that it is based on."""
    higher, lower, name = _CALIBRATION[metric]
    difference = row["difference"]
    low, high = row["difference_low"], row["difference_high"]
    values = f"{name} {number(row['hwa'])} against {number(row['digital'])}"
    if pd.isna(low) or low <= 0 <= high:
        return f"neither {higher} nor {lower} as far as can be told", values
    interval = f"difference {number(low, 4)} to {number(high, 4)}"
    return higher if difference > 0 else lower, f"{values}, {interval}"


def _of_mitigation(run: Run) -> Iterator[str]:
    summary = run.tables["summary"]
    dice = summary[(summary["metric"] == "dice") & summary["gain"].notna()]
    last = dice[dice["time_s"] == dice["time_s"].max()]
    for row in records(last):
        name, option = network_name(row["model"], row["training"]), str(row["option"])
        age, gain = time_label(row["time_s"]), row["gain"]
        interval = size_interval(row["gain_low"], row["gain_high"], row["level"])
        if pd.notna(row["gain_low"]) and not row["gain_low"] <= 0 <= row["gain_high"]:
            verb = "gains" if gain > 0 else "costs"
            yield (
                f"At {age}, {option.replace('_', ' ')} {verb} the {name} {fixed(abs(gain))} Dice"
                f"{interval}."
            )


def _of_placement(run: Run) -> Iterator[str]:
    steps = run.tables["placements"]
    chosen = steps[steps["chosen"].astype(bool)]
    if chosen.empty:
        yield "No placement that was run loses as little Dice as was asked for."
        return
    row = records(chosen)[0]
    layers: str = "none" if pd.isna(row["digital"]) else str(row["digital"])
    yield (
        f"Left digital: {layers.replace(';', ', ')}; the Dice lost is then {fixed(row['drop'])}"
        f"{in_interval(row['drop_low'], row['drop_high'], row['level'])}."
    )


def _of_sensitivity(run: Run) -> Iterator[str]:
    ranking = run.tables["ranking"]
    last = ranking[ranking["time_s"] == ranking["time_s"].max()]
    kinds = {"only_analog": "layer that costs", "noise_alone": "noise source that costs"}
    for kind, what in kinds.items():
        rows = last[last["setting"] == kind].sort_values("rank")
        if not rows.empty:
            row = records(rows)[0]
            yield (
                f"The {what} the most, alone, at {time_label(row['time_s'])}: {row['subject']}, "
                f"{fixed(row['effect'])} Dice"
                f"{in_interval(row['effect_low'], row['effect_high'], row['level'])}."
            )


def _of_training(run: Run) -> Iterator[str]:
    validated = run.tables["log"].dropna(subset="dice")
    if not validated.empty:
        best = max(records(validated), key=lambda row: float(row["dice"]))
        yield f"Best validation Dice {fixed(best['dice'])}, after epoch {best['epoch']:.0f}."
