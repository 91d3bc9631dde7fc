"""Levels: when a network counts as trained, how a limit is described, when patients are few."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import is_metric, label_of
from analogmed.metrics.registry import metric as metric_of
from analogmed.report.names import normalised_name
from analogmed.report.text import count_range, format_fixed, format_level, in_interval
from analogmed.tables.estimates import ENDS, drop_word

FEW_PATIENTS, ENOUGH_PATIENTS = 10, 20
"""Number of patients below which a finding asks for more, and the number that it asks for."""
MOST_WIDTH = 0.5
"""Largest width of the interval of a digital value, relative to the value, for normalised ones."""
NEAR_CHANCE = 0.05
"""Largest distance of a score from chance at which a finding names it."""


def few_patients(n_patients: int, level: float) -> Iterator[str]:
    """Yield a sentence that asks for patients, if there are too few for reliable intervals.

    Args:
        n_patients: number of patients of a result.
        level: confidence level of its intervals.

    Example:
        >>> list(few_patients(20, 0.95)), next(few_patients(3, 0.95))[:17]
        ([], 'Only 3 patients: ')
    """
    if n_patients < FEW_PATIENTS:
        yield (
            f"Only {count_range([n_patients], 'patient')}: the intervals include the true value "
            f"less often than {format_level(level)}. Evaluate at least {ENOUGH_PATIENTS} patients."
        )


def few_chips(n_chips: int) -> Iterator[str]:
    """Yield a sentence that asks for chips, if two of them widen the intervals."""
    if n_chips == 2:
        yield "Only 2 chips: the intervals are wide. Use at least 5."


def with_cautions(findings: Iterable[str], cautions: Iterable[str]) -> tuple[str, ...]:
    """Return findings with cautions directly after the first of them, in the same paragraph.

    Example:
        >>> with_cautions(["Dice drops by 0.1.", "It rises."], ["Only 3 patients."])
        ('Dice drops by 0.1. Only 3 patients.', 'It rises.')
        >>> with_cautions([], ["Only 3 patients."])
        ('Only 3 patients.',)
    """
    first, rest = [*findings][:1], [*findings][1:]
    head = " ".join([*first, *cautions])
    return (*([head] if head else []), *rest)


def has_learned(metric: str, digital: float) -> bool:
    """Return whether a digital value is good enough for comparisons; true if it is unknown (NaN).

    Example:
        >>> has_learned("dice", 0.4), has_learned("dice", 0.8), has_learned("hd95", 40.0)
        (False, True, True)
    """
    learned = metric_of(metric).learned if is_metric(metric) else None
    if learned is None:
        return True
    return not (digital > learned if is_lower_better(metric) else digital < learned)


def below_level(metric: str, digital: float) -> str:
    """Return a digital value with the level that it lacks; empty if it has the level.

    Example:
        >>> below_level("dice", 0.4), below_level("dice", 0.8), below_level("auroc", 0.6)
        ('0.40, below 0.5', '', '0.60, below 0.7')
    """
    if has_learned(metric, digital):
        return ""
    side = "above" if is_lower_better(metric) else "below"
    return f"{format_fixed(digital, 2)}, {side} {metric_of(metric).learned:g}"


def low_digital(metric: str, digital: float, of: str = "") -> str:
    """Return a note on a digital value without the level of comparisons; empty if it has it.

    Args:
        metric: name of the metric.
        digital: digital value.
        of: network of the value, as it follows the metric.

    Example:
        >>> low_digital("dice", 0.4, " of the U-Net")
        'the digital Dice of the U-Net is 0.40, below 0.5, so a drop means little'
    """
    below = below_level(metric, digital)
    note = f"the digital {label_of(metric)}{of} is {below}, so a {drop_word(metric)} means little"
    return note if below else ""


def unstated(row: Mapping[str, Any], metric: str, of: str = "") -> str:
    """Return why the normalised value of a network is not stated; empty if it is.

    It is not stated if the digital value is below the level of comparisons, or if the interval of
    this value is too wide.

    Args:
        row: network in a summary of one metric.
        metric: its metric.
        of: network of the value, as it follows the metric.

    Example:
        >>> unstated({"digital": 0.8, "digital_low": 0.7, "digital_high": 0.9}, "dice")
        ''
        >>> unstated({"digital": 0.4}, "dice").split(", ")[-1]
        'so a drop means little and the normalised Dice is not stated'
    """
    value, low, high = (row.get(f"digital{end}", math.nan) for end in ENDS)
    what = f"the {normalised_name(metric)} is not stated"
    if low_value := low_digital(metric, value, of):
        return f"{low_value} and {what}"
    if not high - low > MOST_WIDTH * abs(value):
        return ""
    interval = in_interval(low, high, row["level"], 2)
    return (
        f"the digital {label_of(metric)}{of} is itself uncertain, {format_fixed(value, 2)}"
        f"{interval}, so {what}"
    )


def near_chance(metric: str, digital: float) -> str:
    """Return the value near which a digital value is; empty if it is better, or none is known.

    Example:
        >>> near_chance("dice", 0.01), near_chance("auroc", 0.52), near_chance("dice", 0.4)
        ('at most 0.05 above 0', 'at most 0.05 above chance (0.5)', '')
    """
    if not is_metric(metric) or is_lower_better(metric):
        return ""
    chance = metric_of(metric).chance
    if not digital <= chance + NEAR_CHANCE:
        return ""
    return f"at most {NEAR_CHANCE:g} above " + (f"chance ({chance:g})" if chance else "0")


def best_digital(summary: pd.DataFrame, metric: str) -> float:
    """Return the best digital value in a summary of one metric; NaN without a digital run.

    Args:
        summary: result of :func:`analogmed.tables.estimates.of_metric`.
        metric: its metric.
    """
    columns = [name for name in ("digital", "own_digital") if name in summary]
    values = summary[columns].to_numpy(dtype=np.float64)
    known = values[~np.isnan(values)]
    if not known.size:
        return float("nan")
    return float(known.min() if is_lower_better(metric) else known.max())


def limit_text(limit: float, best: float) -> str:
    """Return a limit with its ratio to the best digital value.

    Example:
        >>> limit_text(0.76, 0.8), limit_text(0.76, float("nan"))
        ('0.76 (0.95 of the best digital one)', '0.76')
    """
    return (
        f"{format_fixed(limit, 2)} ({format_fixed(limit / best, 2)} of the best digital one)"
        if best > 0
        else format_fixed(limit, 2)
    )
