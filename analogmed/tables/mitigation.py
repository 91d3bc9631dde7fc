"""Tables of a measurement of mitigations."""

from analogmed.tables.estimates import with_ends
from analogmed.tables.results import MODEL, NETWORK
from analogmed.tables.table import Columns, Table

VALUES = Table(
    "mitigation",
    Columns(
        names=(*NETWORK, "option", "metric", "case", "patient"),
        numbers=("chip", "time_s", "read", "value"),
    ),
    parquet=True,
)
SUMMARY = Table(
    "summary",
    Columns(
        names=(*MODEL, "option", "metric"),
        numbers=("time_s", *with_ends("value", "gain"), "n_patients", "n_chips", "level"),
        key=(*MODEL, "option", "metric", "time_s"),
    ),
)
