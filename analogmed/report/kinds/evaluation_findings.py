"""Findings of an evaluation on chips as sentences."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S, time_label
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.levels import (
    best_digital,
    few_patients,
    has_learned,
    limit_text,
    unstated,
    with_cautions,
)
from analogmed.report.names import (
    capitalised,
    hardware_name,
    model_name,
    network_label,
    network_name,
    normalised_name,
    with_article,
)
from analogmed.report.run import Run
from analogmed.report.tables.class_scores import low_classes
from analogmed.report.tables.evaluation_page import against_digital, rows_of, unstated_sentences
from analogmed.report.text import (
    format_fixed,
    in_interval,
    p_equation,
    sample_sizes,
    size_interval,
)
from analogmed.tables.estimates import (
    CHANGED_CHIP,
    ENDS,
    KEPT_START,
    OWN_REFERENCE,
    drop_word,
    metrics_of,
    of_metric,
)
from analogmed.tables.results import RUN
from analogmed.tables.table import records

Row = dict[str, Any]


def findings_of_evaluation(run: Run) -> Iterator[str]:
    """Yield sentences on the primary metric of an evaluation, the most important one first."""
    summary = run.tables["summary"]
    metric = metrics_of(summary.columns)[0]
    summary = of_metric(summary, metric)
    compared = run.tables.get("comparison")
    p_values = {} if compared is None else against_digital(rows_of(compared, metric))
    curves = run.tables.get("curves", pd.DataFrame({"drift_drop": []}))
    curves = rows_of(curves, metric)
    words = _Words(metric, p_values)
    for (_, hardware), rows in summary.groupby(["task", "hardware"], sort=False):
        networks = records(rows)
        ranked = rows.sort_values("1d", ascending=words.lower, na_position="last")
        found = [
            *words.of_largest_drop(_with_drops(networks, curves), hardware_name(str(hardware))),
            *_of_changed_chip(networks[0]),
            *_of_kept_starts(networks),
            *words.of_hardware_aware(records(ranked[ranked["training"] != "digital"])),
            *words.of_digitally_trained(records(ranked[ranked["training"] == "digital"])),
        ]
        yield from with_cautions(found, words.cautions(networks))
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
        self._normalised_name = f"{normalised_name(metric)} (on the chip / digital)"

    def of_largest_drop(self, rows: list[Row], chips: str) -> Iterator[str]:
        """Yield a sentence on all trainings of the model with the largest drop.

        Args:
            rows: summary of the networks on one kind of chip, from :func:`_with_drops`.
            chips: display name of this kind of chip.
        """
        known = [row for row in rows if pd.notna(row["drop"]) and self._has_learned(row)]
        known.sort(key=lambda row: row["drop"], reverse=True)
        known = [row for row in known if row["model"] == known[0]["model"]]
        if known:
            drops = [self._dropped(row, is_first=not n) for n, row in enumerate(known)]
            when = f"{_after(known[0]['drop_s'])} on {chips} chips"
            yield f"{when}, {_compared(known)}{'; '.join(drops)}."

    def cautions(self, rows: list[Row]) -> Iterator[str]:
        """Yield sentences on digital values that are low or uncertain, and on few patients."""
        reasons = unstated_sentences(rows, self.metric)
        yield from reasons
        few = [*few_patients(min(int(row["n_patients"]) for row in rows), rows[0]["level"])]
        uncertain = any(self._has_learned(row) and unstated(row, self.metric) for row in rows)
        yield from few or (["Evaluate more patients."] if uncertain else [])

    def of_hardware_aware(self, rows: list[Row]) -> Iterator[str]:
        """Yield a sentence per network, and one for those indistinguishable from digital."""
        alike = [row for row in rows[1:] if self._is_alike(row)]
        alike = alike if len(alike) > 1 else []
        for row in rows:
            if row not in alike:
                yield self._normalised(row) + self._gained(row)
        if alike:
            yield (
                f"The {self._normalised_name} of other networks trained for the chip is: "
                f"{_shares(alike)}; they are not statistically distinguishable from the digitally "
                f"trained ones ({_counts(alike)})."
            )

    def of_digitally_trained(self, rows: list[Row]) -> Iterator[str]:
        """Yield a sentence per network without a normalised value, and one on all others."""
        measured = [row for row in rows if pd.notna(row["normalised_1d"])]
        known = [row for row in measured if not unstated(row, self.metric)]
        yield from (f"{self._normalised(row)}." for row in measured if row not in known)
        if len(known) == 1:
            yield f"{self._normalised(known[0])}."
        elif known:
            yield (
                f"Without training for the chip, the {self._normalised_name} after a day "
                f"is: {_shares(known)}."
            )

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

    def _is_alike(self, row: Row) -> bool:
        """Return whether a network has a normalised value, and a gain whose interval includes 0."""
        known = bool(pd.notna(row["normalised_1d"]) and pd.notna(row.get("gain_1d_low")))
        return known and not unstated(row, self.metric) and _unknown_gain(row)

    def _normalised(self, row: Row) -> str:
        """Return the normalised value of a network or, if it is not stated, the value itself."""
        name = network_name(row["model"], row["training"])
        value, low, high = (row[f"normalised_1d{end}"] for end in ENDS)
        if pd.isna(value):
            return f"The {name} was not measured a day after programming, or not digitally"
        what = f"{self.label} of the {name} is {format_fixed(row['1d'], 2)}"
        interval = ""
        if not unstated(row, self.metric):
            what = f"{self._normalised_name} of the {name} is {format_fixed(value, 2)}"
            interval = in_interval(low, high, row["level"], 2)
        return f"After a day on the chip, the {what}{interval}"

    def _dropped(self, row: Row, *, is_first: bool) -> str:
        """Return the drop of a network, and whether 0 is in its interval."""
        drop, low, high = (row[f"drop{end}"] for end in ENDS)
        network = network_name(row["model"], row["training"])
        name = f"the {self.label} of the {network}" if is_first else f"that of the {network}"
        if low <= 0 <= high:
            size = f"{format_fixed(drop)}{in_interval(low, high, row['level'])}"
            word = drop_word(self.metric)
            return f"{name} has no statistically distinguishable {word}: {size}"
        verb = "rises" if (drop < 0) != self.lower else "drops"
        interval = size_interval(low, high, row["level"])
        return f"{name} {verb} by {format_fixed(abs(drop))}{interval}"

    def _gained(self, row: Row) -> str:
        gain, low, high = (row.get(f"gain_1d{end}", float("nan")) for end in ("", "_low", "_high"))
        if pd.isna(gain) or pd.isna(low) or pd.isna(high):
            return "."
        other = f"its {self.label} is {{}} that of the digitally trained one"
        if _unknown_gain(row):
            unknown = other.format("not statistically distinguishable from")
            return f"; {unknown} ({_counts([row])})."
        sentence = other.format("better than" if gain > 0 else "worse than")
        size = f"{format_fixed(abs(gain))}{size_interval(low, high, row['level'])}"
        key = tuple(row[n] for n in ("task", "hardware", "model", "training"))
        p_value = self._p_values.get(key, float("nan"))
        beyond = ""
        if pd.notna(p_value):
            beyond = f" ({p_equation(p_value)} over patients, after Holm's correction)"
        chance = ", but not beyond chance among all comparisons"
        return f"; {sentence} by {size}{chance if p_value >= 1 - row['level'] else ''}{beyond}."


def _compared(rows: list[Row]) -> str:
    """Return what drops are relative to, unless that is the same network without a chip."""
    others = [row for row in rows if row["training"] != "digital" and not _is_own_reference(row)]
    return "relative to digital training without a chip, " if others else ""


def _with_drops(rows: list[Row], curves: pd.DataFrame) -> list[Row]:
    """Return networks with their ``drop`` and its time ``drop_s``: after a day, or at the end.

    Args:
        rows: summary of one metric.
        curves: ``curves.csv`` of the same metric, for networks without a drop after a day.
    """
    known = curves[curves["drift_drop"].notna()]
    found = []
    for row in rows:
        own = {f"drop{end}": row.get(f"drop_1d{end}", float("nan")) for end in ENDS}
        drop_s = DAY_S
        if pd.isna(own["drop"]) and len(known):
            of_network = known[(known[list(RUN)] == [row[name] for name in RUN]).all(axis=1)]
            for last in records(of_network.sort_values("time_s").tail(1)):
                own = {f"drop{end}": last[f"drift_drop{end}"] for end in ENDS}
                drop_s = float(last["time_s"])
        found.append({**row, **own, "drop_s": drop_s})
    return found


def _after(time_s: float) -> str:
    """Return the time since programming at the start of a sentence."""
    if time_s == DAY_S:
        return "After a day"
    return f"After {time_label(time_s)}" if time_s else "Right after programming"


def _of_changed_chip(row: Row) -> Iterator[str]:
    """Yield a sentence on arguments of the chip that are not those of its preset."""
    for note in str(row.get("note")).split("; "):
        if note.startswith(CHANGED_CHIP):
            yield f"{capitalised(note)}."


def _of_kept_starts(rows: list[Row]) -> Iterator[str]:
    """Yield a sentence on each network whose training kept the network that it started from."""
    for row in rows:
        if KEPT_START in str(row.get("note")):
            name = capitalised(network_label(row["model"], row["training"]))
            yield f"{name}: {KEPT_START}."


def _is_own_reference(row: Row) -> bool:
    return OWN_REFERENCE in str(row.get("note"))


def _unknown_gain(row: Row) -> bool:
    return bool(row["gain_1d_low"] <= 0 <= row["gain_1d_high"])


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
