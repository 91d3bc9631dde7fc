"""Figures of the layer-wise sensitivity: layers over time, noise sources, and placements."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import time_label
from analogmed.metrics.properties import input_word
from analogmed.metrics.registry import PRIMARY, label_of
from analogmed.report.figures.panels import sample_caption
from analogmed.report.figures.style import (
    SMALLEST_PT,
    WIDTH_IN,
    is_narrow,
    legend_below,
    publication_style,
    save_figure,
)
from analogmed.report.text import SAMPLE_COLUMNS, format_fixed
from analogmed.tables.table import require_columns

OF_LAYERS = {
    "only_analog": "only this layer analog:\n{} drop",
    "only_digital": "only this layer digital:\n{} regained",
}
OF_SOURCES = {
    "noise_alone": "alone: {} drop against digital",
    "noise_all_but": "all but this: {} regained",
}
_CELL_IN, _BAR_IN, _FRAME_IN = 0.24, 0.5, 1.6
_LABEL_IN = 0.28
"""Smallest distance of the numbers of two points."""
_MOST_LARGE = 8
"""Largest number of columns of a heat map whose cells have room for larger digits."""
_COSTS = {"latency": ("latency_ms", "latency of one {} (ms)")}
_COSTS["energy"] = ("energy_mj", "energy of one {} (mJ)")
_NEEDED = ["setting", "subject", "time_s", "effect", "effect_low", "effect_high"]


def sensitivity_heat_map(
    ranking: pd.DataFrame,
    path: Path | str,
    *,
    width_in: float = WIDTH_IN,
    metric: str = PRIMARY,
) -> Path:
    """Draw the drop of each layer: layers as rows, times as columns, and two settings.

    Effects whose confidence interval excludes 0 are printed in bold.

    Args:
        ranking: result of ``analogmed.evaluation.studies.sensitivity.ranking.rank``.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; in a narrow one, panels are below each other.
        metric: name of the metric of the ranking.

    Returns:
        ``path``; identical rankings yield identical bytes.

    Raises:
        DataError: there is no layer in the ranking, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    rows, label = _rows(ranking, OF_LAYERS, "layer"), label_of(metric)
    names = list(dict.fromkeys(rows["subject"]))
    widest = float(rows["effect"].abs().max()) or 1e-3
    norm = TwoSlopeNorm(0.0, -widest, widest)
    kinds = [kind for kind in OF_LAYERS if (rows["setting"] == kind).any()]
    n_columns = rows["time_s"].nunique() * (1 if is_narrow(width_in) else len(kinds))
    size = "small" if n_columns <= _MOST_LARGE else SMALLEST_PT
    with publication_style():
        figure, grid = _panels(len(kinds), _CELL_IN * len(names), width_in)
        for axes, kind in zip(grid, kinds, strict=True):
            image = _draw_cells(axes, rows[rows["setting"] == kind], names, norm, size)
            axes.set_title(OF_LAYERS[kind].format(label), fontsize="medium")
            axes.set_yticks(range(len(names)), names, fontsize="small")
            for text in axes.get_yticklabels():
                text.set_parse_math(False)
        side = "bottom" if is_narrow(width_in) else "right"
        figure.colorbar(image, ax=grid, label=label, fraction=0.04, pad=0.02, location=side)
        caption = sample_caption(rows, "Columns: time after programming. Bold: the")
        legend_below(figure, [], [], caption=f"{caption} excludes 0")
        return save_figure(figure, path)


def source_bars(
    ranking: pd.DataFrame,
    path: Path | str,
    *,
    width_in: float = WIDTH_IN,
    metric: str = PRIMARY,
) -> Path:
    """Draw the effect of each noise source, alone and removed, with CIs: one panel per time.

    Args:
        ranking: result of ``analogmed.evaluation.studies.sensitivity.ranking.rank``.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; in a narrow one, panels are below each other.
        metric: name of the metric of the ranking.

    Returns:
        ``path``; identical rankings yield identical bytes.

    Raises:
        DataError: there is no noise source in the ranking, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    rows = _rows(ranking, OF_SOURCES, "noise source")
    sources = list(dict.fromkeys(rows["subject"]))
    controls = {"all_analog": "all sources", "no_noise": "no source"}
    names = [*controls.values(), *sources]
    times_s = sorted(rows["time_s"].unique())
    palette = seaborn.color_palette("colorblind")
    with publication_style():
        figure, grid = _panels(len(times_s), _BAR_IN * len(names), width_in)
        for axes, time_s in zip(grid, times_s, strict=True):
            here = ranking[ranking["time_s"] == time_s]
            for kind, name in controls.items():
                _draw_bars(axes, here[here["setting"] == kind], [names.index(name)], 0.0, "0.6", "")
            for offset, (kind, label) in zip((-0.2, 0.2), OF_SOURCES.items(), strict=True):
                part = here[here["setting"] == kind].set_index("subject").reindex(sources)
                color = palette[0 if offset < 0 else 2]
                places = [names.index(source) for source in sources]
                _draw_bars(axes, part, places, offset, color, label.format(label_of(metric)))
            axes.axvline(0.0, color="0.15", linewidth=0.8)
            axes.set_title(time_label(time_s))
            axes.grid(visible=False, axis="y")
            axes.grid(visible=True, axis="x")
            axes.set_axisbelow(True)
            axes.set_xlabel(label_of(metric))
            axes.set_yticks(range(len(names)), names)
        grid[0].invert_yaxis()
        entries = grid[0].get_legend_handles_labels()
        legend_below(figure, *entries, caption=sample_caption(rows, "Whiskers:"))
        return save_figure(figure, path)


def placement_curve(
    steps: pd.DataFrame,
    path: Path | str,
    *,
    width_in: float = WIDTH_IN,
    metric: str = PRIMARY,
) -> Path:
    """Draw the drop of the primary metric against latency or energy for every evaluated placement.

    Args:
        steps: ``analogmed.evaluation.studies.placement.study.PlacementResult.steps``.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches.
        metric: name of the metric of the drops.

    Returns:
        ``path``; identical steps yield identical bytes.

    Raises:
        DataError: there is no step, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    needed = ["objective", "drop", "drop_low", "drop_high", "pareto", "chosen", "loss"]
    require_columns(
        steps,
        [*needed, "digital_layers", "profile", "level_of_profile", *SAMPLE_COLUMNS],
        "the table to draw",
    )
    if steps.empty:
        raise DataError("nothing to draw: no placement was evaluated")
    column, label = _COSTS[str(steps["objective"].iloc[0])]
    require_columns(steps, [column], "the table to draw")
    blue, orange = seaborn.color_palette("colorblind")[:2]
    with publication_style():
        figure = Figure(figsize=(width_in, 4.6), layout="constrained")
        axes = figure.subplots()
        bounds = np.array([steps["drop"] - steps["drop_low"], steps["drop_high"] - steps["drop"]])
        axes.errorbar(
            steps[column],
            steps["drop"],
            yerr=np.clip(bounds, 0.0, None),
            fmt="o",
            color="0.55",
            ecolor="0.75",
            markersize=4,
            label="evaluated placement",
        )
        front = steps[steps["pareto"]].sort_values(column)
        axes.plot(
            front[column], front["drop"], "-o", color=blue, markersize=5, zorder=3, label="Pareto"
        )
        chosen = steps[steps["chosen"]]
        axes.plot(
            chosen[column],
            chosen["drop"],
            "*",
            color=orange,
            markersize=13,
            zorder=4,
            label="chosen",
        )
        _number_points(axes, pd.concat([front[~front["chosen"]], chosen]), column, width_in)
        axes.axhline(steps["loss"].iloc[0], color=orange, linestyle="--", label="accepted drop")
        axes.axhline(0.0, color="0.15", linewidth=0.8)
        separator = "\n" if is_narrow(width_in) else " "
        axes.set_xlabel(f"{label.format(input_word(metric))},{separator}estimated")
        axes.set_ylabel(f"{label_of(metric)} drop against digital")
        place = f"{steps['profile'].iloc[0]}, level {steps['level_of_profile'].iloc[0]}"
        title = f"{place};{separator}numbers: digital layers"
        axes.set_title(title, parse_math=False, fontsize="small" if separator == "\n" else "medium")
        entries = axes.get_legend_handles_labels()
        caption = sample_caption(steps, "Of close points, one has a number. Whiskers:")
        legend_below(figure, *entries, caption=caption)
        return save_figure(figure, path)


def _panels(number: int, height_in: float, width_in: float) -> tuple[Figure, list[Axes]]:
    """Return a new figure with its panels: side by side, or below each other on a phone."""
    narrow = is_narrow(width_in)
    size = (width_in, _FRAME_IN + height_in * (number if narrow else 1) + 0.8 * narrow * number)
    figure = Figure(figsize=size, layout="constrained")
    shape = (number, 1) if narrow else (1, number)
    grid = figure.subplots(*shape, sharey=True, sharex=not narrow, squeeze=False)
    return figure, list(grid.ravel())


def _number_points(axes: Axes, front: pd.DataFrame, cost: str, width_in: float) -> None:
    """Write the digital layers of each point above it, first of the chosen one.

    A point whose number would touch another one has none.
    """
    apart = _LABEL_IN * (axes.get_xlim()[1] - axes.get_xlim()[0]) / width_in
    numbered: list[float] = []
    first = front.sort_values("chosen", ascending=False, kind="stable")
    points = first[[cost, "drop", "digital_layers"]].itertuples(index=False, name=None)
    for x, y, number in points:
        if any(abs(x - other) < apart for other in numbered):
            continue
        numbered.append(x)
        axes.annotate(
            f"{number}",
            (x, y),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize="small",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )


def _rows(ranking: pd.DataFrame, kinds: dict[str, str], what: str) -> pd.DataFrame:
    require_columns(ranking, [*_NEEDED, *SAMPLE_COLUMNS], "the table to draw")
    rows = ranking[ranking["setting"].isin(list(kinds))]
    if rows.empty:
        raise DataError(f"nothing to draw: the ranking has no {what}")
    return rows


def _draw_cells(
    axes: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    norm: TwoSlopeNorm,
    fontsize: str | float,
) -> AxesImage:
    times_s = sorted(rows["time_s"].unique())
    effect, low, high = (
        rows.pivot(index="subject", columns="time_s", values=column)
        .reindex(index=list(names), columns=times_s)
        .to_numpy(dtype=np.float64)
        for column in ("effect", "effect_low", "effect_high")
    )
    image = axes.imshow(effect, cmap="RdBu_r", norm=norm, aspect="auto")
    for (y, x), value in np.ndenumerate(effect):
        if np.isnan(value):
            continue
        axes.text(
            x,
            y,
            format_fixed(value),
            ha="center",
            va="center",
            color="white" if abs(float(norm(value)) - 0.5) > 0.35 else "0.15",
            weight="bold" if low[y, x] > 0 or high[y, x] < 0 else "normal",
            fontsize=fontsize,
        )
    axes.set_xticks(range(len(times_s)), [time_label(time_s) for time_s in times_s])
    axes.grid(visible=False)
    axes.tick_params(length=0)
    return image


def _draw_bars(
    axes: Axes, rows: pd.DataFrame, places: Sequence[int], offset: float, color: object, label: str
) -> None:
    effect = rows["effect"].to_numpy(dtype=np.float64)
    low = effect - rows["effect_low"].to_numpy(dtype=np.float64)
    high = rows["effect_high"].to_numpy(dtype=np.float64) - effect
    axes.barh(
        np.asarray(places[: len(effect)], dtype=np.float64) + offset,
        effect,
        height=0.38,
        color=color,
        xerr=np.clip(np.array([low, high]), 0.0, None),
        error_kw={"elinewidth": 0.9, "ecolor": "0.1"},
        label=label or None,
    )
