"""Scores of each class of a task with several: the content of ``class_scores.csv``."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analogmed.evaluation.summaries.runs import notes_of, present_structures
from analogmed.evaluation.summaries.summary import over_time
from analogmed.foundation.time_constants import DAY_S
from analogmed.metrics.notes import APART

IN_NO_REFERENCE = "in no reference of the test cases"


def time_of_classes(times_s: Sequence[float]) -> float:
    """Return the time at which classes are scored: one day, or the last time of a sweep without it.

    Example:
        >>> time_of_classes([0.0, 86_400.0, 2_592_000.0]), time_of_classes([0.0, 1.0])
        (86400.0, 1.0)
    """
    return DAY_S if DAY_S in times_s else max(times_s)


def class_scores(table: pd.DataFrame, metric: str, time_s: float, **settings: Any) -> pd.DataFrame:
    """Compute a metric of each class, digitally and on the chip at one time.

    Args:
        table: long results table, columns ``COLUMNS``.
        metric: name in the ``metric`` column.
        time_s: seconds after programming.
        **settings: settings of the intervals, see
            :func:`analogmed.evaluation.summaries.summary.over_time`.

    Returns:
        The rows of ``over_time`` for each class, with a column ``class``; NaN with a note for a
        class that is in no reference; a note for a class that the task scores on its own; no rows
        if the metric has a single class.
    """
    at_time = table["time_s"].isna() | (table["time_s"] == time_s)
    rows = table[(table["metric"] == metric) & at_time & table["class"].notna()]
    names = rows["class"].unique()
    if len(names) < 2:
        return pd.DataFrame()
    parts = []
    for name in names:
        of_class = rows[rows["class"] == name]
        is_apart = notes_of(of_class).isin([APART])
        of_class = of_class.assign(note=of_class["note"].mask(is_apart, ""))
        is_absent = present_structures(of_class).empty
        if is_absent:
            of_class = of_class.assign(value=math.nan, note="")
        part = over_time(of_class, metric, **settings)
        part.insert(0, "class", name)
        note = IN_NO_REFERENCE if is_absent else APART if is_apart.any() else None
        parts.append(part if note is None else part.assign(note=note))
    return pd.concat(parts, ignore_index=True)
