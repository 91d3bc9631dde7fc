"""Tables of an uncertainty measurement."""

from analogmed.tables.estimates import with_ends
from analogmed.tables.table import Columns, Table

_NETWORK = ("model", "training")
_PASSES = (*_NETWORK, "source", "region")

VALUES = Table(
    "uncertainty",
    Columns(names=("task", *_PASSES, "case", "patient", "metric"), numbers=("time_s", "value")),
    parquet=True,
)
SUMMARY = Table(
    "summary",
    Columns(
        names=(*_PASSES, "metric"),
        numbers=("time_s", "estimate", "low", "high", "n_patients", "level"),
        key=(*_PASSES, "metric", "time_s"),
    ),
)
COMPARISON = Table(
    "comparison",
    Columns(
        names=("model", "source", "region", "metric"),
        numbers=(
            *("time_s", "digital", "hwa", *with_ends("difference")),
            *("p_value", "n_patients", "level"),
        ),
        optional=("p_holm",),
        key=("model", "source", "region", "metric", "time_s"),
        can_be_empty=True,
    ),
)
DENSITY = Table(
    "density",
    Columns(names=(*_PASSES, "measure"), numbers=("time_s", "bin_low", "bin_high", "count")),
)
RELIABILITY = Table(
    "reliability",
    Columns(names=_PASSES, numbers=("time_s", "voxels", "confidence", "accuracy")),
)
RISK_COVERAGE = Table(
    "risk_coverage", Columns(names=_PASSES, numbers=("time_s", "coverage", "risk"))
)
TEMPERATURES = Table(
    "temperatures",
    Columns(names=("task", *_NETWORK, "source"), numbers=("time_s", "temperature")),
)
CONFORMAL = Table(
    "conformal",
    Columns(
        names=("task", *_NETWORK, "calibrated", "class", "patient"),
        numbers=("time_s", "chip", "threshold", "n_units", "fnr", "marked_share", "volume_ratio"),
        flags=("trivial",),
    ),
)
CONFORMAL_SUMMARY = Table(
    "conformal_summary",
    Columns(
        names=(*_NETWORK, "calibrated", "class", "kept"),
        numbers=("time_s", *with_ends("fnr"), "volume_ratio", "alpha"),
        flags=("trivial",),
        key=(*_NETWORK, "calibrated", "class", "time_s"),
    ),
)
EXAMPLES = Table(
    "examples",
    Columns(
        names=("rank", "case", "name", *_NETWORK, "source"), numbers=("time_s",), key=("name",)
    ),
)
