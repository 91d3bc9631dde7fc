"""Columns of the tables of a page, by kind of run."""

from analogmed.report.tables.evaluation import COSTS, NAMED_COSTS
from analogmed.tables.table import Columns


def _with_ends(*names: str) -> tuple[str, ...]:
    """Return the columns of estimates with their interval limits."""
    return tuple(name + end for name in names for end in ("", "_low", "_high"))


_NETWORK = ("model", "training")
_RUN = ("task", *_NETWORK, "hardware")
_PASSES = (*_NETWORK, "source", "region")
_COUNTED = tuple(name for name in COSTS if name not in NAMED_COSTS)
COLUMNS: dict[tuple[str, str], Columns] = {
    ("evaluation", "summary"): Columns(
        names=_RUN,
        texts=("note",),
        numbers=(
            *_with_ends("dice_digital", "dice_own_digital", "dice_t0", "dice_1d", "dice_1mo"),
            *_with_ends("noise_drop", "avm", "normalised_dice_1d", "drop_1d", "drop_1mo"),
            *("n_patients", "n_chips", "missed", "missed_of", "level"),
        ),
        optional=(*_with_ends("gain_1d", "dice_1d_std"), *_COUNTED),
        key=_RUN,
    ),
    ("evaluation", "curves"): Columns(
        names=(*_RUN, "metric"),
        texts=("unit",),
        numbers=("time_s", "estimate", "low", "high", "n_patients", "n_chips", "level"),
        key=(*_RUN, "metric", "time_s"),
    ),
    ("evaluation", "comparison"): Columns(
        names=(*_RUN, "other_model", "other_training"),
        numbers=(
            *("time_s", "difference", "low", "high", "p_value", "p_holm"),
            *("n_patients", "n_chips"),
        ),
        key=(*_RUN, "other_model", "other_training", "time_s"),
    ),
    ("evaluation", "time_to_failure"): Columns(
        names=_RUN,
        numbers=("limit", "holds_until_s", "fails_at_s", "reprogram_every_s"),
        flags=("censored",),
        key=(*_RUN, "limit"),
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


def columns_of(kind: str, name: str) -> Columns:
    """Return the columns of a table of a run of some kind."""
    if (kind, name) in COLUMNS:
        return COLUMNS[kind, name]
    return next((found for (_, other), found in COLUMNS.items() if other == name), Columns())
