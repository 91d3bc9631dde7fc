"""Findings of an evaluation on chips as sentences."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import time_label
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.levels import (
    below_level,
    best_digital,
    few_patients,
    has_learned,
    limit_text,
)
from analogmed.report.names import (
    capitalised,
    hardware_name,
    kept_name,
    model_name,
    network_label,
    network_name,
    with_article,
)
from analogmed.report.run import Run
from analogmed.report.tables.class_scores import low_classes
from analogmed.report.tables.evaluation_page import against_digital, rows_of
from analogmed.report.text import (
    format_fixed,
    in_interval,
    p_equation,
    sample_sizes,
    size_interval,
)
from analogmed.tables.estimates import KEPT_START, OWN_REFERENCE, metrics_of, of_metric
from analogmed.tables.table import records

Row = dict[str, Any]

MOST_WIDTH = 0.5
"""Largest width of the interval of a digital value, relative to the value."""


def findings_of_evaluation(run: Run) -> Iterator[str]:
    """Yield sentences on the primary metric of an evaluation, the most important one first."""
    summary = run.tables["summary"]
    metric = metrics_of(summary.columns)[0]
    summary = of_metric(summary, metric)
    compared = run.tables.get("comparison")
    p_values = {} if compared is None else against_digital(rows_of(compared, metric))
    words = _Words(metric, p_values)
    for (_, hardware), rows in summary.groupby(["task", "hardware"], sort=False):
        yield from words.of_largest_loss(records(rows), hardware_name(str(hardware)))
        yield from words.of_few_patients(records(rows))
        yield from _of_kept_starts(records(rows))
        rows = rows[~rows.apply(_is_uncertain, axis=1)]
        ranked = rows.sort_values("1d", ascending=words.lower, na_position="last")
        yield from words.of_hardware_aware(records(ranked[ranked["training"] != "digital"]))
        yield from words.of_digitally_trained(ranked[ranked["training"] == "digital"])
    if "class_scores" in run.tables:
        yield from low_classes(rows_of(run.tables["class_scores"], metric))
    if "time_to_failure" in run.tables:
        failures = rows_of(run.tables["time_to_failure"], metric)
        yield from words.of_failures(failures, best_digital(summary, metric))


class _Words:
    """Sentences on one metric.

    Args:
        metric: name of the metric.
        p_values: adjusted p-value of each training against the digital one.
    """

    def __init__(self, metric: str, p_values: dict[tuple[Any, ...], float]) -> None:
        self.metric, self.label, self.lower = metric, label_of(metric), is_lower_better(metric)
        self._p_values = p_values

    def of_largest_loss(self, rows: list[Row], chips: str) -> Iterator[str]:
        """Yield a sentence on all trainings of the model with the largest loss after one day.

        Args:
            rows: summary of the networks on one kind of chip.
            chips: display name of this kind of chip.
        """
        known = [row for row in rows if pd.notna(row.get("drop_1d")) and self._has_learned(row)]
        known.sort(key=lambda row: row["drop_1d"], reverse=True)
        known = [row for row in known if row["model"] == known[0]["model"]]
        losses = [self._lost(row) for row in known]
        if losses:
            yield f"After a day on {chips} chips, {_compared(known)}{'; '.join(losses)}."

    def of_few_patients(self, rows: list[Row]) -> Iterator[str]:
        """Yield sentences that ask for patients where results are uncertain for want of them."""
        uncertain = [row for row in rows if _is_uncertain(row)]
        for row in {row["model"]: row for row in uncertain}.values():
            interval = in_interval(row["digital_low"], row["digital_high"], row["level"], 2)
            yield (
                f"The digital {self.label} of the {model_name(row['model'])} is itself uncertain: "
                f"{format_fixed(row['digital'], 2)}{interval}, {_counts([row])}. Evaluate more "
                "patients; the share that it keeps on the chip is not stated."
            )
        yield from few_patients(min(int(row["n_patients"]) for row in rows), rows[0]["level"])

    def of_hardware_aware(self, rows: list[Row]) -> Iterator[str]:
        """Yield a sentence per network, and one for those indistinguishable from digital."""
        alike = [row for row in rows[1:] if self._keeps_only(row)]
        alike = alike if len(alike) > 1 else []
        for row in rows:
            if row not in alike:
                yield self._kept(row) + self._gained(row)
        if alike:
            keep = f", as multiples of the digital {self.label}" if self.lower else " keep"
            yield (
                f"Other networks trained for the chip{keep}: {_shares(alike)}; they are not "
                f"statistically distinguishable from the digitally trained ones ({_counts(alike)})."
            )

    def of_digitally_trained(self, rows: pd.DataFrame) -> Iterator[str]:
        """Yield one sentence on all digitally trained networks."""
        measured = records(rows[rows["normalised_1d"].notna()])
        known = [row for row in measured if self._has_learned(row)]
        yield from (f"{self._not_learned(row)}." for row in measured if row not in known)
        if len(known) == 1:
            yield self._kept(known[0]) + "."
        elif known:
            keep = f"as multiples of the digital {self.label}" if self.lower else "these keep"
            yield f"Without training for the chip, after a day, {keep}: {_shares(known)}."

    def of_failures(self, failures: pd.DataFrame, best: float) -> Iterator[str]:
        """Yield one sentence on all networks; none if no network is trained."""
        when_of: dict[str, list[str]] = {}
        ranked = failures.sort_values("holds_until_s", ascending=False, kind="stable")
        for row in records(ranked) if has_learned(self.metric, best) else ():
            network = network_name(row["model"], row["training"])
            when_of.setdefault(_bracket(row, self.lower), []).append(network)
        if not when_of:
            return
        limit = limit_text(float(failures["limit"].iloc[0]), best)
        start = f"Time to failure for {with_article(self.label)} of {limit}"
        if len(when_of) == 1 < len(failures):
            (when,) = when_of
            every = "both" if len(failures) == 2 else f"all {len(failures)}"
            yield f"{start}: {when} for {every} networks."
            return
        when = "; ".join(f"{when} for the {_listed(names)}" for when, names in when_of.items())
        yield f"{start}: {when}."

    def _has_learned(self, row: Row) -> bool:
        return has_learned(self.metric, row["digital"])

    def _keeps_only(self, row: Row) -> bool:
        """Return whether a network is trained but not distinguishable from the digital training."""
        known = bool(pd.notna(row["normalised_1d"]) and pd.notna(row.get("gain_1d")))
        return known and self._has_learned(row) and _unknown_gain(row)

    def _kept(self, row: Row) -> str:
        name = network_name(row["model"], row["training"])
        kept, low, high = (row[f"normalised_1d{end}"] for end in ("", "_low", "_high"))
        if pd.isna(kept):
            return f"The {name} was not measured a day after programming, or not digitally"
        if not self._has_learned(row):
            return self._not_learned(row)
        of = f"{'its' if row['training'] == 'digital' else 'the'} digital {kept_name(self.metric)}"
        share = (
            f"has {format_fixed(kept, 2)} times"
            if self.lower
            else f"keeps {format_fixed(kept, 2)} of"
        )
        found = f"After a day on the chip the {name} {share} {of}"
        return found + in_interval(low, high, row["level"], 2)

    def _lost(self, row: Row) -> str:
        """Return what a network loses after one day, and whether 0 is in the interval."""
        lost, low, high = (row[f"drop_1d{end}"] for end in ("", "_low", "_high"))
        name = f"the {network_name(row['model'], row['training'])}"
        if low <= 0 <= high:
            size = f"{format_fixed(lost)} {self.label}{in_interval(low, high, row['level'])}"
            return f"{name} has no statistically distinguishable loss: {size}"
        verb = ("adds" if lost > 0 else "saves") if self.lower else "loses" if lost > 0 else "gains"
        size = f"{format_fixed(abs(lost))} {self.label}"
        return f"{name} {verb} {size}{size_interval(low, high, row['level'])}"

    def _not_learned(self, row: Row) -> str:
        name = network_name(row["model"], row["training"])
        low = below_level(self.metric, row["digital"])
        if row["training"] == "digital":
            return (
                f"Run digitally, the {name} has {with_article(self.label)} of {low}: the share "
                "that it keeps on the chip is not stated"
            )
        return (
            f"After a day on the chip the {name} has {with_article(self.label)} of "
            f"{format_fixed(row['1d'], 2)}; its share of the digital {self.label} ({low}) is not "
            "stated"
        )

    def _gained(self, row: Row) -> str:
        gain, low, high = (row.get(f"gain_1d{end}", float("nan")) for end in ("", "_low", "_high"))
        if pd.isna(gain):
            return "."
        if _unknown_gain(row):
            return (
                "; it is not statistically distinguishable from the digitally trained one "
                f"({_counts([row])})."
            )
        direction = "better" if gain > 0 else "worse"
        interval = size_interval(low, high, row["level"])
        p_value = self._p_values.get(
            tuple(row[n] for n in ("task", "hardware", "model", "training"))
        )
        beyond = ""
        if p_value is not None and pd.notna(p_value):
            beyond = f" ({p_equation(p_value)} over patients, after Holm's correction)"
        if p_value is not None and p_value >= 1 - row["level"]:
            return (
                f"; its {self.label} is {direction} than that of the digitally trained one by "
                f"{format_fixed(abs(gain))}{interval}, but not beyond chance among all comparisons"
                f"{beyond}."
            )
        return (
            f"; it is {direction} than the digitally trained one by {format_fixed(abs(gain))} "
            f"{self.label}{interval}{beyond}."
        )


def _compared(rows: list[Row]) -> str:
    """Return what losses are relative to, unless that is the same network without a chip."""
    others = [row for row in rows if row["training"] != "digital" and not _is_own_reference(row)]
    return "relative to digital training without a chip, " if others else ""


def _of_kept_starts(rows: list[Row]) -> Iterator[str]:
    """Yield a sentence on each network whose training kept the network that it started from."""
    for row in rows:
        if KEPT_START in str(row.get("note")):
            name = capitalised(network_label(row["model"], row["training"]))
            yield f"{name}: {KEPT_START}."


def _is_own_reference(row: Row) -> bool:
    return OWN_REFERENCE in str(row.get("note"))


def _is_uncertain(row: Row) -> bool:
    """Return whether the interval of the digital value is too wide to state shares of it."""
    low, high = row.get("digital_low", float("nan")), row.get("digital_high", float("nan"))
    return bool(high - low > MOST_WIDTH * abs(row["digital"]))


def _unknown_gain(row: Row) -> bool:
    low, high = row["gain_1d_low"], row["gain_1d_high"]
    return bool(pd.isna(low) or pd.isna(high) or low <= 0 <= high)


def _bracket(row: Row, lower_is_better: bool) -> str:
    """Return the measured times between which a network fails."""
    until_s, fails_at_s = row["holds_until_s"], row["fails_at_s"]
    if row["censored"]:
        return f"more than {time_label(until_s)}, the end of the sweep,"
    if pd.isna(until_s):
        side = "above" if lower_is_better else "below"
        return f"none, as it is {side} the limit at {time_label(fails_at_s)},"
    return f"between {time_label(until_s)} and {time_label(fails_at_s)}"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _counts(rows: list[Row]) -> str:
    """Return the numbers of patients and chips of networks."""
    return sample_sizes(pd.DataFrame(rows), " and ")


def _shares(rows: list[Row]) -> str:
    """Return models with their value after one day, relative to the digital one."""
    return ", ".join(
        f"{model_name(row['model'])} {format_fixed(row['normalised_1d'], 2)}{_short(row)}"
        for row in rows
    )


def _short(row: Row) -> str:
    low, high = row["normalised_1d_low"], row["normalised_1d_high"]
    return "" if pd.isna(low) else f" ({format_fixed(low, 2)} to {format_fixed(high, 2)})"
