"""Tables of a search: candidates, Pareto front, importance of blocks."""

from analogmed.tables.table import Columns, Table

_CANDIDATE = Columns(
    names=("network", "key"),
    texts=("error",),
    numbers=("number", "violation", "seconds"),
    can_be_empty=True,
)
CANDIDATES = Table("candidates", _CANDIDATE, parquet=True)
FRONT = Table("front", _CANDIDATE)
IMPORTANCE = Table(
    "importance",
    Columns(
        names=("task", "block"),
        numbers=("level", "importance", "mean_importance", "networks"),
        can_be_empty=True,
    ),
)
