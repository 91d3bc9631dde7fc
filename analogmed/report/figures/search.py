"""Figures of a search: its Pareto front and its history."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analogmed.foundation.errors import DataError
from analogmed.metrics.properties import input_word
from analogmed.report.figures.style import (
    WIDTH_IN,
    is_narrow,
    legend_below,
    publication_style,
    save_figure,
)
from analogmed.tables.estimates import find_objective, is_minimized
from analogmed.tables.search import measured_metric
from analogmed.tables.table import require_columns

LABELS = {
    "uncertainty": "mutual information between chips (nats)",
    "parameters": "parameters",
    "tiles": "tiles",
    "latency_ms": "latency of one {input} (ms)",
    "energy_mj": "energy of one {input} (mJ)",
}
_HEIGHT_IN = 4.5
_GREY = "0.6"
_COUNTS = ("parameters", "tiles")


def pareto_front(
    candidates: pd.DataFrame,
    path: Path | str,
    *,
    objectives: Sequence[str],
    width_in: float = WIDTH_IN,
) -> Path:
    """Draw the first two objectives of all candidates, with a line along the Pareto front.

    Args:
        candidates: evaluated rows of a search's ``candidates.csv``.
        path: ``.png`` or ``.svg`` file.
        objectives: metrics that the search optimises; the first one is on the vertical axis. The
            number of tiles, or else the primary metric, stands for a second one.
        width_in: width of the figure in inches.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no candidate, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    y, metric = objectives[0], measured_metric(candidates)
    x = next(name for name in (*objectives[1:], "tiles", f"{metric}_1d") if name != y)
    minimize = [name for name in (x, y) if is_minimized(name, metric)]
    _check(candidates, ("feasible", "on_front", x, y))
    with publication_style():
        figure, axes = _canvas(width_in)
        _draw_candidates(axes, candidates, x, y)
        _draw_front(axes, candidates, x, y, reached="steps-post" if x in minimize else "steps-pre")
        if x in _COUNTS:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(objective_label(x, metric))
        axes.set_ylabel(objective_label(y, metric))
        sides = ("left" if x in minimize else "right", "bottom" if y in minimize else "top")
        separator = "\n" if is_narrow(width_in) else " "
        axes.set_title(
            f"{len(candidates)} networks;{separator}better towards the {sides[1]} {sides[0]}",
            loc="right",
            fontsize="medium",
        )
        return _with_legend(figure, axes, path)


def search_history(
    candidates: pd.DataFrame,
    path: Path | str,
    *,
    objectives: Sequence[str],
    width_in: float = WIDTH_IN,
) -> Path:
    """Draw the first objective of each candidate in order, and the best feasible value so far.

    Args:
        candidates: evaluated rows of a search's ``candidates.csv``, in order.
        path: ``.png`` or ``.svg`` file.
        objectives: metrics that the search optimises, of which the first one is drawn.
        width_in: width of the figure in inches.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no candidate, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    y, metric = objectives[0], measured_metric(candidates)
    _check(candidates, ("feasible", y))
    feasible = candidates["feasible"].fillna(False).to_numpy(dtype=bool)
    values = candidates[y].to_numpy(dtype=np.float64)
    worst, best_of = (np.inf, np.minimum) if is_minimized(y, metric) else (-np.inf, np.maximum)
    best = best_of.accumulate(np.where(feasible, values, worst))
    count = np.arange(1, len(values) + 1)
    color = seaborn.color_palette("colorblind")[0]
    with publication_style():
        figure, axes = _canvas(width_in)
        axes.plot(count[feasible], values[feasible], "o", color=_GREY, label="candidate")
        if not feasible.all():
            axes.plot(
                count[~feasible], values[~feasible], "x", color=_GREY, label="breaks a constraint"
            )
        found = np.isfinite(best)
        axes.step(count[found], best[found], where="post", color=color, label="best so far")
        axes.set_xlabel("networks evaluated")
        axes.set_ylabel(objective_label(y, metric))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return _with_legend(figure, axes, path)


def objective_label(name: str, primary: str) -> str:
    """Return the label of an objective; unknown ones keep their names.

    Args:
        name: name of a column of ``candidates.csv``.
        primary: primary metric of the search.
    """
    found = find_objective(name, primary)
    if found:
        return found[0].head("search", found[1])
    return LABELS.get(name, name).format(input=input_word(primary))


def _canvas(width_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width_in, _HEIGHT_IN), layout="constrained")
    return figure, figure.subplots()


def _with_legend(figure: Figure, axes: Axes, path: Path | str) -> Path:
    legend_below(figure, *axes.get_legend_handles_labels(), columns=3)
    return save_figure(figure, path)


def _draw_candidates(axes: Axes, candidates: pd.DataFrame, x: str, y: str) -> None:
    """Draw the candidates that are not on the Pareto front."""
    feasible = candidates["feasible"].fillna(False).astype(bool)
    rest, broken = candidates[feasible & ~candidates["on_front"]], candidates[~feasible]
    axes.plot(rest[x], rest[y], "o", color=_GREY, markersize=5, label="dominated")
    if len(broken):
        axes.plot(broken[x], broken[y], "x", color=_GREY, label="breaks a constraint")


def _draw_front(axes: Axes, candidates: pd.DataFrame, x: str, y: str, *, reached: str) -> None:
    """Draw the Pareto front, with the edge of the region that it dominates."""
    front = candidates[candidates["on_front"]].sort_values([x, y])
    color = seaborn.color_palette("colorblind")[0]
    look = {"color": color, "markersize": 7, "drawstyle": reached}
    axes.plot(front[x], front[y], "o-", label="Pareto front", **look)


def _check(candidates: pd.DataFrame, columns: Collection[str]) -> None:
    what, advice = "nothing to draw: the table", "; pass a search's candidates.csv"
    require_columns(candidates, columns, what, advice=advice)
    if candidates.empty:
        raise DataError(f"{what} lacks any candidate{advice}")
