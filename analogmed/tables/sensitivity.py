"""Tables of a sensitivity analysis and of a placement."""

from analogmed.tables.estimates import with_ends
from analogmed.tables.table import Columns, Table

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
        texts=("layer", "digital_layers"),
        numbers=(*with_ends("drop"), "latency_ms", "energy_mj", "tiles", "level"),
        flags=("chosen", "kept"),
    ),
)
