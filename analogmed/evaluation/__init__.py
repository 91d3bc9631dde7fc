"""From trained networks to the results table: sweep, metrics, statistics, robustness."""

from typing import TYPE_CHECKING

from analogmed.foundation.exports import lazy_exports

if TYPE_CHECKING:
    from analogmed.evaluation.loader.result import RobustnessResult as RobustnessResult
    from analogmed.evaluation.loader.robustness import robustness as robustness
    from analogmed.evaluation.statistics.intervals import Interval as Interval
    from analogmed.evaluation.statistics.intervals import difference as difference
    from analogmed.evaluation.statistics.intervals import ratio as ratio
    from analogmed.evaluation.statistics.intervals import two_way_bootstrap as two_way_bootstrap
    from analogmed.evaluation.statistics.paired_tests import PairedTest as PairedTest
    from analogmed.evaluation.statistics.paired_tests import holm as holm
    from analogmed.evaluation.statistics.paired_tests import paired_test as paired_test
    from analogmed.evaluation.statistics.planning import VarianceComponents as VarianceComponents
    from analogmed.evaluation.statistics.planning import expected_width as expected_width
    from analogmed.evaluation.statistics.planning import plan_size as plan_size
    from analogmed.evaluation.statistics.planning import variance_components as variance_components
    from analogmed.evaluation.statistics.spread import std_between_chips as std_between_chips
    from analogmed.evaluation.statistics.stopping import Decision as Decision
    from analogmed.evaluation.statistics.stopping import enough as enough
    from analogmed.evaluation.studies.placement.study import PlacementResult as PlacementResult
    from analogmed.evaluation.studies.placement.study import place_layers as place_layers
    from analogmed.evaluation.studies.robustness.study import Results as Results
    from analogmed.evaluation.studies.robustness.study import evaluate as evaluate
    from analogmed.evaluation.studies.sensitivity.ranking import rank as rank
    from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig as PlacementConfig
    from analogmed.evaluation.studies.sensitivity.settings import (
        SensitivityConfig as SensitivityConfig,
    )
    from analogmed.evaluation.studies.sensitivity.study import (
        SensitivityResult as SensitivityResult,
    )
    from analogmed.evaluation.studies.sensitivity.study import sensitivity as sensitivity
    from analogmed.evaluation.summaries.comparison import compare_models as compare_models
    from analogmed.evaluation.summaries.failure_time import time_to_failure as time_to_failure
    from analogmed.evaluation.summaries.sequential import pilot_components as pilot_components
    from analogmed.evaluation.summaries.summary import over_time as over_time
    from analogmed.evaluation.summaries.summary import summarise as summarise
    from analogmed.metrics.case import case_metrics as case_metrics
    from analogmed.metrics.registry import METRICS as METRICS

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "Decision": "statistics.stopping",
        "Interval": "statistics.intervals",
        "METRICS": "analogmed.metrics.registry",
        "PairedTest": "statistics.paired_tests",
        "PlacementResult": "studies.placement.study",
        "PlacementConfig": "studies.sensitivity.settings",
        "Results": "studies.robustness.study",
        "RobustnessResult": "loader.result",
        "SensitivityResult": "studies.sensitivity.study",
        "SensitivityConfig": "studies.sensitivity.settings",
        "VarianceComponents": "statistics.planning",
        "case_metrics": "analogmed.metrics.case",
        "compare_models": "summaries.comparison",
        "difference": "statistics.intervals",
        "enough": "statistics.stopping",
        "evaluate": "studies.robustness.study",
        "expected_width": "statistics.planning",
        "holm": "statistics.paired_tests",
        "over_time": "summaries.summary",
        "paired_test": "statistics.paired_tests",
        "pilot_components": "summaries.sequential",
        "place_layers": "studies.placement.study",
        "plan_size": "statistics.planning",
        "rank": "studies.sensitivity.ranking",
        "ratio": "statistics.intervals",
        "robustness": "loader.robustness",
        "sensitivity": "studies.sensitivity.study",
        "std_between_chips": "statistics.spread",
        "summarise": "summaries.summary",
        "time_to_failure": "summaries.failure_time",
        "two_way_bootstrap": "statistics.intervals",
        "variance_components": "statistics.planning",
    },
    deprecated={"Placed": "PlacementResult", "Sensitivities": "SensitivityResult"},
)
