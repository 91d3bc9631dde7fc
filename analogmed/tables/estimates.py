"""Estimates of a network on a chip: formula, columns and heads of each, in one list.

Another estimate is one more line of ``ESTIMATES``: it is then computed with its interval, written
to ``summary.csv``, read again, and shown where it has a head.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from analogmed.foundation.time_constants import DAY_S, MONTH_S, SECOND_S, T0_S
from analogmed.metrics.metric import Bounds
from analogmed.metrics.properties import bounds_of, chance_of, difference_bounds, is_lower_better
from analogmed.metrics.registry import label_of, metric_names

if TYPE_CHECKING:
    import pandas as pd

REFERENCE = "reference"
"""The digitally trained network of the same model, run digitally."""
OWN_DIGITAL = "own_digital"
"""The network itself, run digitally."""
OWN_REFERENCE = "no digitally trained baseline: own digital run"
"""Note of a network that is its own reference."""
KEPT_START = (
    "its training kept the network that it started from, as all later states have worse validation "
    "scores"
)
"""Note of a network of which no epoch of its own training is left."""
CHANGED_CHIP = "the chips differ from their preset"
"""Start of the note on arguments of the hardware that are not those of its preset."""
Term: TypeAlias = str | float
"""``REFERENCE``, ``OWN_DIGITAL``, or the age of the chip in s."""
Formula: TypeAlias = Literal["mean", "spread", "difference", "drop", "ratio", "gain"]
Place: TypeAlias = Literal["terminal", "page", "drops", "figure", "search"]
ENDS = ("", "_low", "_high")
"""Ends of the columns of an estimate: its value, and the limits of its interval."""
NOT_NEGATIVE = (0.0, float("inf"))


@dataclass(frozen=True)
class Estimate:
    """One estimate of a network.

    Attributes:
        pattern: name of the column; ``{metric}`` stands for the name of the metric.
        formula: how the estimate is computed from its terms.

            - ``mean``: mean of the term.
            - ``spread``: standard deviation over chips of the mean over cases.
            - ``difference``: first term minus second term.
            - ``drop``: by how much the second term is worse than the first one.
            - ``ratio``: first term divided by second term.
            - ``gain``: by how much the term is better than that of the digitally trained network
              of the same model on the same chips.
        terms: digital runs, or ages of the chip in s.
        terminal: head in the wide table of the terminal and in Markdown; for a gain, the title of
            its table.
        page: head in the table of results on the page.
        drops: head in the table of drops on the page.
        figure: label in the figure of drops.
        search: label of an objective of a search.
        in_summary: whether ``summary.csv`` contains it.

    An estimate is shown where it has a head. In heads, ``{label}`` stands for the label of the
    metric, and ``{drop}`` for the word for the change to the worse, see :func:`drop_word`.
    """

    pattern: str
    formula: Formula
    terms: tuple[Term, ...]
    terminal: str = ""
    page: str = ""
    drops: str = ""
    figure: str = ""
    search: str = ""
    in_summary: bool = True

    @property
    def key(self) -> str:
        """Name without a metric, for instance ``1d`` and ``normalised_1d``."""
        return self.pattern.replace("{metric}_", "")

    @property
    def is_named(self) -> bool:
        """Whether the name of the column contains the metric, even if that is the primary one."""
        return "{metric}" in self.pattern

    def column(self, metric: str, *, primary: bool = True) -> str:
        """Return the name of the column for a metric.

        Example:
            >>> drop = Estimate("drop_1d", "drop", (REFERENCE, DAY_S))
            >>> drop.column("dice"), drop.column("hd95", primary=False)
            ('drop_1d', 'hd95_drop_1d')
        """
        if self.is_named:
            return self.pattern.format(metric=metric)
        return self.pattern if primary else f"{metric}_{self.pattern}"

    def head(self, place: Place, metric: str) -> str:
        """Return the head at a place; empty if the estimate is not shown there."""
        head = str(getattr(self, place))
        return head.format(label=label_of(metric), drop=drop_word(metric))

    def bounds(self, metric: str) -> Bounds:
        """Return the smallest and the largest possible value for a metric."""
        if self.formula in ("mean", "spread"):
            return bounds_of(metric)
        if self.formula == "ratio":
            positive = bounds_of(metric)[0] >= chance_of(metric)
            return NOT_NEGATIVE if positive else (-float("inf"), float("inf"))
        return difference_bounds(metric)

    def is_lower_better(self, metric: str) -> bool:
        """Return whether lower values of the estimate are better."""
        if self.formula in ("drop", "spread"):
            return True
        return self.formula != "gain" and is_lower_better(metric)


ESTIMATES = (
    Estimate(
        "{metric}_digital", "mean", (REFERENCE,), search="{label} of the network run digitally"
    ),
    Estimate(
        "{metric}_own_digital",
        "mean",
        (OWN_DIGITAL,),
        terminal="{label}\ndigital",
        page="run digitally",
    ),
    Estimate(
        "{metric}_t0",
        "mean",
        (T0_S,),
        terminal="on chip\nt0",
        page="t0",
        search="{label} right after programming",
    ),
    Estimate(
        "{metric}_1d",
        "mean",
        (DAY_S,),
        terminal="on chip\n1 day",
        page="1 day",
        search="{label} after 1 day on the chip",
    ),
    Estimate(
        "{metric}_1d_std",
        "spread",
        (DAY_S,),
        drops="spread of chips",
        search="deviation of {label} over chips, 1 day",
    ),
    Estimate(
        "{metric}_1mo",
        "mean",
        (MONTH_S,),
        terminal="on chip\n1 month",
        page="1 month",
        search="{label} after 1 month on the chip",
    ),
    Estimate(
        "noise_drop",
        "drop",
        (REFERENCE, T0_S),
        terminal="noise drop\n",
        drops="{drop} at t0",
        figure="t0",
    ),
    Estimate("avm", "difference", (MONTH_S, SECOND_S), terminal="AVM\n", drops="1 month minus 1 s"),
    Estimate(
        "normalised_{metric}_1d",
        "ratio",
        (DAY_S, REFERENCE),
        terminal="normalised\n1 day",
        page="normalised, 1 day",
    ),
    Estimate("drop_1d", "drop", (REFERENCE, DAY_S), drops="{drop} in 1 day", figure="1 day"),
    Estimate("drop_1mo", "drop", (REFERENCE, MONTH_S), drops="{drop} in 1 month", figure="1 month"),
    Estimate(
        "gain_1d",
        "gain",
        (DAY_S,),
        terminal="{label}, gain of training after 1 day on the chip",
        page="gain of training",
    ),
    Estimate(
        "avm_drop",
        "drop",
        (SECOND_S, MONTH_S),
        search="{label} {drop} from 1 s to 1 month",
        in_summary=False,
    ),
)
"""All estimates, in the order of the columns of ``summary.csv``."""


def changed_chip(changes: Mapping[str, object]) -> str:
    """Return the note on a chip that differs from its preset; empty without changes.

    Example:
        >>> changed_chip({"dac_steps": 62}), changed_chip({})
        ('the chips differ from their preset: dac_steps 62', '')
    """
    listed = ", ".join(f"{name} {value}" for name, value in changes.items())
    return f"{CHANGED_CHIP}: {listed}" if listed else ""


def drop_word(metric: str, lower_is_better: bool | None = None) -> str:
    """Return the word for the change of a metric to the worse.

    Args:
        metric: name of the metric.
        lower_is_better: the direction of a metric of the user; by default, as the metric declares.

    Example:
        >>> drop_word("dice"), drop_word("hd95")
        ('drop', 'rise')
    """
    return "rise" if is_lower_better(metric, lower_is_better) else "drop"


def summary_estimates() -> tuple[Estimate, ...]:
    """Return the estimates of ``summary.csv`` in the order of its columns."""
    return tuple(estimate for estimate in ESTIMATES if estimate.in_summary)


def shown_in(place: Place) -> tuple[Estimate, ...]:
    """Return the estimates that have a head at a place, in the order of that place.

    Drops come before signed differences. Objectives of a search start with values after one day,
    then at other times, then run digitally; changes come last.
    """
    shown = [estimate for estimate in ESTIMATES if getattr(estimate, place)]
    if place == "drops":
        shown.sort(key=lambda estimate: estimate.formula == "difference")
    if place == "search":
        shown.sort(key=_order_in_search)
    return tuple(shown)


def find_objective(name: str, primary: str) -> tuple[Estimate, str] | None:
    """Return the estimate of a search that a name denotes, and its metric; ``None`` for others.

    Args:
        name: name of a column, such as ``hd95_1d``.
        primary: metric of the estimates whose names contain none; these may also have a name with
            the metric.

    Example:
        >>> names = ("hd95_1d", "avm_drop", "hd95_avm_drop", "dice_avm_drop")
        >>> [find_objective(name, "dice")[1] for name in names]
        ['hd95', 'dice', 'hd95', 'dice']
        >>> find_objective("tiles", "dice")
    """
    for metric in metric_names():
        for estimate in shown_in("search"):
            names = {estimate.column(metric, primary=is_primary) for is_primary in (False, True)}
            if name in (names if metric == primary else {estimate.column(metric, primary=False)}):
                return estimate, metric
    return None


def is_minimized(objective: str, primary: str) -> bool:
    """Return whether lower values of an objective of a search are better; those of costs are.

    Example:
        >>> [is_minimized(name, "dice") for name in ("dice_1d", "hd95_1d", "tiles")]
        [False, True, True]
    """
    found = find_objective(objective, primary)
    return found is None or found[0].is_lower_better(found[1])


def _order_in_search(estimate: Estimate) -> tuple[bool, bool, bool]:
    first = estimate.terms[0]
    is_change = estimate.formula not in ("mean", "spread")
    return is_change, isinstance(first, str), first != DAY_S


def spread_of(estimate: Estimate) -> Estimate | None:
    """Return the standard deviation over chips of a mean, if it is an estimate too."""
    others = (e for e in ESTIMATES if e.formula == "spread" and e.terms == estimate.terms)
    return next(others, None) if estimate.formula == "mean" else None


def metrics_of(columns: Iterable[str]) -> tuple[str, ...]:
    """Return the metrics of the columns of ``summary.csv``, the primary one first.

    Example:
        >>> metrics_of(["model", "dice_digital", "dice_own_digital", "hd95_digital"])
        ('dice', 'hd95')
    """
    end = "_digital"
    names = (str(column).removesuffix(end) for column in columns if str(column).endswith(end))
    return tuple(name for name in names if not name.endswith("_own"))


def columns_for(
    estimates: Iterable[Estimate], found: Collection[str], metric: str, *, primary: bool = True
) -> list[str]:
    """Return the columns of those estimates that a table has; each is complete or not there at all.

    Args:
        estimates: estimates to look for.
        found: columns of the table.
        metric: name of the metric.
        primary: whether it is the primary metric of the table.

    Example:
        >>> columns_for(shown_in("terminal"), ["avm_low"], "dice")
        ['avm', 'avm_low', 'avm_high']
    """
    triples = (
        [estimate.column(metric, primary=primary) + end for end in ENDS] for estimate in estimates
    )
    return [name for triple in triples if not set(triple).isdisjoint(found) for name in triple]


def with_ends(*names: str) -> tuple[str, ...]:
    """Return columns of estimates with the limits of their intervals."""
    return tuple(name + end for name in names for end in ENDS)


def unit_of(rows: "pd.DataFrame") -> str:
    """Return the unit of a summary of one metric; ``"1"`` without a unit."""
    return str(rows["unit"].iloc[0]) if "unit" in rows and len(rows) else "1"


def of_metric(summary: "pd.DataFrame", metric: str) -> "pd.DataFrame":
    """Return a summary of one metric, with its estimates named by their keys.

    Args:
        summary: content of ``summary.csv``.
        metric: one of ``metrics_of(summary)``.

    Returns:
        All rows, with the columns that are no estimates, and the estimates of this metric; the
        column ``unit`` is there if it has one.

    Example:
        >>> summary = pd.DataFrame([[0.9, 3.0]], columns=["dice_digital", "hd95_digital"])
        >>> list(of_metric(summary, "hd95"))
        ['digital']
    """
    names = metrics_of(summary.columns)
    columns = {
        (name, estimate.column(name, primary=name == names[0]) + end): estimate.key + end
        for name in names
        for estimate in summary_estimates()
        for end in ENDS
    }
    columns |= {(name, f"{name}_unit"): "unit" for name in names}
    others = [column for (name, column) in columns if name != metric and column in summary]
    own = {column: key for (name, column), key in columns.items() if name == metric}
    return summary.drop(columns=others).rename(columns=own)
