"""Columns of the tables that a page is made of, by kind of run."""

from analogmed.tables.table import Columns


def _with_ends(*names: str) -> tuple[str, ...]:
    """Estimates with the ends of their intervals."""
    return tuple(name + end for name in names for end in ("", "_low", "_high"))


_NETWORK = ("model", "training")
_PASSES = (*_NETWORK, "source", "region")
COLUMNS: dict[tuple[str, str], Columns] = {
    ("evaluation", "summary"): Columns(
        texts=("task", *_NETWORK, "hardware", "note"),
        numbers=(
            *_with_ends("dice_digital", "dice_own_digital", "dice_t0", "dice_1d", "dice_1mo"),
            *_with_ends("noise_drop", "avm", "normalised_dice_1d", "drop_1d", "drop_1mo"),
            *("n_patients", "n_chips", "missed", "missed_of", "level"),
        ),
        optional=_with_ends("gain_1d", "dice_1d_std"),
    ),
    ("evaluation", "curves"): Columns(
        texts=("task", *_NETWORK, "hardware", "metric", "unit"),
        numbers=("time_s", "estimate", "low", "high", "n_patients", "n_chips", "level"),
    ),
    ("evaluation", "comparison"): Columns(
        texts=("task", "hardware", *_NETWORK, "other_model", "other_training"),
        numbers=(
            "time_s",
            "difference",
            "low",
            "high",
            "p_value",
            "p_holm",
            "n_patients",
            "n_chips",
        ),
    ),
    ("evaluation", "time_to_failure"): Columns(
        texts=_NETWORK,
        numbers=("limit", "holds_until_s", "fails_at_s", "reprogram_every_s"),
        flags=("censored",),
    ),
    ("uncertainty", "summary"): Columns(
        texts=(*_PASSES, "metric"),
        numbers=("time_s", "estimate", "low", "high", "n_patients"),
    ),
    ("uncertainty", "comparison"): Columns(
        texts=("model", "source", "region", "metric"),
        numbers=("time_s", "digital", "hwa", *_with_ends("difference"), "p_value", "n_patients"),
        optional=("p_holm",),
        can_be_empty=True,
    ),
    ("uncertainty", "density"): Columns(
        texts=(*_PASSES, "measure"), numbers=("time_s", "bin_low", "bin_high", "count")
    ),
    ("uncertainty", "reliability"): Columns(
        texts=_PASSES, numbers=("time_s", "voxels", "confidence", "accuracy")
    ),
    ("uncertainty", "risk_coverage"): Columns(
        texts=_PASSES, numbers=("time_s", "coverage", "risk")
    ),
    ("uncertainty", "conformal_summary"): Columns(
        texts=(*_NETWORK, "calibrated", "class", "kept"),
        numbers=("time_s", *_with_ends("fnr"), "volume_ratio", "alpha"),
        flags=("trivial",),
    ),
    ("mitigation", "summary"): Columns(
        texts=(*_NETWORK, "option", "metric"),
        numbers=("time_s", *_with_ends("value", "gain"), "level"),
    ),
    ("placement", "placements"): Columns(
        texts=("layer", "digital_layers"),
        numbers=(*_with_ends("drop"), "latency_ms", "energy_mj", "tiles", "level"),
        flags=("chosen", "kept"),
    ),
    ("sensitivity", "ranking"): Columns(
        texts=("setting", "subject"), numbers=("time_s", "rank", *_with_ends("effect"), "level")
    ),
    ("training", "log"): Columns(
        numbers=("epoch", "loss", "learning_rate", "dice"), can_be_empty=True
    ),
}
"""A table of a kind that is not listed, such as the ranking of a placement, has the columns of any
kind that has it."""


def columns_of(kind: str, name: str) -> Columns:
    """Return the columns of a table of a run of some kind."""
    if (kind, name) in COLUMNS:
        return COLUMNS[kind, name]
    return next((found for (_, other), found in COLUMNS.items() if other == name), Columns())
