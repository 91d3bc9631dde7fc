"""Intervals, tests and planning where patients and chips both vary."""

from analogmed.foundation.exports import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "ChipMeans": "intervals",
        "Decision": "stopping",
        "Interval": "intervals",
        "PairedTest": "paired_tests",
        "VarianceComponents": "planning",
        "compare_models": "analogmed.evaluation.summaries.comparison",
        "difference": "intervals",
        "enough": "stopping",
        "expected_width": "planning",
        "holm": "paired_tests",
        "mean_over_chips": "intervals",
        "paired_test": "paired_tests",
        "pilot_components": "analogmed.evaluation.summaries.sequential",
        "plan_size": "planning",
        "ratio": "intervals",
        "std_between_chips": "spread",
        "time_to_failure": "analogmed.evaluation.summaries.failure_time",
        "two_way_bootstrap": "intervals",
        "variance_components": "planning",
    },
)
