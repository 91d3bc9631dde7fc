"""Intervals, tests and planning where patients and chips both vary."""

from analogmed.evaluation.comparison import compare_models
from analogmed.evaluation.failure_time import time_to_failure
from analogmed.evaluation.intervals import (
    ChipMeans,
    Interval,
    difference,
    mean_over_chips,
    ratio,
    two_way_bootstrap,
)
from analogmed.evaluation.paired_tests import PairedTest, holm, paired_test
from analogmed.evaluation.planning import (
    VarianceComponents,
    expected_width,
    pilot_components,
    plan_size,
    variance_components,
)
from analogmed.evaluation.spread import std_between_chips
from analogmed.evaluation.stopping import Decision, enough

__all__ = [
    "ChipMeans",
    "Decision",
    "Interval",
    "PairedTest",
    "VarianceComponents",
    "compare_models",
    "difference",
    "enough",
    "expected_width",
    "holm",
    "mean_over_chips",
    "paired_test",
    "pilot_components",
    "plan_size",
    "ratio",
    "std_between_chips",
    "time_to_failure",
    "two_way_bootstrap",
    "variance_components",
]
