"""Loss of each single chip over time: the content of ``chip_losses.csv``."""

import numpy as np
import pandas as pd

from analogmed.evaluation.summaries.runs import network_runs
from analogmed.metrics.properties import is_lower_better
from analogmed.tables.robustness import CHIP_LOSSES


def chip_losses(
    table: pd.DataFrame, metric: str = "dice", *, lower_is_better: bool | None = None
) -> pd.DataFrame:
    """Compute by how much each chip is worse than the digital run, at each time.

    Args:
        table: long results table, columns ``COLUMNS``.
        metric: name in the ``metric`` column.
        lower_is_better: whether lower values are better; by default, as the metric of this name
            declares, and false for an unknown name.

    Returns:
        One row per network, time and chip. ``drift_drop`` is the mean over the cases of the chip,
        against the same reference as in ``analogmed.evaluation.summaries.summary.over_time``.
        Chips without a value have no row.

    Raises:
        DataError: the table lacks a column.
    """
    lower = is_lower_better(metric, lower_is_better)
    rows = []
    for run in network_runs(table, metric):
        for time_s in sorted(run.on_chip):
            losses = run.reference[:, None] - run.on_chip[time_s]
            losses = np.ma.masked_invalid(-losses if lower else losses).mean(axis=0)
            rows += [
                {**run.key, "metric": metric, "time_s": time_s, "chip": chip, "drift_drop": loss}
                for chip, loss in zip(run.chips, losses.filled(np.nan), strict=True)
                if np.isfinite(loss)
            ]
    return CHIP_LOSSES.frame(rows)
