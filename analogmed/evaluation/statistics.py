"""Intervals and tests where patients and chips both vary."""

from analogmed.evaluation.intervals import (
    ChipMeans,
    Interval,
    mean_over_chips,
    two_way_bootstrap,
)
from analogmed.evaluation.paired_tests import PairedTest, paired_test

__all__ = [
    "ChipMeans",
    "Interval",
    "PairedTest",
    "mean_over_chips",
    "paired_test",
    "two_way_bootstrap",
]
