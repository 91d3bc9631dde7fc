"""Tables of a measurement of mitigations."""

from analogmed.tables.estimates import with_ends
from analogmed.tables.table import Columns, Table

SUMMARY = Table(
    "summary",
    Columns(
        names=("model", "training", "option", "metric"),
        numbers=("time_s", *with_ends("value", "gain"), "level"),
        key=("model", "training", "option", "metric", "time_s"),
    ),
)
