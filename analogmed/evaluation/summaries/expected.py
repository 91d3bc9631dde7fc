"""Comparison of the digital score of a network with the one that its checkpoint expects."""

import math
import warnings

import pandas as pd

from analogmed.data import Task
from analogmed.evaluation.summaries.runs import digital_values
from analogmed.metrics.properties import bounds_of
from analogmed.metrics.registry import label_of
from analogmed.training import Checkpoint

TOLERANCE = 0.05
"""Largest expected difference, as a share of the range of the metric, else of the score, or 1."""


def warn_on_unexpected_score(table: pd.DataFrame, checkpoint: Checkpoint, task: Task) -> None:
    """Warn if the digital score of a network is far from the one that its checkpoint expects.

    Args:
        table: rows of the digital run of the network.
        checkpoint: network, with an expected score or without.
        task: data of the run.
    """
    expected = checkpoint.info.expected_score
    if expected is None:
        return
    metric = task.primary_metric
    found = float(digital_values(table[table["metric"] == metric]).mean())
    low, high = bounds_of(metric)
    scale = high - low if math.isfinite(high - low) else abs(expected) or 1.0
    if math.isnan(found) or abs(found - expected) <= TOLERANCE * scale:
        return
    if not low <= expected <= high:
        warnings.warn(
            f"{checkpoint.path}: its expected_score is {expected:g}, but a {label_of(metric)} is "
            f"from {low:g} to {high:g}. Save it again with such a score.",
            stacklevel=2,
        )
        return
    warnings.warn(
        f"{checkpoint.path}: the digital {label_of(metric)} on the {len(task.test)} test cases of "
        f"{task.name} is {found:.3f}; expected about {expected:.3f} by the checkpoint. Results on "
        f"chips are not meaningful until they agree. Check {_causes(task)}.",
        stacklevel=2,
    )


def _causes(task: Task) -> str:
    axes = (
        f"the order and direction of the axes (task.options.axes and orientation; arrays are "
        f"{task.axes} now), voxel sizes, "
        if task.axes
        else ""
    )
    return (
        f"{axes}the normalisation (modality, intensity), the order of channels "
        f"({', '.join(task.channels)}) and classes ({', '.join(task.classes)}), and that the test "
        "cases are the same"
    )
