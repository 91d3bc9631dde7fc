"""Tables of a search and of its supernetworks."""

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
    order=(
        *("task", "level", "block", "importance", "mean_importance"),
        *("down", "up", "join", "networks"),
    ),
)
TRACE = Table(
    "trace",
    Columns(texts=("genotype",), numbers=("epoch", "score")),
    order=("epoch", "genotype", "score"),
)
"""Scores of the same networks during the training of a supernetwork."""
PRUNING = Table(
    "pruning", Columns(names=("block",), numbers=("epoch", "level", "dice", "latency_s"))
)
"""Blocks that the training of a supernetwork dropped."""
