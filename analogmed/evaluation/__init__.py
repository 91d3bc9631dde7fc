"""From trained networks to the results table: sweep, metrics, statistics, robustness."""

from analogmed.evaluation.evaluate import Results, evaluate
from analogmed.evaluation.metrics import METRICS, case_metrics
from analogmed.evaluation.placement import Placed, place_layers
from analogmed.evaluation.robustness import over_time, summarise
from analogmed.evaluation.sensitivity_config import PlacementConfig, SensitivityConfig
from analogmed.evaluation.sensitivity_ranking import rank
from analogmed.evaluation.sensitivity_run import Sensitivities, sensitivity
from analogmed.evaluation.statistics import (
    Decision,
    Interval,
    PairedTest,
    VarianceComponents,
    compare_models,
    difference,
    enough,
    expected_width,
    holm,
    paired_test,
    pilot_components,
    plan_size,
    ratio,
    std_between_chips,
    time_to_failure,
    two_way_bootstrap,
    variance_components,
)

__all__ = [
    "METRICS",
    "Decision",
    "Interval",
    "PairedTest",
    "Placed",
    "PlacementConfig",
    "Results",
    "Sensitivities",
    "SensitivityConfig",
    "VarianceComponents",
    "case_metrics",
    "compare_models",
    "difference",
    "enough",
    "evaluate",
    "expected_width",
    "holm",
    "over_time",
    "paired_test",
    "pilot_components",
    "place_layers",
    "plan_size",
    "rank",
    "ratio",
    "sensitivity",
    "std_between_chips",
    "summarise",
    "time_to_failure",
    "two_way_bootstrap",
    "variance_components",
]
