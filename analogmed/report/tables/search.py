"""The Pareto front of a search as a table for the terminal."""

from collections.abc import Sequence

import pandas as pd
from rich import box
from rich.table import Table

from analogmed.report.text import printed, records
from analogmed.tables.table import require_columns

_WIDTH = 120
_SHOWN = ("dice_1d", "dice_1mo", "dice_digital", "parameters", "tiles", "latency_ms")
_COUNTS = ("parameters", "tiles")


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
    columns = list(dict.fromkeys([*objectives, *_SHOWN]))
    require_columns(front, ("number", "network", *columns), "the front")
    table = Table(title="Pareto front", box=box.SIMPLE, title_justify="left")
    for name in ("trial", "network", *columns):
        table.add_column(name, justify="left" if name == "network" else "right")
    for row in records(front.head(most)):
        cells = [_cell(name, row[name]) for name in columns]
        table.add_row(str(row["number"]), row["network"], *cells)
    more = [f"and {len(front) - most} more in front.csv"] if len(front) > most else []
    return printed(table, *more, width=_WIDTH)


def _cell(name: str, value: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:,.0f}" if name in _COUNTS else f"{value:.4g}"
