"""Tables of a measurement of mitigations."""

from analogmed.tables.estimates import with_ends
from analogmed.tables.table import Columns, Table

VALUES = Table(
    "mitigation",
    Columns(
        names=("task", "model", "training", "option", "metric", "case", "patient"),
        numbers=("chip", "time_s", "read", "value"),
    ),
    parquet=True,
)
SUMMARY = Table(
    "summary",
    Columns(
        names=("model", "training", "option", "metric"),
        numbers=("time_s", *with_ends("value", "gain"), "n_patients", "n_chips", "level"),
        key=("model", "training", "option", "metric", "time_s"),
    ),
)
