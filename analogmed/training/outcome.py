"""Final scores of hardware-aware training: the kept network digitally and on chips."""

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analogmed.analog.description.device_models import device_model
from analogmed.foundation.time_constants import DAY_S, MONTH_S, T0_S
from analogmed.metrics.metric import Metric
from analogmed.metrics.registry import metric as metric_of
from analogmed.network.copy import copy_network
from analogmed.tables.training_log import FINAL_SCORES, metric_column
from analogmed.training.checkpoint.checkpoint import load_checkpoint
from analogmed.training.history import History
from analogmed.training.log import LOGGER
from analogmed.training.preparation import Setup, on_tiles
from analogmed.training.settings import Keep
from analogmed.training.validation import Validation

OUTCOME = FINAL_SCORES.file
"""Name of the table of the kept network's scores in a run folder."""

_LARGEST_GAP = 0.05
_LAST_SHARE = 0.75
_AGES = {"t0": T0_S, "1 day": DAY_S, "1 month": MONTH_S}


def report_outcome(run: Setup, history: History) -> None:
    """Score the kept network on the validation cases, and log a warning where a check fails.

    The network is scored digitally, that is without tiles, and as the mean over the validation's
    chips at t0, after a day and after a month, as far as the noise model supports these times. A
    warning follows if two of these scores differ by more than 0.05 of the range of the metric: such
    a network depends on the noise that it was trained with. Another follows if the kept state is
    from the first three quarters of the training; it is the only one if this state is the network
    that the training started from, which no noise of the training has changed. The scores are
    written to ``final_scores.csv`` with the columns ``run`` (``digital`` or ``chip``), ``time_s``
    and the name of the metric.

    Args:
        run: a hardware-aware run; ranks other than the first return at once.
        history: all epochs of the run.
    """
    if not run.ranks.is_first:
        return
    scores = _scores(run)
    rows = [("digital", math.nan, scores["digital"])]
    rows += [("chip", _AGES[name], score) for name, score in scores.items() if name in _AGES]
    table = pd.DataFrame(rows, columns=["run", "time_s", history.metric])
    FINAL_SCORES.write(table, run.config.folder)
    kept = history.kept_epoch(run.config.keep)
    for text in (
        large_gap(scores, metric_of(history.metric)) if kept != 0 else None,
        early_state(kept, len(history), run.config.keep),
    ):
        if text:
            logging.getLogger(LOGGER).warning(text)


def outcome_of(folder: Path) -> str:
    """Return the final scores of a run folder in one line."""
    table = FINAL_SCORES.read(folder)
    names = {time_s: name for name, time_s in _AGES.items()}
    rows = zip(table["time_s"], table[metric_column(table.columns)], strict=True)
    return _listed({names.get(time_s, "digital"): score for time_s, score in rows})


def large_gap(scores: Mapping[str, float], metric: Metric) -> str | None:
    """Return a warning if two scores of one network differ too much.

    Args:
        scores: scores for ``digital`` and for each time after programming of the chips.
        metric: metric of the scores.
    """
    is_higher_better = metric.direction == "higher"
    low, high = metric.bounds
    accepted = _LARGEST_GAP * (high - low)
    gap = max(scores.values()) - min(scores.values())
    if gap <= accepted:
        return None
    worst = (min if is_higher_better else max)(scores, key=lambda name: scores[name])
    remedy = "Set noise.norms: late"
    if worst != "digital":
        remedy = "Let noise.ages_s include all ages of interest"
    return (
        f"the trained network depends on the noise of its training: {metric.label} on validation "
        f"cases is {_listed(scores)}; expected scores within {accepted:g}, got a difference of "
        f"{gap:.3f}, {'lowest' if is_higher_better else 'highest'} {worst}. {remedy}, train for "
        "longer, or use a smaller optimizer.learning_rate."
    )


def early_state(kept: int | None, epochs: int, keep: Keep) -> str | None:
    """Return a warning if the kept state is from long before the end of the training.

    Args:
        kept: epoch of the kept state; 0 is the network that the training started from.
        epochs: number of epochs of the whole training.
        keep: rule that selected the state.
    """
    if kept is None or kept >= _LAST_SHARE * epochs:
        return None
    state = f"the state of epoch {kept} of {epochs}" if kept else "the network that it started from"
    reason, remedy = "it has the best validation score", ", or set keep: last"
    if keep == "last":
        reason, remedy = "all later states have worse scores than the start", ""
    return (
        f"keep: the run keeps {state}, because {reason}; expected a state near "
        "the end, where the learning rate is small. Use more validation cases, more chips or a "
        f"smaller optimizer.learning_rate{remedy}."
    )


def _scores(run: Setup) -> dict[str, float]:
    config = run.config
    kept = load_checkpoint(config.path, factories=(config.model.name,))
    digital = copy_network(kept.network).to(run.device)
    # aihwkit's layers leave more layers digital than the settings name.
    as_kept = replace(config, digital_layers=kept.info.digital_layers or ())
    analog, _ = on_tiles(kept.network.to(run.device), as_kept, kept)
    score_of = Validation(run)
    known = device_model(config.hardware.noise_model).known_times()
    ages = {name: time_s for name, time_s in _AGES.items() if known is None or time_s in known}
    on_chips = score_of.over_time(analog, ages.values())
    return {"digital": score_of.digitally(digital)} | {n: on_chips[t] for n, t in ages.items()}


def _listed(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {score:.3f}" for name, score in scores.items())
