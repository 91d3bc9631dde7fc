"""Figure of the mitigations: effect of each mitigation over time."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure

from analogmed.foundation.errors import DataError
from analogmed.foundation.time_constants import time_label
from analogmed.report.figures.style import (
    WIDTH_IN,
    count_range,
    legend_below,
    publication_style,
    save_figure,
)
from analogmed.report.names import training_name
from analogmed.tables.table import require_columns

OPTIONS = {
    "none": "no correction",
    "drift_compensation": "drift compensation",
    "batchnorm": "+ BatchNorm",
    "input_ranges": "+ input ranges",
    "temperature": "+ temperature",
    "all": "all together",
}
SHOWN = {"dice": "Dice", "ece_band": "ECE, band", "nll_band": "NLL, band"}
_MARKERS = "XosD^v"


def mitigation_gains(summary: pd.DataFrame, path: Path | str) -> Path:
    """Draw Dice and calibration per mitigation: one column per network, time on the x axis.

    Args:
        summary: ``summary.csv`` of a mitigation run.
        path: ``.png`` or ``.svg`` file.

    Returns:
        ``path``; identical summaries yield identical bytes.

    Raises:
        DataError: there are no rows to draw, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    needed = ["model", "training", "time_s", "option", "metric", "value", "value_low", "value_high"]
    require_columns(summary, needed, "the table to draw")
    if summary.empty:
        raise DataError("nothing to draw: no mitigation was measured")
    networks = list(summary.groupby(["model", "training"], sort=False))
    times = sorted(summary["time_s"].unique())
    options = [option for option in OPTIONS if (summary["option"] == option).any()]
    palette = seaborn.color_palette("colorblind", len(OPTIONS))
    with publication_style():
        figure = Figure(figsize=(max(WIDTH_IN, 2.0 * len(networks)), 7.2), layout="constrained")
        grid = figure.subplots(len(SHOWN), len(networks), sharex=True, sharey="row", squeeze=False)
        for column, (key, rows) in zip(grid.T, networks, strict=True):
            for axes, metric in zip(column, SHOWN, strict=True):
                for place, option in enumerate(options):
                    part = rows[(rows["option"] == option) & (rows["metric"] == metric)]
                    part = part.sort_values("time_s")
                    value = part["value"].to_numpy()
                    ends = np.abs(part[["value_low", "value_high"]].to_numpy().T - value)
                    axes.errorbar(
                        np.searchsorted(times, part["time_s"])
                        + 0.12 * (place - (len(options) - 1) / 2),
                        value,
                        ends,
                        fmt=_MARKERS[place],
                        markersize=4,
                        color=palette[list(OPTIONS).index(option)],
                        elinewidth=0.9,
                        label=OPTIONS[option],
                    )
            column[0].set_title(
                f"{key[0]}\n{training_name(str(key[1]))}",
                parse_math=False,
                fontsize="small",
            )
            column[-1].set_xticks(range(len(times)), [time_label(t) for t in times])
            column[-1].set_xlim(-0.5, len(times) - 0.5)
        for axes, label in zip(grid[:, 0], SHOWN.values(), strict=True):
            axes.set_ylabel(label)
        patients = count_range(summary["n_patients"].tolist(), "patient")
        chips = count_range(summary["n_chips"].tolist(), "chip")
        caption = f"Whiskers: 95 % bootstrap interval over {patients} and {chips}"
        entries = grid[0, 0].get_legend_handles_labels()
        legend_below(figure, *entries, caption=caption, columns=3)
        return save_figure(figure, path)
