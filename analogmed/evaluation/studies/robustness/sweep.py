"""Execution of one unit: a network run digitally, or on one chip at all times and reads."""

from collections.abc import Callable

from torch import nn

from analogmed.evaluation.passes import Pass, chip_passes
from analogmed.evaluation.session import Cases, Deployment, Row, read_cases
from analogmed.evaluation.settings import Experiment


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
