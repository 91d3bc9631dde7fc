"""Figure of the mitigations: effect of each mitigation over time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import time_label
from analogmed.metrics.registry import PRIMARY, is_metric, label_of
from analogmed.report.figures.panels import sample_caption, with_names
from analogmed.report.figures.style import (
    WIDTH_IN,
    is_narrow,
    legend_below,
    publication_style,
    save_figure,
)
from analogmed.report.names import training_name
from analogmed.report.text import SAMPLE_COLUMNS
from analogmed.tables.table import require_columns

OPTIONS = {
    "none": "no mitigation",
    "drift_compensation": "drift compensation",
    "batchnorm": "+ BatchNorm",
    "input_ranges": "+ input ranges",
    "temperature": "+ temperature",
    "all": "all together",
}
_CALIBRATION = (
    {"ece_band": "ECE, band", "nll_band": "NLL, band"},
    {"brier": "Brier score", "nll": "NLL"},
)
"""Calibration about the structure of masks, or of classified images, which have no band."""
_MARKERS = "XosD^v"


def primary_of(summary: pd.DataFrame) -> str:
    """Return the primary metric of a mitigation run: the only score among its metrics."""
    return next((name for name in summary["metric"].unique() if is_metric(name)), PRIMARY)


def shown_metrics(summary: pd.DataFrame) -> dict[str, str]:
    """Return the metrics of a mitigation run to show, with their labels, the primary one first."""
    primary = primary_of(summary)
    of_masks, of_images = _CALIBRATION
    has_band = summary["metric"].isin(list(of_masks)).any()
    return {primary: label_of(primary), **(of_masks if has_band else of_images)}


def mitigation_gains(
    summary: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN
) -> Path:
    """Draw score and calibration per mitigation: networks side by side, time on the x axis.

    Args:
        summary: ``summary.csv`` of a mitigation run.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches; a narrow figure has one column.

    Returns:
        ``path``; identical summaries yield identical bytes.

    Raises:
        DataError: there are no rows to draw, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    needed = ["model", "training", "time_s", "option", "metric", "value", "value_low", "value_high"]
    require_columns(summary, [*needed, *SAMPLE_COLUMNS], "the table to draw")
    if summary.empty:
        raise DataError("nothing to draw: no mitigation was measured")
    shown = shown_metrics(summary)
    networks = list(with_names(summary).groupby(["model", "training"], sort=False))
    times = sorted(summary["time_s"].unique())
    options = [option for option in OPTIONS if (summary["option"] == option).any()]
    with publication_style():
        columns = _columns(len(networks), len(shown), width_in)
        for column, (key, rows) in zip(columns, networks, strict=True):
            for axes, metric in zip(column, shown, strict=True):
                _draw_options(axes, rows[rows["metric"] == metric], options, times)
            column[0].set_title(
                f"{key[0]}\n{training_name(str(key[1]))}",
                parse_math=False,
                fontsize="small",
            )
        for column in columns if is_narrow(width_in) else columns[:1]:
            for axes, label in zip(column, shown.values(), strict=True):
                axes.set_ylabel(label)
        caption = sample_caption(summary, "Whiskers:")
        figure, entries = columns[0][0].figure, columns[0][0].get_legend_handles_labels()
        legend_below(figure, *entries, caption=caption, columns=3)
        return save_figure(figure, path)


def _columns(n_networks: int, n_metrics: int, width_in: float) -> np.ndarray:
    """Return the panels of a new figure: a row per network and, in it, a panel per metric."""
    if is_narrow(width_in):
        n_panels = n_networks * n_metrics
        figure = Figure(figsize=(width_in, 1.9 * n_panels + 1.8), layout="constrained")
        return figure.subplots(n_panels, 1, squeeze=False).reshape(n_networks, n_metrics)
    figure = Figure(figsize=(max(width_in, 2.0 * n_networks), 7.2), layout="constrained")
    return figure.subplots(n_metrics, n_networks, sharex=True, sharey="row", squeeze=False).T


def _draw_options(
    axes: Axes, rows: pd.DataFrame, options: Sequence[str], times: Sequence[float]
) -> None:
    """Draw one metric of one network: its mitigations next to each other at each time."""
    palette = seaborn.color_palette("colorblind", len(OPTIONS))
    for place, option in enumerate(options):
        part = rows[rows["option"] == option].sort_values("time_s")
        value = part["value"].to_numpy()
        ends = np.abs(part[["value_low", "value_high"]].to_numpy().T - value)
        axes.errorbar(
            np.searchsorted(times, part["time_s"]) + 0.12 * (place - (len(options) - 1) / 2),
            value,
            ends,
            fmt=_MARKERS[place],
            markersize=4,
            color=palette[list(OPTIONS).index(option)],
            elinewidth=0.9,
            label=OPTIONS[option],
        )
    axes.set_xticks(range(len(times)), [time_label(t) for t in times])
    axes.set_xlim(-0.5, len(times) - 0.5)
