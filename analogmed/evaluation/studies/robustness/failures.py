"""Rows of the results table for failed units: no value, and the error as note."""

import pandas as pd

from analogmed.data import Task
from analogmed.evaluation.session import Row
from analogmed.evaluation.settings import Experiment
from analogmed.execution.compute import Outcome
from analogmed.metrics.registry import metric as metric_of
from analogmed.tables.results import to_table
from analogmed.training import CheckpointInfo


def failure_table(
    outcome: Outcome, info: CheckpointInfo, experiment: Experiment, task: Task
) -> pd.DataFrame:
    """Return the rows of a failed unit, with the same number as without failure and NaN values.

    Args:
        outcome: outcome of the unit; its failure is the note of all rows.
        info: metadata of the unit's network.
        experiment: all settings.
        task: data of the experiment.
    """
    chip = outcome.unit.chip
    address: Row = {
        "task": task.name,
        "model": info.model,
        "training": info.training,
        "hardware": "digital" if chip is None else experiment.hardware.preset,
        "chip": chip,
        "value": float("nan"),
        "note": outcome.failure,
    }
    readings: list[Row] = [
        {"time_s": time_s, "read": read} for time_s, read in experiment.sweep.readings
    ]
    return to_table(
        [
            {
                **address,
                **reading,
                "case": case.case_id,
                "patient": case.patient_id,
                "class": name,
                "metric": metric,
                "unit": metric_of(metric).unit_for(task.spacing_unit),
            }
            for reading in (readings if chip is not None else [{}])
            for case in task.test
            for name, metric in task.kind.rows(task.classes, experiment.metrics_for(task))
        ]
    )
