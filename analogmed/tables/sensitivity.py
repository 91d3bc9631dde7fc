"""Tables of a sensitivity analysis and of a placement."""

import pandas as pd

from analogmed.tables.estimates import with_ends
from analogmed.tables.results import COLUMNS, long_columns
from analogmed.tables.table import Columns, Table

SETTINGS_COLUMNS = {"setting": "string", "subject": "string", **COLUMNS}
"""Columns of the long table of all settings with their types."""
SETTINGS = Table("results", long_columns(SETTINGS_COLUMNS), parquet=True)

RANKING = Table(
    "ranking",
    Columns(
        names=("setting",),
        texts=("subject",),
        numbers=("time_s", "rank", *with_ends("effect"), "level"),
        key=("setting", "subject", "time_s"),
    ),
)
PLACEMENTS = Table(
    "placements",
    Columns(
        texts=("layer",),
        numbers=("digital_layers", *with_ends("drop"), "latency_ms", "energy_mj", "tiles", "level"),
        flags=("chosen", "kept"),
    ),
)


def to_settings_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Return the long table of all settings with ordered and typed columns."""
    return pd.DataFrame(rows, columns=list(SETTINGS_COLUMNS)).astype(SETTINGS_COLUMNS)
