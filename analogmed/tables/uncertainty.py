"""Tables of an uncertainty measurement."""

from analogmed.tables.estimates import with_ends
from analogmed.tables.results import MODEL, NETWORK
from analogmed.tables.table import Columns, Table

ADDRESS = (*NETWORK, "source", "time_s")
"""Columns that identify the passes of a network."""
REGIONS = ("image", "band")
"""Regions of a row that are no class of images: all positions, or the band about masks."""
_PASSES = (*MODEL, "source", "region")

VALUES = Table(
    "uncertainty",
    Columns(names=("task", *_PASSES, "case", "patient", "metric"), numbers=("time_s", "value")),
    parquet=True,
    order=(*ADDRESS, "region", "case", "patient", "metric", "value"),
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
    order=(
        *("task", "model", "source", "time_s", "region", "metric", "digital", "hwa"),
        *(*with_ends("difference"), "p_value", "p_holm", "n_patients", "level"),
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
    Columns(names=(*NETWORK, "source"), numbers=("time_s", "temperature")),
    order=(*ADDRESS, "temperature"),
)
CONFORMAL = Table(
    "conformal",
    Columns(
        names=(*NETWORK, "calibrated", "class", "patient"),
        numbers=("time_s", "chip", "threshold", "n_units", "fnr", "marked_share", "volume_ratio"),
        flags=("trivial",),
    ),
)
CONFORMAL_SUMMARY = Table(
    "conformal_summary",
    Columns(
        names=(*MODEL, "calibrated", "class", "kept"),
        numbers=("time_s", *with_ends("fnr"), "volume_ratio", "alpha"),
        flags=("trivial",),
        key=(*MODEL, "calibrated", "class", "time_s"),
    ),
)
EXAMPLES = Table(
    "examples",
    Columns(names=("rank", "case", "name", *MODEL, "source"), numbers=("time_s",), key=("name",)),
    order=("rank", "case", "name", *ADDRESS),
)
