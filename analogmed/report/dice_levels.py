"""Dice thresholds: when a network counts as trained, and how a limit is described."""

import numpy as np
import pandas as pd

from analogmed.report.tables.page import fixed

LEARNED_DICE = 0.5
"""Smallest digital Dice of a network that counts as trained. Below it, prediction and reference
overlap in less than half of their mean size, so relative on-chip values are not meaningful.
"""


def has_learned(digital: float) -> bool:
    """Return whether a digital Dice is high enough for comparisons; true if it is unknown (NaN)."""
    return not digital < LEARNED_DICE


def best_digital(summary: pd.DataFrame) -> float:
    """Return the highest digital Dice in ``summary.csv``; NaN without a digital run."""
    columns = [name for name in ("dice_digital", "dice_own_digital") if name in summary]
    values = summary[columns].to_numpy(dtype=np.float64)
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else float("nan")


def limit_text(limit: float, best: float) -> str:
    """Return a Dice limit with its ratio to the best digital Dice.

    Example:
        >>> limit_text(0.76, 0.8), limit_text(0.76, float("nan"))
        ('0.76 (0.95 of the best digital one)', '0.76')
    """
    return (
        f"{fixed(limit, 2)} ({fixed(limit / best, 2)} of the best digital one)"
        if best > 0
        else fixed(limit, 2)
    )
