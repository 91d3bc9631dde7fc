"""Tables of a search and of its supernetworks."""

from typing import TYPE_CHECKING

from analogmed.metrics.registry import PRIMARY
from analogmed.tables.estimates import metrics_of
from analogmed.tables.table import Columns, Table

if TYPE_CHECKING:
    import pandas as pd

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


def measured_metric(candidates: "pd.DataFrame") -> str:
    """Return the primary metric of a search: the first metric that was measured.

    Args:
        candidates: rows of ``candidates.csv`` or ``front.csv``.

    Returns:
        the metric; that of the first column if none was measured yet.
    """
    names = metrics_of(candidates.columns) or (PRIMARY,)
    known = (name for name in names if f"{name}_digital" in candidates)
    return next((n for n in known if candidates[f"{n}_digital"].notna().any()), names[0])
