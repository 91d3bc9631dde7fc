"""Findings of a run as sentences; every value has its confidence interval."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S
from analogmed.report.dice_levels import best_digital, has_learned, limit_text
from analogmed.report.figures.style import age, count_range, time_label
from analogmed.report.names import model_name, network_name
from analogmed.report.runs import Run
from analogmed.report.tables.page import fixed, number, p_equation
from analogmed.report.tables.run import against_digital
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
        "evaluation": _of_evaluation,
        "uncertainty": _of_uncertainty,
        "mitigation": _of_mitigation,
        "placement": _of_placement,
        "sensitivity": _of_sensitivity,
        "training": _of_training,
    }
    return list(says[run.kind](run))


def _of_evaluation(run: Run) -> Iterator[str]:
    summary = run.tables["summary"]
    compared = run.tables.get("comparison")
    p_values = {} if compared is None else against_digital(compared)
    for _, rows in summary.groupby(["task", "hardware"], sort=False):
        ranked = rows.sort_values("dice_1d", ascending=False, na_position="last")
        yield from _of_hardware_aware(records(ranked[ranked["training"] != "digital"]), p_values)
        yield from _of_digitally_trained(ranked[ranked["training"] == "digital"])
    if "time_to_failure" in run.tables:
        yield from _of_failures(run.tables["time_to_failure"], best_digital(summary))


def _of_hardware_aware(rows: list[Row], p_values: dict[tuple[Any, ...], float]) -> Iterator[str]:
    """Yield a sentence per network, and a joint one for those indistinguishable from digital."""
    alike = [row for row in rows[1:] if _keeps_only(row)]
    alike = alike if len(alike) > 1 else []
    for row in rows:
        if row not in alike:
            yield _kept(row) + _gained(row, p_values)
    if alike:
        yield (
            f"Other networks trained for the chip keep: {_shares(alike)}; whether they are better "
            f"than the digitally trained ones cannot be told from {_counts(alike)}."
        )


def _keeps_only(row: Row) -> bool:
    """Return whether a network is trained but not distinguishable from the digital training."""
    known = bool(pd.notna(row["normalised_dice_1d"]) and pd.notna(row.get("gain_1d")))
    return known and has_learned(row["dice_digital"]) and _unknown_gain(row)


def _unknown_gain(row: Row) -> bool:
    low, high = row["gain_1d_low"], row["gain_1d_high"]
    return bool(pd.isna(low) or pd.isna(high) or low <= 0 <= high)


def _kept(row: Row) -> str:
    name = network_name(row["model"], row["training"])
    kept, low, high = (row[f"normalised_dice_1d{end}"] for end in ("", "_low", "_high"))
    if pd.isna(kept):
        return f"The {name} was not measured a day after programming, or not digitally"
    if not has_learned(row["dice_digital"]):
        return _not_learned(row)
    of = "its digital Dice" if row["training"] == "digital" else "the digital Dice"
    told = f"After a day on the chip the {name} keeps {fixed(kept, 2)} of {of}"
    return told + _interval(low, high, row["level"], 2)


def _not_learned(row: Row) -> str:
    name, digital = network_name(row["model"], row["training"]), fixed(row["dice_digital"], 2)
    if row["training"] == "digital":
        return f"The {name} has not learned the task: run digitally, its Dice is {digital}"
    return (
        f"After a day on the chip the {name} has a Dice of {fixed(row['dice_1d'], 2)}; the "
        f"digitally trained one has not learned the task: run digitally, its Dice is {digital}"
    )


def _gained(row: Row, p_values: dict[tuple[Any, ...], float]) -> str:
    gain, low, high = (row.get(f"gain_1d{end}", float("nan")) for end in ("", "_low", "_high"))
    if pd.isna(gain):
        return "."
    if _unknown_gain(row):
        return (
            "; whether it is better than the digitally trained one cannot be told from "
            f"{_counts([row])}."
        )
    direction = "better" if gain > 0 else "worse"
    interval = _size_interval(low, high, row["level"])
    p_value = p_values.get(tuple(row[n] for n in ("task", "hardware", "model", "training")))
    beyond = ""
    if p_value is not None and pd.notna(p_value):
        beyond = f" ({p_equation(p_value)} over patients, after Holm's correction)"
    if p_value is not None and p_value >= 1 - row["level"]:
        return (
            f"; its Dice is {direction} than that of the digitally trained one by "
            f"{fixed(abs(gain))}{interval}, but not beyond chance among all comparisons{beyond}."
        )
    return f"; it is {direction} than the digitally trained one by {fixed(abs(gain))} Dice" + (
        f"{interval}{beyond}."
    )


def _of_digitally_trained(rows: pd.DataFrame) -> Iterator[str]:
    """Yield one sentence on all digitally trained networks."""
    measured = records(rows[rows["normalised_dice_1d"].notna()])
    known = [row for row in measured if has_learned(row["dice_digital"])]
    yield from (f"{_not_learned(row)}." for row in measured if row not in known)
    if len(known) == 1:
        yield _kept(known[0]) + "."
    elif known:
        yield f"Without training for the chip, after a day, these keep: {_shares(known)}."


def _of_failures(failures: pd.DataFrame, best: float) -> Iterator[str]:
    """Yield one sentence on all networks; none if no network is trained."""
    told: dict[str, list[str]] = {}
    ranked = failures.sort_values("holds_until_s", ascending=False, kind="stable")
    for row in records(ranked) if has_learned(best) else ():
        told.setdefault(_bracket(row), []).append(network_name(row["model"], row["training"]))
    if not told:
        return
    limit = limit_text(float(failures["limit"].iloc[0]), best)
    if len(told) == 1 < len(failures):
        (when,) = told
        yield f"Time to failure for a Dice of {limit}: {when} for all {len(failures)} networks."
        return
    when = "; ".join(f"{when} for the {_listed(names)}" for when, names in told.items())
    yield f"Time to failure for a Dice of {limit}: {when}."


def _bracket(row: Row) -> str:
    """Return the measured times between which a network fails."""
    until_s, fails_at_s = row["holds_until_s"], row["fails_at_s"]
    if row["censored"]:
        return f"more than {time_label(until_s)}, the end of the sweep,"
    if pd.isna(until_s):
        return f"none, as it is below the limit at {time_label(fails_at_s)},"
    return f"between {time_label(until_s)} and {time_label(fails_at_s)}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


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
        interval = _size_interval(row["gain_low"], row["gain_high"], row["level"])
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
        f"{_interval(row['drop_low'], row['drop_high'], row['level'])}."
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
                f"{_interval(row['effect_low'], row['effect_high'], row['level'])}."
            )


def _of_training(run: Run) -> Iterator[str]:
    validated = run.tables["log"].dropna(subset="dice")
    if not validated.empty:
        best = max(records(validated), key=lambda row: float(row["dice"]))
        yield f"Best validation Dice {fixed(best['dice'])}, after epoch {best['epoch']:.0f}."


def _interval(low: float, high: float, level: float, digits: int = 3) -> str:
    if pd.isna(low) or pd.isna(high):
        return " (no interval: too few patients or chips)"
    return f" ({100 * level:.3g} % interval {fixed(low, digits)} to {fixed(high, digits)})"


def _size_interval(low: float, high: float, level: float) -> str:
    """Return the interval of the size of a difference whose interval excludes 0."""
    return _interval(min(abs(low), abs(high)), max(abs(low), abs(high)), level)


def _counts(rows: list[Row]) -> str:
    """Return the numbers of patients and chips of networks."""
    patients = count_range([int(row["n_patients"]) for row in rows], "patient")
    return f"{patients} and {count_range([int(row['n_chips']) for row in rows], 'chip')}"


def _shares(rows: list[Row]) -> str:
    """Return models with their normalised Dice after one day."""
    return ", ".join(
        f"{model_name(row['model'])} {fixed(row['normalised_dice_1d'], 2)}"
        f"{_short(row, 'normalised_dice_1d')}"
        for row in rows
    )


def _short(row: Row, name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "" if pd.isna(low) else f" ({fixed(low, 2)} to {fixed(high, 2)})"
