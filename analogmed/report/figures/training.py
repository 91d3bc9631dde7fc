"""Figure of the training curves."""

from pathlib import Path

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analogmed.foundation.errors import DataError
from analogmed.metrics.registry import label_of, metric
from analogmed.report.figures.style import WIDTH_IN, is_narrow, publication_style, save_figure
from analogmed.tables.table import require_columns
from analogmed.tables.training_log import score_column

_COLUMNS = ("epoch", "loss", "learning_rate")
_HEIGHT_IN = 5.4


def training_curves(
    log: pd.DataFrame,
    path: Path | str,
    *,
    width_in: float = WIDTH_IN,
    title: str = "",
    kept_epoch: int | None = None,
) -> Path:
    """Draw loss, validation score and learning rate over the epochs; mark the best and kept epoch.

    Args:
        log: contents of a run folder's ``log.csv``; the score, whose column is named after the
            metric, is NaN in epochs without validation.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches.
        title: title of the figure.
        kept_epoch: epoch whose state the run keeps; ``None`` marks the best epoch only.

    Returns:
        ``path``; identical logs yield identical bytes.

    Raises:
        DataError: there is no epoch, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    score = score_column(log.columns)
    what, advice = "nothing to draw: the training log", "; pass a run's log.csv"
    require_columns(log, (*_COLUMNS, score), what, advice=advice)
    if log.empty:
        raise DataError(f"{what} lacks any epoch{advice}")
    with publication_style():
        figure = Figure(figsize=(width_in, _HEIGHT_IN), layout="constrained")
        loss, scores, rate = figure.subplots(3, 1, sharex=True, height_ratios=(3, 3, 1))
        color = seaborn.color_palette("colorblind")[0]
        marker = "o" if log["loss"].count() == 1 else ""  # a line through one point is invisible
        loss.plot(log["epoch"], log["loss"], color=color, marker=marker)
        loss.set_ylabel("training loss")
        separator = ";\n" if is_narrow(width_in) else "; "
        _draw_scores(scores, log.dropna(subset=score), score, color, kept_epoch, separator)
        rate.plot(log["epoch"], log["learning_rate"], color="0.4", marker=marker)
        rate.set_ylabel("learning\nrate")
        rate.set_ylim(bottom=0)
        rate.set_xlabel("epoch")
        rate.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.suptitle(title, parse_math=False)
        return save_figure(figure, path)


def _draw_scores(
    axes: Axes,
    validated: pd.DataFrame,
    score: str,
    color: tuple[float, float, float],
    kept_epoch: int | None,
    separator: str,
) -> None:
    axes.set_ylabel(f"validation {label_of(score)}")
    if validated.empty:
        return
    axes.plot(validated["epoch"], validated[score], color=color, marker="o", markersize=4)
    best_score = metric(score).best(validated[score])
    best = validated[validated[score] == best_score].iloc[0]
    axes.axhline(best_score, color="0.6", linewidth=1, linestyle="--")
    text = f"best {best_score:.3f}, after epoch {best['epoch']:.0f}"
    kept = validated[validated["epoch"] == kept_epoch]
    if len(kept) and kept_epoch != best["epoch"]:
        axes.plot(
            kept["epoch"], kept[score], color=color, marker="o", markersize=9, fillstyle="none"
        )
        text = f"kept {kept[score].iloc[0]:.3f}, after epoch {kept_epoch}{separator}{text}"
    axes.set_title(text, loc="right", fontsize="medium")
