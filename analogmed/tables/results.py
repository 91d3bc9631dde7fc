"""Results tables in the run folder, each written atomically."""

from pathlib import Path

import pandas as pd

from analogmed.foundation.files import write_atomically

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
"""Columns of the long table: one row per network, chip, time, read, case, class and metric."""


def to_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return the long results table with ordered and typed columns."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def write_table(table: pd.DataFrame, folder: Path, name: str, *, parquet: bool = True) -> None:
    """Write a table as CSV and, by default, as Parquet."""
    write_atomically(folder / f"{name}.csv", lambda path: table.to_csv(path, index=False))
    if parquet:
        write_atomically(
            folder / f"{name}.parquet", lambda path: table.to_parquet(path, index=False)
        )
