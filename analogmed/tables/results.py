"""The long results table: one row per network, chip, time, read, case, class and metric."""

from collections.abc import Mapping

import pandas as pd

from analogmed.tables.table import Columns, Table

COLUMNS = {
    "task": "string",
    "model": "string",
    "training": "string",
    "hardware": "string",
    "chip": "Int64",
    "time_s": "float64",
    "read": "Int64",
    "case": "string",
    "patient": "string",
    "class": "string",
    "metric": "string",
    "value": "float64",
    "unit": "string",
    "note": "string",
}
"""Columns of the table with their types."""
MODEL = ("model", "training")
"""Columns that identify a network of a task."""
NETWORK = ("task", *MODEL)
"""Columns that identify a network."""
RUN = (*NETWORK, "hardware")
"""Columns that identify a network on one kind of chip."""
_TEXTS = ("subject", "note")
"""Columns of text that can be empty."""


def long_columns(types: Mapping[str, str]) -> Columns:
    """Return the columns of a long table for their types."""
    texts = [name for name, kind in types.items() if kind == "string"]
    return Columns(
        names=tuple(name for name in texts if name not in _TEXTS),
        texts=tuple(name for name in texts if name in _TEXTS),
        numbers=tuple(name for name in types if name not in texts),
    )


RESULTS = Table("results", long_columns(COLUMNS), parquet=True)


def to_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return the long results table with ordered and typed columns."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
