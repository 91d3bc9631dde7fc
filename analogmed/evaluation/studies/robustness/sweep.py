"""Execution of units: a network run digitally, or on one chip at all times and reads."""

from collections.abc import Callable

import pandas as pd
from torch import nn

from analogmed.evaluation.passes import Pass, chip_passes
from analogmed.evaluation.session import Cases, Deployment, Row, read_cases
from analogmed.evaluation.settings import Experiment
from analogmed.tables.results import to_table
from analogmed.training import Checkpoint


def run_unit(
    unit: Deployment,
    analog: nn.Module | None,
    cases: Cases,
    experiment: Experiment,
    on_case: Callable[[], object],
) -> list[Row]:
    """Compute the rows of the results table for one unit.

    Args:
        unit: unit of work.
        analog: network on tiles; ``None`` for the digital run.
        cases: test samples.
        experiment: all settings.
        on_case: callback after each case.
    """
    if analog is None or unit.chip is None:
        digital = Pass.digital(unit.checkpoint.network.to(experiment.device))
        return read_cases(unit, digital, cases, experiment, on_case)
    passes = chip_passes(
        analog,
        experiment.sweep,
        model=unit.checkpoint.info.model,
        seed=experiment.seed,
        chips=[unit.chip],
    )
    return [row for one in passes for row in read_cases(unit, one, cases, experiment, on_case)]


def chip_table(
    checkpoint: Checkpoint,
    analog: nn.Module,
    cases: Cases,
    experiment: Experiment,
    *,
    digital: bool = True,
) -> pd.DataFrame:
    """Return the long results table of one network on all chips of an experiment.

    Args:
        checkpoint: trained network.
        analog: network on tiles.
        cases: test samples.
        experiment: all settings.
        digital: whether the rows of the digital run precede those of the chips.
    """
    chips = range(experiment.sweep.chips)
    rows: list[Row] = []
    for chip in (None, *chips) if digital else chips:
        rows += run_unit(Deployment(checkpoint, chip), analog, cases, experiment, lambda: None)
    return to_table(rows)
