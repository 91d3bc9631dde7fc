"""From trained networks to the results table: sweep, metrics, statistics, robustness."""

from analogmed.evaluation.evaluate import Results, evaluate
from analogmed.evaluation.metrics import METRICS, case_metrics
from analogmed.evaluation.placement import Placed, place_layers
from analogmed.evaluation.robustness import over_time, summarise
from analogmed.evaluation.sensitivity_config import PlacementConfig, SensitivityConfig
from analogmed.evaluation.sensitivity_ranking import rank
from analogmed.evaluation.sensitivity_run import Sensitivities, sensitivity
from analogmed.evaluation.statistics import Interval, paired_test, two_way_bootstrap

__all__ = [
    "METRICS",
    "Interval",
    "Placed",
    "PlacementConfig",
    "Results",
    "Sensitivities",
    "SensitivityConfig",
    "case_metrics",
    "evaluate",
    "over_time",
    "paired_test",
    "place_layers",
    "rank",
    "sensitivity",
    "summarise",
    "two_way_bootstrap",
]
