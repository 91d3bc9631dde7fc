"""Tables of a training run: its log with one row per epoch, and the final scores."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from analogmed.metrics.registry import PRIMARY
from analogmed.tables.table import Columns, Table

EPOCH_COLUMNS = ("epoch", "step", "loss", "learning_rate", "seconds")
"""Columns besides that of the validation score, whose name is the name of the metric."""


def score_column(columns: Iterable[str]) -> str:
    """Return the column of validation scores; ``dice`` if there is none.

    Example:
        >>> score_column(["epoch", "step", "loss", "learning_rate", "hd95", "seconds"])
        'hd95'
    """
    return next((name for name in columns if name not in EPOCH_COLUMNS), PRIMARY)


@dataclass(frozen=True)
class LogTable(Table):
    """``log.csv``, which has one column named after the metric of validation."""

    def columns_for(self, found: Collection[str]) -> Columns:
        """Return the columns of a log that has certain columns."""
        numbers = ("epoch", "loss", "learning_rate", score_column(found))
        return Columns(numbers=numbers, key=("epoch",), can_be_empty=True)


LOG = LogTable("log")

_RUN = ("run", "time_s")


@dataclass(frozen=True)
class FinalScores(Table):
    """``final_scores.csv``, which has one column named after the metric of validation."""

    def columns_for(self, found: Collection[str]) -> Columns:
        """Return the columns of a table that has certain columns."""
        return Columns(names=("run",), numbers=("time_s", metric_column(found)), key=_RUN)


def metric_column(columns: Iterable[str]) -> str:
    """Return the column of final scores; ``dice`` if there is none."""
    return next((name for name in columns if name not in _RUN), PRIMARY)


FINAL_SCORES = FinalScores("final_scores")
