"""How many chips a sweep programs: a fixed number, or as many as an interval needs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from analogmed.config import Experiment
from analogmed.evaluation.robustness import summarise
from analogmed.training import CheckpointInfo

GROWTH = 4
"""Each round has a quarter more chips: few looks at the interval, and few chips too many."""


def first_chips(experiment: Experiment, networks: Sequence[Path]) -> dict[Path, int]:
    """Chips of each network in the first round."""
    sweep = experiment.sweep
    first = sweep.chips if sweep.width is None else sweep.first_chips
    return dict.fromkeys(networks, first)


def more_chips(
    experiment: Experiment,
    networks: Mapping[Path, CheckpointInfo],
    chips: Mapping[Path, int],
    table: pd.DataFrame,
) -> dict[Path, int] | None:
    """Chips of each network in the next round, which does not depend on who computes.

    Args:
        experiment: the width asked for, and the most chips.
        networks: the networks by file.
        chips: how many each has now.
        table: what they gave.

    Returns:
        ``None`` if the interval of each network is narrow enough, or it has all its chips.
    """
    sweep = experiment.sweep
    if sweep.width is None:
        return None
    wide = _too_wide(table, sweep.width, experiment.seed)
    more = {
        path: min(sweep.chips, n + -(-n // GROWTH))
        if (networks[path].model, networks[path].training) in wide
        else n
        for path, n in chips.items()
    }
    return None if more == chips else more


def _too_wide(table: pd.DataFrame, width: float, seed: int) -> set[tuple[str, str]]:
    """Networks whose interval of Dice after one day is not narrower than asked."""
    summary = summarise(table, seed=seed)
    widths = summary["dice_1d_high"] - summary["dice_1d_low"]
    open_rows = summary[~(widths < width)]
    return set(zip(open_rows["model"], open_rows["training"], strict=True))
