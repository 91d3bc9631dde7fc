"""Figures of a search: its Pareto front and its history."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analogmed.foundation.errors import DataError
from analogmed.metrics.registry import PRIMARY
from analogmed.report.figures.style import WIDTH_IN, publication_style, save_figure
from analogmed.tables.estimates import find_objective
from analogmed.tables.table import require_columns

LABELS = {
    "uncertainty": "mutual information between chips (nats)",
    "parameters": "parameters",
    "tiles": "tiles",
    "latency_ms": "latency of one slice (ms)",
    "energy_mj": "energy of one slice (mJ)",
}
_HEIGHT_IN = 4.5
_GREY = "0.6"
_COUNTS = ("parameters", "tiles")


def pareto_front(
    candidates: pd.DataFrame,
    path: Path | str,
    *,
    x: str,
    y: str,
    minimize: Collection[str] = (),
) -> Path:
    """Draw two metrics of all candidates against each other, with a line along the Pareto front.

    Args:
        candidates: evaluated rows of a search's ``candidates.csv``.
        path: ``.png`` or ``.svg`` file.
        x: metric on the horizontal axis.
        y: metric on the vertical axis.
        minimize: metrics to minimise, which determine the corner marked as better.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no candidate, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    _check(candidates, ("feasible", "on_front", x, y))
    with publication_style():
        figure = Figure(figsize=(WIDTH_IN, _HEIGHT_IN), layout="constrained")
        axes = figure.subplots()
        _draw_candidates(axes, candidates, x, y)
        _draw_front(axes, candidates, x, y, reached="steps-post" if x in minimize else "steps-pre")
        if x in _COUNTS:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel(_label(x))
        axes.set_ylabel(_label(y))
        sides = ("left" if x in minimize else "right", "bottom" if y in minimize else "top")
        axes.set_title(
            f"{len(candidates)} networks; better towards the {sides[1]} {sides[0]}",
            loc="right",
            fontsize="medium",
        )
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
        return save_figure(figure, path)


def search_history(
    candidates: pd.DataFrame, path: Path | str, *, y: str, minimize: Collection[str] = ()
) -> Path:
    """Draw a metric of each candidate in order of evaluation, and the best feasible value so far.

    Args:
        candidates: evaluated rows of a search's ``candidates.csv``, in order.
        path: ``.png`` or ``.svg`` file.
        y: metric to draw.
        minimize: metrics to minimise.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no candidate, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    _check(candidates, ("feasible", y))
    feasible = candidates["feasible"].fillna(False).to_numpy(dtype=bool)
    values = candidates[y].to_numpy(dtype=np.float64)
    worst, best_of = (np.inf, np.minimum) if y in minimize else (-np.inf, np.maximum)
    best = best_of.accumulate(np.where(feasible, values, worst))
    count = np.arange(1, len(values) + 1)
    color = seaborn.color_palette("colorblind")[0]
    with publication_style():
        figure = Figure(figsize=(WIDTH_IN, _HEIGHT_IN), layout="constrained")
        axes = figure.subplots()
        axes.plot(count[feasible], values[feasible], "o", color=_GREY, label="candidate")
        if not feasible.all():
            axes.plot(
                count[~feasible], values[~feasible], "x", color=_GREY, label="breaks a constraint"
            )
        found = np.isfinite(best)
        axes.step(count[found], best[found], where="post", color=color, label="best so far")
        axes.set_xlabel("networks evaluated")
        axes.set_ylabel(_label(y))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figure.legend(loc="outside lower center", ncols=3, frameon=False)
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


def _label(name: str) -> str:
    """Return the label of a metric of candidates; unknown ones keep their names."""
    found = find_objective(name, PRIMARY)
    return found[0].head("search", found[1]) if found else LABELS.get(name, name)


def _check(candidates: pd.DataFrame, columns: Collection[str]) -> None:
    what, advice = "nothing to draw: the table", "; pass a search's candidates.csv"
    require_columns(candidates, columns, what, advice=advice)
    if candidates.empty:
        raise DataError(f"{what} lacks any candidate{advice}")
