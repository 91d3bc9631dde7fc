"""Levels of Dice: from where on a network has learned its task, and what a limit is."""

import numpy as np
import pandas as pd

from analogmed.report.tables.page import fixed

LEARNED_DICE = 0.5
"""A network with a lower Dice, run digitally, has not learned its task: of what its mask and the
reference mark, less than half is marked by both. No share of that is worth praise.
"""


def has_learned(digital: float) -> bool:
    """Whether a digital Dice is high enough to compare with; also if it is not known (NaN)."""
    return not digital < LEARNED_DICE


def best_digital(summary: pd.DataFrame) -> float:
    """Highest Dice of the networks of ``summary.csv``, run digitally; NaN where none was."""
    columns = [name for name in ("dice_digital", "dice_own_digital") if name in summary]
    values = summary[columns].to_numpy(dtype=np.float64)
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else float("nan")


def limit_text(limit: float, best: float) -> str:
    """A limit of Dice, and what it is of the best digital Dice.

    Example:
        >>> limit_text(0.76, 0.8), limit_text(0.76, float("nan"))
        ('0.76 (0.95 of the best digital one)', '0.76')
    """
    return (
        f"{fixed(limit, 2)} ({fixed(limit / best, 2)} of the best digital one)"
        if best > 0
        else fixed(limit, 2)
    )
