"""Figures of the robustness results: metrics over time, and the loss of each model."""

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import DAY_S, MONTH_S, T0_S, YEAR_S, time_label
from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import PRIMARY
from analogmed.report.figures.style import (
    WIDTH_IN,
    count_range,
    legend_below,
    publication_style,
    save_figure,
)
from analogmed.report.names import metric_title, training_name
from analogmed.tables.estimates import (
    Estimate,
    columns_for,
    metrics_of,
    of_metric,
    shown_in,
    unit_of,
)
from analogmed.tables.table import require_columns

PANEL_IN = WIDTH_IN / 3
PANEL = ["task", "hardware", "model"]
LEGEND_HEIGHT_IN = 1.0
_LINE_CHARACTERS = 52
"""Line length of a caption below a narrow figure."""
LOSS_LOOKS = (("#2a9d8f", "o"), ("#7566c9", "s"), ("#b5487f", "D"), ("#b07d12", "^"))
"""Colors with enough contrast on light and dark backgrounds, and markers for colour blindness, of
the losses in their order; more losses than that repeat them."""
_LABEL_DISTANCE = 0.75
"""Smallest distance in decades between time labels on a narrow axis."""
_LABELS_FIRST = (T0_S, DAY_S, MONTH_S, YEAR_S)
"""Times whose labels have priority."""


_MOST_TICKS = 24
"""Largest number of times with a tick each; with more, only labelled times have a tick."""


@dataclass(frozen=True)
class _Look:
    color: tuple[float, float, float]
    line: str
    marker: str


def metric_over_time(curves: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN) -> Path:
    """Draw a metric over time since programming: one panel per model, digital baseline dashed.

    Bands are the confidence intervals. The time axis is logarithmic; t0 (0 s, right after
    programming) is drawn before an axis break.

    Args:
        curves: result of ``analogmed.evaluation.summaries.summary.over_time``.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; a narrow figure has fewer panels per row.

    Returns:
        ``path``; identical curves yield identical bytes.

    Raises:
        DataError: there is no on-chip row in the curves, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    needed = [*PANEL, "training", "time_s", "metric", "unit", "estimate", "low", "high"]
    require_columns(curves, [*needed, "n_patients", "n_chips", "level"], "the table to draw")
    on_chip = curves[(curves["hardware"] != "digital") & curves["time_s"].notna()]
    if on_chip.empty:
        raise DataError("nothing to draw: the curves have no row measured on a chip")
    digital = curves[curves["hardware"] == "digital"]
    with publication_style():
        panels = list(on_chip.groupby(PANEL, sort=False))
        figure, grid = _panel_grid(len(panels), height_in=3.1, width_in=width_in)
        narrow = len(panels) > 1 or width_in < WIDTH_IN
        place = _TimeAxis(sorted(on_chip["time_s"].unique()), narrow=narrow)
        for axes, (key, rows) in zip(grid, panels, strict=True):
            task, _, model = key
            same = digital[(digital["task"] == task) & (digital["model"] == model)]
            _draw_curves(axes, rows, same, place)
            axes.set_title(_panel_title(key, on_chip), parse_math=False)
        for axes in grid[:: _per_row(width_in)]:
            axes.set_ylabel(_metric_label(on_chip))
        caption = _places(on_chip) + _caption(on_chip, "Bands")
        _legend_below(figure, grid, caption, n_columns=2)
        return save_figure(figure, path)


def drop_per_model(
    summary: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN, metric: str = ""
) -> Path:
    """Draw the loss of each model on the chip at t0, after one day and after one month.

    Args:
        summary: result of ``analogmed.evaluation.summaries.summary.summarise``.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches.
        metric: metric to draw; by default the primary one of the summary.

    Returns:
        ``path``; identical summaries yield identical bytes.

    Raises:
        DataError: there is no loss in the summary, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    metrics = metrics_of(summary.columns) or (PRIMARY,)
    metric = metric or metrics[0]
    of_losses = columns_for(
        shown_in("figure"), summary.columns, metric, primary=metric == metrics[0]
    )
    require_columns(
        summary,
        [*PANEL, "training", *of_losses, "n_patients", "n_chips", "level"],
        "the table to draw",
    )
    summary = of_metric(summary, metric)
    losses = measured_losses(summary)
    if not losses:
        raise DataError(
            "nothing to draw: the summary has no drop against a digital run; "
            "evaluate the digital baseline too"
        )
    with publication_style():
        panels = list(summary.groupby(["task", "hardware"], sort=False))
        groups = _unique_pairs(summary, "model", "training")
        places = _group_places(groups)
        height_in = 0.8 + (0.42 if width_in >= WIDTH_IN else 0.5) * len(groups)
        figure, grid = _panel_grid(len(panels), height_in=height_in, width_in=width_in)
        for axes, (key, rows) in zip(grid, panels, strict=True):
            _draw_drops(axes, rows, losses, groups, places, narrow=width_in < WIDTH_IN)
            axes.set_xlabel(_loss_label(metric, unit_of(summary)))
            axes.set_title(" on ".join(map(str, key)), parse_math=False)
        grid[0].set_ylim(places[-1] + 0.5, places[0] - 0.5)
        _legend_below(figure, grid, _caption(summary, "Whiskers"), n_columns=len(losses))
        return save_figure(figure, path)


def measured_losses(summary: pd.DataFrame) -> list[Estimate]:
    """Return the losses of the figure that have a value in a summary of one metric."""
    return [e for e in shown_in("figure") if e.key in summary and summary[e.key].notna().any()]


def _loss_label(metric: str, unit: str) -> str:
    word = "added" if is_lower_better(metric) else "lost"
    return f"{metric_title(metric, unit)} {word} against digital"


class _TimeAxis:
    """Positions of times on a logarithmic axis; 0 s is one decade before the first other time."""

    def __init__(self, times_s: Sequence[float], *, narrow: bool) -> None:
        self.narrow = narrow
        self.times_s = [float(time_s) for time_s in times_s]
        positive = [time_s for time_s in self.times_s if time_s > 0]
        self.first = np.log10(min(positive)) if positive else 1.0
        self.has_break = bool(positive) and 0.0 in self.times_s

    def __call__(self, times_s: pd.Series) -> np.ndarray:
        values = times_s.to_numpy(dtype=np.float64)
        logs = np.log10(values, out=np.zeros_like(values), where=values > 0)
        return np.where(values > 0, logs, self.first - 1.0)

    def decorate(self, axes: Axes) -> None:
        places = self(pd.Series(self.times_s))
        labelled = self._labelled(places)
        ticks = [
            (place, time_label(time_s) if time_s in labelled else "")
            for place, time_s in zip(places, self.times_s, strict=True)
            if time_s in labelled or len(places) <= _MOST_TICKS
        ]
        axes.set_xticks(*zip(*ticks, strict=True), fontsize="small")
        if self.narrow:
            for label in axes.get_xticklabels():
                label.set(rotation=60, ha="right", rotation_mode="anchor")
        axes.set_xlim(places[0] - 0.4, places[-1] + 0.4)
        if self.has_break:
            for offset in (-0.08, 0.08):
                center = self.first - 0.5 + offset
                axes.plot(
                    [center - 0.08, center + 0.08],
                    [-0.02, 0.02],
                    transform=axes.get_xaxis_transform(),
                    color="0.15",
                    linewidth=0.9,
                    clip_on=False,
                )

    def _labelled(self, places: np.ndarray) -> set[float]:
        """Return the times whose labels do not overlap on a narrow axis."""
        if not self.narrow and len(places) <= _MOST_TICKS:
            return set(self.times_s)
        at = dict(zip(self.times_s, places, strict=True))
        kept: dict[float, float] = {}
        for time_s in sorted(at, key=lambda time_s: time_s not in _LABELS_FIRST):
            if all(abs(at[time_s] - place) >= _LABEL_DISTANCE for place in kept.values()):
                kept[time_s] = at[time_s]
        return set(kept)


def _per_row(width_in: float) -> int:
    return max(1, round(width_in / PANEL_IN - 0.4))


def _panel_grid(n_panels: int, *, height_in: float, width_in: float) -> tuple[Figure, list[Axes]]:
    n_columns = min(_per_row(width_in), n_panels)
    n_rows = -(-n_panels // n_columns)
    size = (width_in, n_rows * height_in + LEGEND_HEIGHT_IN)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False).ravel()
    for unused in grid[n_panels:]:
        unused.remove()
    return figure, list(grid[:n_panels])


def _looks(trainings: Iterable[str]) -> dict[str, _Look]:
    """Return the look of each training; those that are neither digital nor hwa share one."""
    palette = seaborn.color_palette("colorblind")
    known = {"digital": _Look(palette[1], ":", "s"), "hwa": _Look(palette[0], "-", "o")}
    other = _Look(palette[2], "-", "^")
    return known | {training: known.get(training, other) for training in trainings}


def _draw_curves(axes: Axes, rows: pd.DataFrame, digital: pd.DataFrame, place: _TimeAxis) -> None:
    for training, look in _looks([*digital["training"], *rows["training"]]).items():
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
    losses: Sequence[Estimate],
    groups: Sequence[tuple[str, str]],
    places: np.ndarray,
    *,
    narrow: bool,
) -> None:
    """Draw points with whiskers: one group per model and training, one point per time."""
    by_group = rows.set_index(["model", "training"]).reindex(list(groups))
    apart = 0.66 / len(losses)
    looks = dict(zip(shown_in("figure"), cycle(LOSS_LOOKS), strict=False))
    for index, loss in enumerate(losses):
        estimate = by_group[loss.key].to_numpy(dtype=np.float64)
        bounds = by_group[[f"{loss.key}_low", f"{loss.key}_high"]].to_numpy(dtype=np.float64).T
        color, marker = looks[loss]
        axes.errorbar(
            estimate,
            places + (index - (len(losses) - 1) / 2) * apart,
            xerr=np.clip(np.array([estimate - bounds[0], bounds[1] - estimate]), 0.0, None),
            color=color,
            linestyle="none",
            linewidth=1.3,
            marker=marker,
            markersize=5.5,
            label=loss.figure,
        )
    keys = [loss.key for loss in losses]
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


def _panel_title(key: Sequence[object], rows: pd.DataFrame) -> str:
    """Return the model, prefixed by task and hardware if the figure shows several."""
    parts = [name for name, column in zip(key, PANEL, strict=True) if rows[column].nunique() > 1]
    return ", ".join(map(str, parts)) or str(key[-1])


def _metric_label(rows: pd.DataFrame) -> str:
    return metric_title(str(rows["metric"].iloc[0]), str(rows["unit"].iloc[0]))


def _legend_below(figure: Figure, axes: Sequence[Axes], caption: str, n_columns: int) -> None:
    if figure.get_figwidth() < WIDTH_IN:
        n_columns, caption = 1, "\n".join(textwrap.wrap(caption, _LINE_CHARACTERS))
    entries = {
        label: handle
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    legend_below(figure, list(entries.values()), list(entries), caption=caption, columns=n_columns)


def _places(rows: pd.DataFrame) -> str:
    pairs = _unique_pairs(rows, "task", "hardware")
    return " and ".join(f"{task} on {hardware}" for task, hardware in pairs) + ". "


def _caption(rows: pd.DataFrame, mark: str) -> str:
    patients = count_range(rows["n_patients"].tolist(), "patient")
    chips = count_range(rows["n_chips"].tolist(), "chip")
    level = 100 * float(rows["level"].iloc[0])
    return f"{mark}: {level:.3g} % bootstrap interval over {patients} and {chips}"


def _unique_pairs(rows: pd.DataFrame, first: str, second: str) -> list[tuple[str, str]]:
    pairs = rows[[first, second]].drop_duplicates().itertuples(index=False)
    return [(str(one), str(other)) for one, other in pairs]
