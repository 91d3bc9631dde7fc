"""From trained networks to the results table: sweep, metrics, statistics, robustness."""

from analogmed.evaluation.evaluate import Results, evaluate
from analogmed.evaluation.metrics import METRICS, case_metrics
from analogmed.evaluation.robustness import over_time, summarise
from analogmed.evaluation.statistics import Interval, paired_test, two_way_bootstrap

__all__ = [
    "METRICS",
    "Interval",
    "Results",
    "case_metrics",
    "evaluate",
    "over_time",
    "paired_test",
    "summarise",
    "two_way_bootstrap",
]
