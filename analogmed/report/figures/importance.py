"""Heat map of block importance: levels of a supernetwork as rows, blocks as columns."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analogmed.foundation.errors import DataError
from analogmed.report.figures.style import WIDTH_IN, publication_style, save_figure
from analogmed.report.text import count_range
from analogmed.tables.table import require_columns

_NEEDED = ["task", "level", "block", "importance", "networks"]
_CELL_IN, _FRAME_IN = 0.42, 1.5
_TWO_PANELS = 6
"""Largest number of blocks for which two tasks fit next to each other."""


def importance_heat_map(
    importance: pd.DataFrame, path: Path | str, *, width_in: float = WIDTH_IN
) -> Path:
    """Draw the importance of the blocks of each level, one panel per task and supernetwork.

    The most important block of a level is printed in bold. A cell is empty if the level does not
    have the block.

    Args:
        importance: result of ``importance_table`` of analogmed.search, or its CSV file; the tables
            of several tasks are concatenated.
        path: ``.png`` or ``.svg`` file.
        width_in: width of the figure in inches.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        DataError: the table is empty, or a column is missing.
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    require_columns(importance, _NEEDED, "the table to draw")
    if importance.empty:
        raise DataError("nothing to draw: no level has a choice of blocks")
    panels = _panels(importance)
    blocks = list(dict.fromkeys(importance["block"]))
    levels = sorted(set(importance["level"]))
    across = min(len(panels), 2 if len(blocks) <= _TWO_PANELS else 1)
    down = -(-len(panels) // across)
    norm = Normalize(0.0, float(importance["importance"].max()) or 1.0)
    with publication_style():
        height = down * (0.6 + _CELL_IN * len(levels)) + _FRAME_IN
        figure = Figure(figsize=(width_in, height), layout="constrained")
        grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
        for axes, (title, rows) in zip(grid, panels, strict=False):
            image = _draw(axes, rows, levels, blocks, norm)
            axes.set_title(title, fontsize="medium", parse_math=False)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        figure.supylabel("level (0: image resolution)", fontsize="medium")
        figure.colorbar(
            image, ax=list(grid), label="share of the level's importance", fraction=0.05, pad=0.02
        )
        networks = count_range(importance["networks"].tolist(), "network")
        figure.supxlabel(
            f"mean over {networks} that hold the block; the blocks of a level add up to 1",
            fontsize="small",
            color="0.35",
        )
        return save_figure(figure, path)


def _panels(importance: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return title and rows of each panel; supernetworks of one task are named by their folders."""
    if "supernet" not in importance.columns:
        grouped = importance.groupby("task", sort=False)
        return [(str(task), rows) for task, rows in grouped]
    pairs = importance.groupby(["task", "supernet"], sort=False)
    tasks = [task for (task, _), _ in pairs]
    return [
        (f"{task}: {Path(str(supernet)).name}" if tasks.count(task) > 1 else str(task), rows)
        for (task, supernet), rows in pairs
    ]


def _draw(
    axes: Axes, rows: pd.DataFrame, levels: Sequence[int], blocks: Sequence[str], norm: Normalize
) -> AxesImage:
    shares = (
        rows.pivot(index="level", columns="block", values="importance")
        .reindex(index=list(levels), columns=list(blocks))
        .to_numpy(dtype=np.float64)
    )
    image = axes.imshow(shares, cmap="cividis", norm=norm, aspect="auto")
    best = np.nan_to_num(shares, nan=-1.0).max(axis=1)
    for (y, x), share in np.ndenumerate(shares):
        if np.isnan(share):
            continue
        axes.text(
            x,
            y,
            f"{share:.2f}",
            ha="center",
            va="center",
            color="white" if float(norm(share)) < 0.6 else "0.1",
            weight="bold" if share == best[y] else "normal",
            fontsize="small",
        )
    axes.set_xticks(range(len(blocks)), list(blocks))
    axes.set_yticks(range(len(levels)), [str(level) for level in levels])
    axes.tick_params(length=0, labelbottom=True)
    axes.grid(visible=False)
    return image
