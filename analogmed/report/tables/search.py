"""The Pareto front of a search as a table for the terminal."""

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

import pandas as pd

from analogmed.report.text import format_quantity
from analogmed.report.text_table import Column, TextTable, terminal
from analogmed.tables.search import measured_metric
from analogmed.tables.table import records, require_columns

_WIDTH = 120
_COUNTED = ("parameters", "tiles", "latency_ms")


def render_front(front: pd.DataFrame, objectives: Sequence[str], most: int = 12) -> str:
    """Return the front as text, one line per network, the best one first.

    Args:
        front: contents of a search's ``front.csv``.
        objectives: optimised metrics, which are the first columns.
        most: largest number of lines; the number of omitted networks is stated.

    Returns:
        Plain text 120 columns wide, without terminal codes.

    Raises:
        DataError: a column is missing.
    """
    more = [f"and {len(front) - most} more in front.csv"] if len(front) > most else []
    return terminal(front_table(front.head(most), objectives), *more, width=_WIDTH)


def front_table(
    front: pd.DataFrame, objectives: Sequence[str], *, head: Callable[[str], str] = str
) -> TextTable:
    """Return the networks of a front, one line each; the objectives are the first columns.

    Args:
        front: rows of a search's ``front.csv``.
        objectives: optimised metrics.
        head: head of the column of a metric.

    Raises:
        DataError: a column is missing.
    """
    metric = measured_metric(front)
    estimated = (f"{metric}_1d", f"{metric}_1mo", f"{metric}_digital")
    names = list(dict.fromkeys([*objectives, *estimated, *_COUNTED]))
    require_columns(front, ("number", "network", *names), "the front")
    columns = [Column("trial", itemgetter("number"), is_text=True)]
    columns += [Column("network", itemgetter("network"), is_text=True)]
    columns += [Column(head(name), partial(_quantity, name)) for name in names]
    return TextTable.of("Pareto front", columns, records(front))


def _quantity(name: str, row: dict[str, Any]) -> str:
    return format_quantity(row[name])
