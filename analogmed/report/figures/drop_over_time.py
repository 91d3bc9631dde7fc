"""Figure of the drop over time: the mean of each network, and each single chip."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import TIME_NAMES
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
    with_names,
)
from analogmed.report.figures.style import WIDTH_IN, publication_style, save_figure
from analogmed.report.names import drop_title, training_name
from analogmed.report.text import SAMPLE_COLUMNS
from analogmed.tables.estimates import ENDS
from analogmed.tables.table import require_columns

_DROP = [f"drift_drop{end}" for end in ENDS]
_APART = 0.07
"""Distance in decades between the whiskers of two trainings at the same time."""


def has_drops(curves: pd.DataFrame) -> bool:
    """Return whether any drop against a digital run is known."""
    return bool("drift_drop" in curves and curves["drift_drop"].notna().any())


def are_several(chips: pd.DataFrame | None) -> bool:
    """Return whether the drops of single chips are known and of more than one."""
    return chips is not None and chips["chip"].nunique() > 1


def drop_over_time(
    curves: pd.DataFrame,
    path: Path | str,
    *,
    chips: pd.DataFrame | None = None,
    lower_is_better: bool | None = None,
    width_in: float = WIDTH_IN,
    names: Mapping[float, str] = TIME_NAMES,
) -> Path:
    """Draw the paired drop over the age of the chip: one panel per model, a thin line per chip.

    Markers are means over patients and chips, whiskers their confidence intervals.

    Args:
        curves: ``curves.csv`` of one metric.
        path: ``.png`` or ``.svg`` file.
        chips: ``chip_losses.csv`` of the same metric; ``None`` draws no lines of single chips.
        lower_is_better: whether lower values of the metric are better; by default, as the metric
            declares.
        width_in: width of the figure in inches; a narrow figure has fewer panels per row.
        names: names of some times.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there is no drop in the curves, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    needed = [*PANEL, "training", "time_s", "metric", "unit", *_DROP]
    require_columns(curves, [*needed, *SAMPLE_COLUMNS], "the table to draw")
    curves = with_names(curves[curves["time_s"].notna() & curves["drift_drop"].notna()])
    chips = None if chips is None else with_names(chips)
    if curves.empty:
        raise DataError(
            "nothing to draw: the curves have no drop against a digital run; "
            "evaluate the digital baseline too"
        )
    with publication_style():
        panels = list(curves.groupby(PANEL, sort=False))
        figure, grid = panel_grid(len(panels), height_in=3.1, width_in=width_in)
        times_s = sorted(curves["time_s"].unique())
        place = TimeAxis(times_s, panels=len(panels), width_in=width_in, names=names)
        for axes, (key, rows) in zip(grid, panels, strict=True):
            own = _chips_of(chips, key) if are_several(chips) else None
            _draw_panel(axes, rows, own, place)
            axes.set_title(panel_title(key, curves), parse_math=False)
        first = curves.iloc[0]
        for axes in grid[:: panels_per_row(width_in)]:
            axes.set_ylabel(drop_title(first["metric"], first["unit"], lower_is_better))
        caption = places_caption(curves) + sample_caption(curves, "Whiskers:", _DROP[1:2])
        caption += ". Thin lines: single chips" if are_several(chips) else ""
        panel_legend(figure, grid, caption, n_columns=2)
        return save_figure(figure, path)


def _chips_of(chips: pd.DataFrame | None, key: tuple[object, ...]) -> pd.DataFrame | None:
    """Return the rows of one panel."""
    return None if chips is None else chips[(chips[PANEL] == list(key)).all(axis=1)]


def _draw_panel(
    axes: Axes, rows: pd.DataFrame, chips: pd.DataFrame | None, place: TimeAxis
) -> None:
    axes.axhline(0.0, color="0.15", linewidth=0.8)
    trainings = rows["training"].unique()
    look_of = looks(trainings)
    for index, training in enumerate(trainings):
        look = look_of[training]
        if chips is not None:
            for _, line in chips[chips["training"] == training].groupby("chip"):
                line = line.sort_values("time_s")
                axes.plot(
                    place(line["time_s"]),
                    line["drift_drop"],
                    color=look.color,
                    linewidth=0.6,
                    alpha=0.5,
                )
        curve = rows[rows["training"] == training].sort_values("time_s")
        drop, low, high = (curve[name].to_numpy(dtype=np.float64) for name in _DROP)
        axes.errorbar(
            place(curve["time_s"]) + _APART * (index - (len(trainings) - 1) / 2),
            drop,
            yerr=np.clip(np.array([drop - low, high - drop]), 0.0, None),
            color=look.color,
            linestyle=look.line,
            linewidth=1.6,
            elinewidth=1.1,
            marker=look.marker,
            markersize=5.5,
            label=training_name(training),
        )
    place.decorate(axes)
