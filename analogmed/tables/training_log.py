"""Columns of ``log.csv``, the log of a training run with one row per epoch."""

from collections.abc import Iterable

EPOCH_COLUMNS = ("epoch", "step", "loss", "learning_rate", "seconds")
"""Columns besides that of the validation score, whose name is the name of the metric."""


def score_column(columns: Iterable[str]) -> str:
    """Return the column of validation scores; ``dice`` if there is none.

    Example:
        >>> score_column(["epoch", "step", "loss", "learning_rate", "hd95", "seconds"])
        'hd95'
    """
    return next((name for name in columns if name not in EPOCH_COLUMNS), "dice")
