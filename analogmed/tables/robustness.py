"""Tables of an evaluation on chips."""

from collections.abc import Collection
from dataclasses import dataclass

from analogmed.metrics.registry import PRIMARY
from analogmed.tables.estimates import columns_for, metrics_of, summary_estimates, with_ends
from analogmed.tables.hardware import MEANS
from analogmed.tables.results import MODEL, RUN
from analogmed.tables.table import Columns, Table

COSTS = {
    "parameters": "parameters\n",
    "tiles": "tiles\n",
    **MEANS,
    "analog_weight_share": "analog\nweights",
    "analog_mac_share": "analog\nMACs",
    "profile": "profile\n",
    "profile_level": "level\n",
    "profile_tile_size": "tile\nsize",
    "estimated_tiles": "tiles\n",
    "estimated_utilisation": "cells\nused",
    "estimated_latency_ms": "one {input}\nms",
    "estimated_energy_mj": "one {input}\nmJ",
    "estimated_throughput_per_s": "{input}s\nper s",
    "uncosted_layers": "layers\nnot costed",
}
"""Cost columns with their heads; other columns of a summary are not costs and are not shown.

``{input}`` stands for the word for one input of a network of the task.
"""
NAMED_COSTS = ("profile", "profile_level", "profile_tile_size")
"""Cost columns that contain text."""
PROFILED = ("profile", "estimated_", "uncosted_")
"""Prefixes of the columns that depend on a profile."""
_NEEDED = ("digital", "1d", "noise_drop", "normalised_1d")
"""Estimates from which the findings of an evaluation are made."""


@dataclass(frozen=True)
class SummaryTable(Table):
    """``summary.csv``, whose columns follow from its metrics."""

    def columns_for(self, found: Collection[str]) -> Columns:
        """Return the columns; an estimate is complete or not there at all."""
        metrics = metrics_of(found) or (PRIMARY,)
        estimates = summary_estimates()
        needed = [e.column(metrics[0]) for e in estimates if e.key in _NEEDED]
        names = [
            name
            for metric in metrics
            for name in columns_for(
                estimates, {*found, *needed}, metric, primary=metric == metrics[0]
            )
        ]
        units = [f"{metric}_unit" for metric in metrics if f"{metric}_unit" in found]
        return Columns(
            names=RUN,
            texts=("note", *units),
            numbers=(*names, "n_patients", "n_chips", "missed", "missed_of", "level"),
            optional=tuple(name for name in COSTS if name not in NAMED_COSTS),
            key=RUN,
        )


SUMMARY = SummaryTable("summary")
CURVES = Table(
    "curves",
    Columns(
        names=(*RUN, "metric"),
        texts=("unit",),
        numbers=("time_s", "estimate", "low", "high", "n_patients", "n_chips", "level"),
        key=(*RUN, "metric", "time_s"),
    ),
    order=(
        *(*RUN, "time_s", "metric", "unit", "estimate", "low", "high"),
        *(*with_ends("drift_drop"), "n_patients", "n_chips", "level", "note"),
    ),
)
CLASS_SCORES = Table(
    "class_scores",
    Columns(
        names=(*RUN, "class", "metric"),
        texts=("unit", "note"),
        numbers=(
            *("time_s", "estimate", "low", "high"),
            *with_ends("drift_drop"),
            *("n_patients", "n_chips", "level"),
        ),
        key=(*RUN, "class", "metric", "time_s"),
    ),
)
CHIP_LOSSES = Table(
    "chip_losses",
    Columns(
        names=(*RUN, "metric"),
        numbers=("time_s", "chip", "drift_drop"),
        key=(*RUN, "metric", "time_s", "chip"),
    ),
    order=(*RUN, "metric", "time_s", "chip", "drift_drop"),
)
_OTHER = tuple(f"other_{name}" for name in MODEL)
_DIFFERENCE = (
    *("time_s", "difference", "low", "high", "p_value", "p_holm"),
    *("n_patients", "n_chips"),
)
COMPARISON = Table(
    "comparison",
    Columns(
        names=(*RUN, *_OTHER, "metric"),
        numbers=_DIFFERENCE,
        key=(*RUN, *_OTHER, "metric", "time_s"),
    ),
    order=("task", "hardware", *MODEL, *_OTHER, "metric", *_DIFFERENCE, "level", "note"),
)
TIME_TO_FAILURE = Table(
    "time_to_failure",
    Columns(
        names=(*RUN, "metric"),
        numbers=("limit", "holds_until_s", "fails_at_s", "reprogram_every_s"),
        flags=("censored",),
        key=(*RUN, "metric", "limit"),
    ),
)
STRIP_SIGNALS = Table(
    "strip_signals",
    Columns(
        names=("task", "case", "channel"),
        numbers=("second", "value"),
        key=("case", "channel", "second"),
    ),
    order=("task", "case", "patient", "channel", "second", "value"),
)
STRIP_IMAGES = Table(
    "strip_images",
    Columns(
        names=(*RUN, "case", "place", "reference", "class"),
        numbers=("second", "time_s", "probability", "least", "largest", "n_chips"),
        key=(*RUN, "case", "second", "class", "time_s"),
    ),
    order=(
        *(*RUN, "case", "patient", "place", "second", "reference", "class", "time_s"),
        *("probability", "least", "largest", "n_chips"),
    ),
)
