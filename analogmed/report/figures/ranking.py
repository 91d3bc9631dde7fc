"""Figures of rankings: between tasks, during training, of strategies, digital against analog."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analogmed.foundation.errors import DataError
from analogmed.report.figures.style import WIDTH_IN, legend_below, publication_style, save_figure
from analogmed.report.text import format_fixed
from analogmed.tables.table import require_columns

_CELL_IN, _CHARACTER_IN, _BAR_IN, _MARGIN_IN = 0.95, 0.1, 1.5, 0.3
_MARKERS = "osD^vP*X"
_LINES = ("-", "--", "-.", ":")


def task_heat_map(
    agreements: pd.DataFrame, path: Path | str, *, label: str = "Kendall's tau-b", least: float = -1
) -> Path:
    """Draw the agreement between the rankings of each pair of tasks, with CIs in the cells.

    Args:
        agreements: long table with columns ``one``, ``other``, ``value``, ``low``, ``high``, ``n``,
            as returned by ``analogmed.search.benchmark.rank_agreement.agreement_matrix``.
        path: ``.png`` or ``.svg`` file.
        label: name of the values.
        least: lower end of the colour scale; 0 for the overlap of top lists.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no pair, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    _check(agreements, ("one", "other", "value", "low", "high", "n"), "pair of tasks")
    names = list(dict.fromkeys(agreements["one"]))
    norm = Normalize(least, 1.0)
    cells, labels = _CELL_IN * len(names), _CHARACTER_IN * max(map(len, names))
    with publication_style():
        size = (cells + labels + _BAR_IN, max(cells + 0.6 * labels + _MARGIN_IN, 3.0))
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots()
        pairs = agreements.set_index(["one", "other"])
        values = np.array(
            [[float(pairs.loc[(one, other), "value"]) for other in names] for one in names]
        )
        colours = "RdBu" if least < 0 else "Blues"
        image = axes.imshow(values, cmap=colours, norm=norm)
        for (row, column), value in np.ndenumerate(values):
            pair = pairs.loc[(names[row], names[column])]
            _write_cell(axes, row, column, pair, value, least)
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(names)), names)
        for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
            text.set_parse_math(False)
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        figure.colorbar(image, ax=axes, label=label, shrink=0.9)
        return save_figure(figure, path)


def tau_over_training(
    taus: pd.DataFrame, path: Path | str, *, ceiling: Mapping[str, float] | None = None
) -> Path:
    """Draw the ranking quality of shared weights during training, one line per sampling rule.

    Args:
        taus: table with columns ``rule``, ``epoch``, ``value``, ``low``, ``high``, ``n``.
        path: ``.png`` or ``.svg`` file.
        ceiling: ``value``, ``low`` and ``high`` of the tau between two stand-alone trainings.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no line, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    _check(taus, ("rule", "epoch", "value", "low", "high", "n"), "training")
    with publication_style():
        figure = Figure(figsize=(WIDTH_IN, 4.2), layout="constrained")
        axes = figure.subplots()
        _bands(axes, taus, ("rule", "epoch", "value"))
        if ceiling is not None:
            axes.axhspan(ceiling["low"], ceiling["high"], color="0.92", zorder=0)
            axes.axhline(
                ceiling["value"],
                color="0.35",
                linestyle=":",
                label="ceiling: two stand-alone seeds",
            )
        axes.set_xlabel("epoch of the supernetwork")
        axes.set_ylabel("Kendall's tau-b with stand-alone training")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(top=min(1.05, axes.get_ylim()[1]))
        n = f"{int(taus['n'].max())} networks"
        caption = f"Bands: 95 % bootstrap interval over {n}"
        legend_below(figure, *axes.get_legend_handles_labels(), caption=caption)
        return save_figure(figure, path)


def anytime_curves(
    curves: pd.DataFrame,
    path: Path | str,
    *,
    objective: str = "Dice after one day",
    best: float | None = None,
) -> Path:
    """Draw the best network found by each strategy over the number of queries.

    Args:
        curves: table with columns ``strategy``, ``queries``, ``mean``, ``low``, ``high``,
            ``seeds``.
        path: ``.png`` or ``.svg`` file.
        objective: name of the objective.
        best: best value over all networks of the benchmark table.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no curve, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    _check(curves, ("strategy", "queries", "mean", "low", "high", "seeds"), "strategy")
    with publication_style():
        figure = Figure(figsize=(WIDTH_IN, 4.6), layout="constrained")
        axes = figure.subplots()
        _bands(axes, curves, ("strategy", "queries", "mean"), marks=False)
        if best is not None:
            axes.axhline(best, color="0.35", linestyle=":", label="best of the table")
        axes.set_xlabel("networks queried")
        axes.set_ylabel(f"{objective} of the best one")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_ylim(*_limits(curves, best))
        seeds = int(curves["seeds"].min())
        caption = f"Bands: 95 % interval of the mean over {seeds} searches each"
        legend_below(figure, *axes.get_legend_handles_labels(), caption=caption)
        return save_figure(figure, path)


def rank_scatter(
    scores: pd.DataFrame,
    path: Path | str,
    *,
    agreement: Mapping[str, float],
    axes_names: tuple[str, str] = ("digital rank", "rank after one day on chips"),
    k: int | None = None,
) -> Path:
    """Draw the rank of each network by two scores; rank 1 is the best.

    Args:
        scores: two columns, one row per network; higher is better.
        path: ``.png`` or ``.svg`` file.
        agreement: ``value``, ``low`` and ``high`` of Kendall's tau-b between the scores.
        axes_names: axis labels of the two scores.
        k: length of the top lists, which are marked in the corners and whose overlap is counted;
            networks tied with the last one of a list are included.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there are not two columns, or fewer than two networks.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    if scores.shape[1] != 2 or len(scores) < 2 or scores.isna().any(axis=None):
        raise DataError(
            f"expected two scores of two or more networks to draw, found {scores.shape[1]} columns "
            f"and {len(scores.dropna())} networks with all of them"
        )
    ranks = scores.rank(ascending=False, method="min").to_numpy()
    with publication_style():
        figure = Figure(figsize=(5.2, 5.2), layout="constrained")
        axes = figure.subplots()
        blue, orange = seaborn.color_palette("colorblind")[:2]
        both = (ranks <= k).all(axis=1) if k else np.zeros(len(ranks), dtype=bool)
        axes.plot([1, len(ranks)], [1, len(ranks)], color="0.75", linewidth=1.0, zorder=1)
        axes.scatter(
            ranks[~both, 0], ranks[~both, 1], s=22, color=blue, alpha=0.75, linewidth=0, zorder=2
        )
        axes.scatter(ranks[both, 0], ranks[both, 1], s=30, color=orange, linewidth=0, zorder=3)
        if k:
            axes.axvline(k + 0.5, color="0.55", linestyle="--", linewidth=0.9)
            axes.axhline(k + 0.5, color="0.55", linestyle="--", linewidth=0.9)
        axes.set_xlabel(axes_names[0])
        axes.set_ylabel(axes_names[1])
        axes.grid(visible=True, axis="both")
        axes.set_aspect("equal")
        tau = "Kendall's tau-b {value:.2f} [{low:.2f}, {high:.2f}]".format(**agreement)
        shared = f"\nthe two top-{k} lists share {int(both.sum())}" if k else ""
        axes.set_title(f"{tau}, {len(ranks)} networks{shared}", fontsize="small")
        return save_figure(figure, path)


def _check(table: pd.DataFrame, needed: Sequence[str], what: str) -> None:
    require_columns(table, needed, "the table to draw")
    if table.empty:
        raise DataError(f"nothing to draw: the table has no {what}")


def _write_cell(
    axes: Axes, row: int, column: int, pair: pd.Series, value: float, least: float
) -> None:
    if np.isnan(value):
        axes.text(column, row, "-", ha="center", va="center", color="0.35")
        return
    text = format_fixed(value, 2)
    if row != column:
        text += f"\n[{format_fixed(pair['low'], 2)}, {format_fixed(pair['high'], 2)}]"
    share = (value - least) / (1.0 - least)
    dark = share > 0.75 or (least < 0 and share < 0.25)
    color = "white" if dark else "0.15"
    axes.text(column, row, text, ha="center", va="center", color=color, fontsize="x-small")


def _bands(
    axes: Axes, table: pd.DataFrame, columns: tuple[str, str, str], *, marks: bool = True
) -> None:
    """Draw a line with its band for each value of the first column."""
    name_column, x, y = columns
    names = list(dict.fromkeys(table[name_column]))
    palette = seaborn.color_palette("colorblind", len(names))
    for number, name in enumerate(names):
        rows = table[table[name_column] == name].sort_values(x)
        axes.plot(
            rows[x],
            rows[y],
            color=palette[number],
            linestyle="-" if marks else _LINES[number % len(_LINES)],
            marker=_MARKERS[number % len(_MARKERS)] if marks else "",
            markersize=4,
            label=str(name),
        )
        axes.fill_between(rows[x], rows["low"], rows["high"], color=palette[number], alpha=0.15)


def _limits(curves: pd.DataFrame, best: float | None) -> tuple[float, float]:
    """Return the limits of the vertical axis, which exclude the poor networks of early queries."""
    later = curves[curves["queries"] >= max(2, 0.1 * curves["queries"].max())]
    low, high = float(later["low"].min()), float(later["high"].max())
    high = high if best is None else max(high, best)
    margin = 0.05 * (high - low) or 0.01
    return low - margin, high + margin
