"""Figures of the robustness results: metrics over time, and the drop of each model."""

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import TIME_NAMES
from analogmed.metrics.registry import PRIMARY
from analogmed.report.figures.panels import (
    PANEL,
    TimeAxis,
    looks,
    panel_grid,
    panel_legend,
    panel_title,
    panels_per_row,
    places_caption,
    sample_caption,
    unique_pairs,
    with_names,
)
from analogmed.report.figures.style import WIDTH_IN, publication_style, save_figure
from analogmed.report.names import drop_title, metric_title, training_name
from analogmed.report.text import SAMPLE_COLUMNS
from analogmed.tables.estimates import (
    Estimate,
    columns_for,
    metrics_of,
    of_metric,
    shown_in,
    unit_of,
)
from analogmed.tables.table import require_columns

DROP_LOOKS = (("#2a9d8f", "o"), ("#7566c9", "s"), ("#b5487f", "D"), ("#b07d12", "^"))
"""Colors with enough contrast on light and dark backgrounds, and markers for colour blindness, of
the drops in their order; more drops than that repeat them."""


def metric_over_time(
    curves: pd.DataFrame,
    path: Path | str,
    *,
    width_in: float = WIDTH_IN,
    names: Mapping[float, str] = TIME_NAMES,
) -> Path:
    """Draw a metric over time since programming: one panel per model, digital baseline dashed.

    Bands are the confidence intervals. The time axis is logarithmic; t0 (0 s, right after
    programming) is drawn before an axis break.

    Args:
        curves: result of ``analogmed.evaluation.summaries.summary.over_time``.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; a narrow figure has fewer panels per row.
        names: names of some times.

    Returns:
        ``path``; identical curves yield identical bytes.

    Raises:
        DataError: there is no on-chip row in the curves, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    needed = [*PANEL, "training", "time_s", "metric", "unit", "estimate", "low", "high"]
    require_columns(curves, [*needed, *SAMPLE_COLUMNS], "the table to draw")
    curves = with_names(curves)
    on_chip = curves[(curves["hardware"] != "digital") & curves["time_s"].notna()]
    if on_chip.empty:
        raise DataError("nothing to draw: the curves have no row measured on a chip")
    digital = curves[curves["hardware"] == "digital"]
    with publication_style():
        panels = list(on_chip.groupby(PANEL, sort=False))
        figure, grid = panel_grid(len(panels), height_in=3.1, width_in=width_in)
        times_s = sorted(on_chip["time_s"].unique())
        place = TimeAxis(times_s, panels=len(panels), width_in=width_in, names=names)
        for axes, (key, rows) in zip(grid, panels, strict=True):
            task, _, model = key
            same = digital[(digital["task"] == task) & (digital["model"] == model)]
            _draw_curves(axes, rows, same, place)
            axes.set_title(panel_title(key, on_chip), parse_math=False)
        first = on_chip.iloc[0]
        for axes in grid[:: panels_per_row(width_in)]:
            axes.set_ylabel(metric_title(str(first["metric"]), str(first["unit"])))
        caption = places_caption(on_chip) + sample_caption(on_chip, "Bands:", ["low"])
        panel_legend(figure, grid, caption, n_columns=2)
        return save_figure(figure, path)


def drop_per_model(
    summary: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN, metric: str = ""
) -> Path:
    """Draw the drop of each model on the chip at t0, after one day and after one month.

    Args:
        summary: result of ``analogmed.evaluation.summaries.summary.summarise``.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches.
        metric: metric to draw; by default the primary one of the summary.

    Returns:
        ``path``; identical summaries yield identical bytes.

    Raises:
        DataError: there is no drop in the summary, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    metrics = metrics_of(summary.columns) or (PRIMARY,)
    metric = metric or metrics[0]
    of_drops = columns_for(
        shown_in("figure"), summary.columns, metric, primary=metric == metrics[0]
    )
    require_columns(
        summary,
        [*PANEL, "training", *of_drops, *SAMPLE_COLUMNS],
        "the table to draw",
    )
    summary = with_names(of_metric(summary, metric))
    drops = measured_drops(summary)
    if not drops:
        raise DataError(
            "nothing to draw: the summary has no drop against a digital run; "
            "evaluate the digital baseline too"
        )
    with publication_style():
        panels = list(summary.groupby(["task", "hardware"], sort=False))
        groups = unique_pairs(summary, "model", "training")
        places = _group_places(groups)
        narrow = width_in < WIDTH_IN
        height_in = 1.3 + 0.5 * len(groups) if narrow else 0.8 + 0.42 * len(groups)
        figure, grid = panel_grid(len(panels), height_in=height_in, width_in=width_in)
        label = drop_title(metric, unit_of(summary))
        for axes, (key, rows) in zip(grid, panels, strict=True):
            _draw_drops(axes, rows, drops, groups, places, narrow=narrow)
            axes.set_xlabel(label.replace(" against", "\nagainst") if narrow else label)
            title = ("\non " if narrow else " on ").join(map(str, key))
            axes.set_title(title, parse_math=False)
        grid[0].set_ylim(places[-1] + 0.5, places[0] - 0.5)
        caption = sample_caption(summary, "Whiskers:", [f"{drop.key}_low" for drop in drops])
        panel_legend(figure, grid, caption, n_columns=len(drops))
        return save_figure(figure, path)


def measured_drops(summary: pd.DataFrame) -> list[Estimate]:
    """Return the drops of the figure that have a value in a summary of one metric."""
    return [e for e in shown_in("figure") if e.key in summary and summary[e.key].notna().any()]


def _draw_curves(axes: Axes, rows: pd.DataFrame, digital: pd.DataFrame, place: TimeAxis) -> None:
    for training, look in looks([*digital["training"], *rows["training"]]).items():
        name = training_name(training)
        for estimate in digital.loc[digital["training"] == training, "estimate"]:
            axes.axhline(
                estimate,
                color=look.color,
                linestyle=(0, (6, 3)),
                linewidth=1.0,
                label=f"{name}, run digitally",
            )
        curve = rows[rows["training"] == training].sort_values("time_s")
        if curve.empty:
            continue
        x = place(curve["time_s"])
        axes.fill_between(x, curve["low"], curve["high"], color=look.color, alpha=0.13, linewidth=0)
        for bound in ("low", "high"):
            axes.plot(x, curve[bound], color=look.color, linewidth=0.6, alpha=0.6)
        axes.plot(
            x,
            curve["estimate"],
            color=look.color,
            linestyle=look.line,
            marker=look.marker,
            label=f"{name}, on the chip",
        )
    place.decorate(axes)


def _draw_drops(
    axes: Axes,
    rows: pd.DataFrame,
    drops: Sequence[Estimate],
    groups: Sequence[tuple[str, str]],
    places: np.ndarray,
    *,
    narrow: bool,
) -> None:
    """Draw points with whiskers: one group per model and training, one point per time."""
    by_group = rows.set_index(["model", "training"]).reindex(list(groups))
    apart = 0.66 / len(drops)
    looks = dict(zip(shown_in("figure"), cycle(DROP_LOOKS), strict=False))
    for index, drop in enumerate(drops):
        estimate = by_group[drop.key].to_numpy(dtype=np.float64)
        bounds = by_group[[f"{drop.key}_low", f"{drop.key}_high"]].to_numpy(dtype=np.float64).T
        color, marker = looks[drop]
        axes.errorbar(
            estimate,
            places + (index - (len(drops) - 1) / 2) * apart,
            xerr=np.clip(np.array([estimate - bounds[0], bounds[1] - estimate]), 0.0, None),
            color=color,
            linestyle="none",
            linewidth=1.3,
            marker=marker,
            markersize=5.5,
            label=drop.figure,
        )
    keys = [drop.key for drop in drops]
    for place, missing in zip(places, by_group[keys].isna().all(axis=1), strict=True):
        if missing:
            axes.text(0.0, place, " no result", va="center", color="0.5", fontsize="small")
    _decorate_drops(axes, groups, places, narrow=narrow)


def _decorate_drops(
    axes: Axes, groups: Sequence[tuple[str, str]], places: np.ndarray, *, narrow: bool
) -> None:
    axes.axvline(0.0, color="0.15", linewidth=0.8)
    between = "\n" if narrow else ", "
    axes.set_yticks(places, [f"{m}{between}{training_name(t)}" for m, t in groups])
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.set_axisbelow(True)


def _group_places(groups: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the positions of the groups, with a gap between models."""
    models = [model for model, _ in groups]
    gaps = np.cumsum([0.0] + [0.35 * (one != other) for one, other in pairwise(models)])
    return np.arange(len(groups)) + gaps
