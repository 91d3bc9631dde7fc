"""Execution of one unit: a network run digitally, or on one chip at all times and reads."""

from collections.abc import Callable

from torch import nn

from analogmed.analog import Chip
from analogmed.evaluation.passes import chip_seed
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
        digital = unit.checkpoint.network.to(experiment.device)
        return read_cases(unit, digital, cases, experiment, {}, on_case)
    chip = Chip(analog, seed=chip_seed(experiment.seed, unit.checkpoint.info.model, unit.chip))
    rows: list[Row] = []
    for time_s in experiment.sweep.times_s:
        for read in range(experiment.sweep.reads):
            where: Row = {"time_s": time_s, "read": read}
            rows += read_cases(unit, chip.at(time_s, read), cases, experiment, where, on_case)
    return rows
