"""Columns of the tables of a page, by kind of run."""

from collections.abc import Collection

from analogmed.report.tables.evaluation import COSTS, NAMED_COSTS
from analogmed.tables.estimates import ENDS, columns_for, metrics_of, summary_estimates
from analogmed.tables.table import Columns


def _with_ends(*names: str) -> tuple[str, ...]:
    """Return the columns of estimates with their interval limits."""
    return tuple(name + end for name in names for end in ENDS)


_NETWORK = ("model", "training")
_RUN = ("task", *_NETWORK, "hardware")
_PASSES = (*_NETWORK, "source", "region")
_NEEDED = ("digital", "1d", "noise_drop", "normalised_1d")
"""Estimates from which the findings of an evaluation are made."""
_COUNTED = tuple(name for name in COSTS if name not in NAMED_COSTS)
COLUMNS: dict[tuple[str, str], Columns] = {
    ("evaluation", "curves"): Columns(
        names=(*_RUN, "metric"),
        texts=("unit",),
        numbers=("time_s", "estimate", "low", "high", "n_patients", "n_chips", "level"),
        key=(*_RUN, "metric", "time_s"),
    ),
    ("evaluation", "comparison"): Columns(
        names=(*_RUN, "other_model", "other_training", "metric"),
        numbers=(
            *("time_s", "difference", "low", "high", "p_value", "p_holm"),
            *("n_patients", "n_chips"),
        ),
        key=(*_RUN, "other_model", "other_training", "metric", "time_s"),
    ),
    ("evaluation", "time_to_failure"): Columns(
        names=(*_RUN, "metric"),
        numbers=("limit", "holds_until_s", "fails_at_s", "reprogram_every_s"),
        flags=("censored",),
        key=(*_RUN, "metric", "limit"),
    ),
    ("uncertainty", "summary"): Columns(
        names=(*_PASSES, "metric"),
        numbers=("time_s", "estimate", "low", "high", "n_patients"),
        key=(*_PASSES, "metric", "time_s"),
    ),
    ("uncertainty", "comparison"): Columns(
        names=("model", "source", "region", "metric"),
        numbers=("time_s", "digital", "hwa", *_with_ends("difference"), "p_value", "n_patients"),
        optional=("p_holm",),
        key=("model", "source", "region", "metric", "time_s"),
        can_be_empty=True,
    ),
    ("uncertainty", "density"): Columns(
        names=(*_PASSES, "measure"), numbers=("time_s", "bin_low", "bin_high", "count")
    ),
    ("uncertainty", "reliability"): Columns(
        names=_PASSES, numbers=("time_s", "voxels", "confidence", "accuracy")
    ),
    ("uncertainty", "risk_coverage"): Columns(
        names=_PASSES, numbers=("time_s", "coverage", "risk")
    ),
    ("uncertainty", "conformal_summary"): Columns(
        names=(*_NETWORK, "calibrated", "class", "kept"),
        numbers=("time_s", *_with_ends("fnr"), "volume_ratio", "alpha"),
        flags=("trivial",),
        key=(*_NETWORK, "calibrated", "class", "time_s"),
    ),
    ("mitigation", "summary"): Columns(
        names=(*_NETWORK, "option", "metric"),
        numbers=("time_s", *_with_ends("value", "gain"), "level"),
        key=(*_NETWORK, "option", "metric", "time_s"),
    ),
    ("placement", "placements"): Columns(
        texts=("layer", "digital_layers"),
        numbers=(*_with_ends("drop"), "latency_ms", "energy_mj", "tiles", "level"),
        flags=("chosen", "kept"),
    ),
    ("sensitivity", "ranking"): Columns(
        names=("setting",),
        texts=("subject",),
        numbers=("time_s", "rank", *_with_ends("effect"), "level"),
        key=("setting", "subject", "time_s"),
    ),
    ("training", "log"): Columns(
        numbers=("epoch", "loss", "learning_rate", "dice"), key=("epoch",), can_be_empty=True
    ),
}
"""Columns by kind of run and table. A table that is not listed for a kind, such as the ranking of
a placement, has the columns of any kind that lists it."""


def columns_of(kind: str, name: str, found: Collection[str]) -> Columns:
    """Return the columns of a table of a run of some kind.

    Args:
        kind: kind of the run.
        name: name of the table.
        found: columns of the file, on which those of a summary depend.
    """
    if (kind, name) == ("evaluation", "summary"):
        return _summary(found)
    if (kind, name) in COLUMNS:
        return COLUMNS[kind, name]
    return next((columns for (_, other), columns in COLUMNS.items() if other == name), Columns())


def _summary(found: Collection[str]) -> Columns:
    """Return the columns of ``summary.csv``; an estimate is complete or not there at all."""
    metrics = metrics_of(found) or ("dice",)
    needed = [e.column(metrics[0]) for e in summary_estimates() if e.key in _NEEDED]
    estimates = [
        name
        for metric in metrics
        for name in columns_for(
            summary_estimates(),
            {*found, *needed},
            metric,
            primary=metric == metrics[0],
        )
    ]
    return Columns(
        names=_RUN,
        texts=("note", *(f"{metric}_unit" for metric in metrics if f"{metric}_unit" in found)),
        numbers=(*estimates, "n_patients", "n_chips", "missed", "missed_of", "level"),
        optional=_COUNTED,
        key=_RUN,
    )
