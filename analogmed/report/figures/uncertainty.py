"""Figures of the uncertainty measurement: densities, reliability, risk and coverage, conformal."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import time_label
from analogmed.report.figures.maps import draw_example_maps
from analogmed.report.figures.panels import with_names
from analogmed.report.figures.style import (
    WIDTH_IN,
    is_narrow,
    legend_below,
    publication_style,
    save_figure,
)
from analogmed.report.names import TRAINING_NAMES, training_name
from analogmed.tables.table import Table, require_columns
from analogmed.tables.uncertainty import CONFORMAL_SUMMARY, DENSITY, RELIABILITY, RISK_COVERAGE

REGIONS = {"image": "whole image", "band": "band about the structure"}
LINES = ["-", "--", ":", "-."]
LEAST = 20
"""Smallest number of predictions of a bin of a reliability diagram."""
_ROW_IN = 2.5
_SIDE_IN = 0.12
"""Margin of a narrow figure, in which the last label of its axis ends."""
Draw = Callable[[Axes, pd.DataFrame, dict[str, Any]], object]


class _Size(NamedTuple):
    """Size of conformal predictions.

    Attributes:
        column: column of ``conformal_summary.csv``.
        label: label of the axis.
        is_ratio: whether the axis is logarithmic.
    """

    column: str
    label: str
    is_ratio: bool


_SIZES = (
    _Size("volume_ratio", "marked volume\n/ true volume", is_ratio=True),
    _Size("marked_share", "share of images\nwith the class in their set", is_ratio=False),
)
"""Sizes of masks, and of label sets, which have no volume."""


def draw_uncertainty(folder: Path | str) -> list[Path]:
    """Draw all figures for which a run folder has tables, and save them in its ``figures`` folder.

    Args:
        folder: output folder of ``analogmed uncertainty``.

    Returns:
        the files written.
    """
    folder, figures = Path(folder), Path(folder) / "figures"
    drawn = []
    figures_of: tuple[tuple[Table, Callable[[pd.DataFrame, Path], Path]], ...] = (
        (DENSITY, uncertainty_density),
        (RELIABILITY, reliability_diagram),
        (RISK_COVERAGE, risk_coverage_curves),
        (CONFORMAL_SUMMARY, conformal_over_time),
    )
    for table, draw in figures_of:
        exists = (folder / f"{table.name}.csv").exists()
        if exists and is_drawable(content := table.read(folder)):
            drawn.append(draw(content, figures / f"{table.name.removesuffix('_summary')}.png"))
    if (folder / "examples.npz").exists():
        drawn += draw_example_maps(folder)
    return drawn


def uncertainty_density(
    density: pd.DataFrame,
    path: Path | str,
    *,
    width_in: float = WIDTH_IN,
    measure: str = "variance",
) -> Path:
    """Draw the density of the uncertainty of all test voxels: one column per model.

    The axis is logarithmic, and the density is per factor of ten. The area under a line is the
    share of voxels within the axis range; the uncertainty of all others is below its start.

    Args:
        density: ``density.csv`` of a run.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; in a narrow one, panels are below each other.
        measure: variance, entropy or mutual_information; the entropy is drawn if there is no
            variance.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there are no rows to draw, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    require_columns(
        density,
        ["model", "training", "source", "time_s", "region", "measure", "count"],
        "the table to draw",
    )
    drawn = density["source"].isin(["chips", "deterministic"])
    if not (drawn & (density["measure"] == measure)).any():
        measure = "entropy"
    rows = density[density["measure"] == measure]
    highest = float(rows.loc[rows["count"] > 0, "bin_high"].max())
    units = {"variance": "variance of the probability", "entropy": "entropy (nats)"}

    def draw(axes: Axes, part: pd.DataFrame, look: dict[str, Any]) -> None:
        inside = part[part["bin_low"] > 0]
        edges = np.log10([*inside["bin_low"], inside["bin_high"].iloc[-1]])
        share = inside["count"].to_numpy() / part["count"].sum() / np.diff(edges)
        centers = 10 ** ((edges[1:] + edges[:-1]) / 2)
        axes.plot(centers, share, **look)
        axes.set_xscale("log")
        axes.set_xlim(1e-8, max(1.0, highest))

    x_label = units.get(measure, measure.replace("_", " "))
    return _panels(rows, path, draw, x_label, "share per decade", width_in)


def reliability_diagram(
    reliability: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN, least: int = LEAST
) -> Path:
    """Draw accuracy against confidence of the most probable class; the diagonal is calibrated.

    Args:
        reliability: ``reliability.csv`` of a run.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; in a narrow one, panels are below each other.
        least: smallest number of voxels of a bin; smaller bins are omitted.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there are no rows to draw, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    require_columns(
        reliability,
        ["model", "training", "source", "time_s", "region", "voxels", "accuracy"],
        "the table to draw",
    )
    shown = (reliability["voxels"] >= least) & reliability["region"].isin(list(REGIONS))
    rows = reliability[shown]
    first = min(0.5, float(rows["confidence"].min())) if len(rows) else 0.5  # 1/K for K classes

    def draw(axes: Axes, part: pd.DataFrame, look: dict[str, Any]) -> None:
        axes.plot([first, 1.0], [first, 1.0], color="0.6", linewidth=0.8, zorder=1)
        axes.plot(part["confidence"], part["accuracy"], marker="o", markersize=2.5, **look)
        axes.set_xlim(first - 0.02, 1.01)

    return _panels(rows, path, draw, "confidence", "accuracy", width_in)


def risk_coverage_curves(
    curves: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN
) -> Path:
    """Draw the error rate of the remaining voxels as the most uncertain ones are rejected.

    Args:
        curves: ``risk_coverage.csv`` of a run.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; in a narrow one, panels are below each other.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there are no rows to draw, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    require_columns(
        curves,
        ["model", "training", "source", "time_s", "region", "coverage", "risk"],
        "the table to draw",
    )

    def draw(axes: Axes, part: pd.DataFrame, look: dict[str, Any]) -> None:
        axes.plot(part["coverage"], part["risk"], **look)

    labels = (f"share of {_items(curves)} kept", "error rate of these")
    return _panels(curves, path, draw, *labels, width_in, from_zero=True)


def conformal_over_time(
    summary: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN
) -> Path:
    """Draw the false-negative rate of conformal masks over the time since programming.

    Args:
        summary: ``conformal_summary.csv`` of a run.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; in a narrow one, panels are below each other.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: there are no on-chip rows, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    needed = ["model", "training", "calibrated", "time_s", "class", "fnr", "fnr_low", "fnr_high"]
    require_columns(summary, [*needed, "alpha", "volume_ratio"], "the table to draw")
    rows = with_names(summary[summary["time_s"].notna()])
    if rows.empty:
        raise DataError("nothing to draw: no conformal mask was measured on a chip")
    size = _SIZES[bool(rows["volume_ratio"].isna().all())]
    times = sorted(rows["time_s"].unique())
    panels = list(rows.groupby(["model", "class"], sort=False))
    trainings = [t for t in TRAINING_NAMES if (rows["training"] == t).any()]
    ways = ["digital", "first", "each"]
    with publication_style():
        figure, grid = _grid(2, len(panels), width_in)
        for column, (key, part) in zip(grid.T, panels, strict=True):
            for place, (training, way) in enumerate((t, w) for t in trainings for w in ways):
                line = part[(part["training"] == training) & (part["calibrated"] == way)]
                line = line.sort_values("time_s")
                look = _line(training, ways.index(way))
                at = np.searchsorted(times, line["time_s"]) + 0.05 * (place - 2.5)
                spread = np.abs(line[["fnr_low", "fnr_high"]].to_numpy().T - line["fnr"].to_numpy())
                column[0].errorbar(at, line["fnr"], spread, marker="o", markersize=3, **look)
                column[1].plot(at, line[size.column], marker="o", markersize=3, **look)
            column[0].axhline(rows["alpha"].iloc[0], color="0.15", linewidth=0.8)
            column[0].set_title(" / ".join(map(str, key)), parse_math=False, fontsize="medium")
            for axes in column:
                axes.set_xticks(range(len(times)), [time_label(t) for t in times])
            if size.is_ratio:
                column[1].set_yscale("log")
                column[1].yaxis.set_major_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
                column[1].yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        for share, volume in grid.T if is_narrow(width_in) else grid.T[:1]:
            share.set_ylabel("share missed")
            volume.set_ylabel(size.label)
        names = {"digital": "set digitally", "first": f"set at {time_label(times[0])}"}
        handles = [
            Line2D([], [], **_line(training, ways.index(way)))
            for training in trainings
            for way in ways
        ]
        labels = [
            f"{TRAINING_NAMES[training]}, {names.get(way, 'set at each time')}"
            for training in trainings
            for way in ways
        ]
        caption = f"Line: guaranteed share, {rows['alpha'].iloc[0]:g}. Whiskers: 95 % intervals"
        legend_below(figure, handles, labels, caption=caption, columns=2)
        return save_figure(figure, path)


def _panels(
    rows: pd.DataFrame,
    path: Path | str,
    draw: Draw,
    x_label: str,
    y_label: str,
    width_in: float,
    *,
    from_zero: bool = False,
) -> Path:
    """Draw a column of panels per model, a row per region, a line per training, source and time."""
    rows = _shown(rows)
    models = list(dict.fromkeys(rows["model"]))
    regions = [region for region in REGIONS if (rows["region"] == region).any()]
    times = sorted(rows["time_s"].dropna().unique())
    handles: dict[str, Line2D] = {}
    with publication_style():
        figure, grid = _grid(len(regions), len(models), width_in)
        for (i, region), (j, model) in product(enumerate(regions), enumerate(models)):
            part = rows[(rows["region"] == region) & (rows["model"] == model)]
            for key, line in part.groupby(["training", "source", "time_s"], dropna=False):
                training, source, time_s = key
                look, label = _look(str(training), str(source), float(str(time_s)), times)
                draw(grid[i, j], line, look)
                handles.setdefault(label, Line2D([], [], **look))
            if i == 0:
                grid[i, j].set_title(model, parse_math=False)
            if j == 0 or is_narrow(width_in):
                place = f"{REGIONS[region]}\n" if len(regions) > 1 else ""
                grid[i, j].set_ylabel(place + y_label)
        for axes in grid[-1]:
            axes.set_xlabel(x_label)
        for axes in grid[:, 0] if from_zero else ():
            axes.set_ylim(bottom=0.0)
        legend_below(figure, list(handles.values()), list(handles), columns=2)
        return save_figure(figure, path)


def _items(table: pd.DataFrame) -> str:
    """Return what the rows of a table count: voxels of masks, or predictions of whole images."""
    return "voxels" if (table["region"] == "band").any() else "predictions"


def _grid(n_rows: int, n_columns: int, width_in: float) -> tuple[Figure, np.ndarray]:
    """Return a new figure with its panels, of which a narrow one stacks the columns."""
    if is_narrow(width_in):
        n_panels = n_rows * n_columns
        layout = ConstrainedLayoutEngine(w_pad=_SIDE_IN)
        figure = Figure(figsize=(width_in, _ROW_IN * n_panels + 2.0), layout=layout)
        panels = figure.subplots(n_panels, 1, squeeze=False)
        return figure, panels.reshape(n_columns, n_rows).T
    figure = Figure(figsize=(width_in, _ROW_IN * n_rows + 1.1), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharex=True, sharey="row", squeeze=False)
    return figure, grid


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of chips at the first and last time, and of the digital run if there is one."""
    on_chip = rows[rows["source"] == "chips"]
    ends = [on_chip["time_s"].min(), on_chip["time_s"].max()]
    shown = rows[
        ((rows["source"] == "chips") & rows["time_s"].isin(ends))
        | (rows["source"] == "deterministic")
    ]
    if shown.empty:
        raise DataError("nothing to draw: neither chips nor a deterministic run were measured")
    return with_names(shown)


def _look(
    training: str, source: str, time_s: float, times: Sequence[float]
) -> tuple[dict[str, Any], str]:
    name = training_name(training)
    if source == "deterministic":
        look = {"color": _color(training), "linestyle": ":", "linewidth": 1.0}
        return look, f"{name}, run digitally"
    line = "-" if time_s == times[0] else "--"
    look = {"color": _color(training), "linestyle": line, "linewidth": 1.4}
    return look, f"{name}, chips at {time_label(time_s)}"


def _line(training: str, place: int) -> dict[str, Any]:
    return {"color": _color(training), "linestyle": LINES[place]}


def is_drawable(table: pd.DataFrame) -> bool:
    """Return whether a table has the on-chip or digital rows that figures show.

    Bins of reliability with few predictions are not shown, so that a run on few images has none.
    """
    if "source" not in table.columns:
        return bool(table["time_s"].notna().any())
    shown = table["source"].isin(["chips", "deterministic"])
    if "accuracy" in table.columns:
        shown &= (table["voxels"] >= LEAST) & table["region"].isin(list(REGIONS))
    return bool(shown.any())


def _color(training: str) -> tuple[float, float, float]:
    palette = seaborn.color_palette("colorblind")
    return palette[0] if training == "hwa" else palette[1]
