"""Common style of all figures, and deterministic figure files."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import seaborn
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import write_atomically

WIDTH_IN = 8.0
_CHARACTERS_PER_IN = 13.5
"""Line length of a caption below a narrow figure, per width of the figure."""
SMALLEST_PT = 7.8
"""Smallest text in points, which is 12 pixels on a wide page."""
DPI = 150
FORMATS = {".png": {"Software": None}, ".svg": {"Date": None, "Creator": None}}


@contextmanager
def publication_style() -> Iterator[None]:
    """Apply fonts, lines and grid of the figures without changing the caller's settings."""
    settings = {
        **seaborn.plotting_context("paper", font_scale=1.15),
        **seaborn.axes_style("ticks"),
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.family": "DejaVu Sans",
        "grid.color": "0.9",
        "svg.fonttype": "path",
        "svg.hashsalt": "analogmed",
    }
    with matplotlib.rc_context(settings):
        yield


def is_narrow(width_in: float) -> bool:
    """Return whether a figure of this width is for a phone: panels below each other."""
    return width_in < WIDTH_IN


def legend_below(
    figure: Figure,
    handles: Sequence[Artist],
    labels: Sequence[str],
    *,
    caption: str = "",
    columns: int = 4,
) -> None:
    """Write the legend below all panels, with a caption above its entries.

    A figure that is narrower than ``WIDTH_IN`` breaks the caption into lines, and has one column.

    Args:
        figure: figure with constrained layout.
        handles: legend handle of each entry.
        labels: label of each entry.
        caption: meaning of bands or whiskers; empty for none.
        columns: number of columns in a figure of full width.
    """
    if is_narrow(width_in := figure.get_figwidth()):
        lines = textwrap.wrap(caption, int(_CHARACTERS_PER_IN * width_in))
        columns, caption = 1, "\n".join(lines)
    legend = figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        title=caption or None,
        title_fontsize="small",
    )
    legend.get_title().set_color("0.35")
    legend.get_title().set_parse_math(False)


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write a figure as PNG or SVG, atomically and without a time stamp.

    Args:
        figure: finished figure.
        path: file to write; its suffix, ``.png`` or ``.svg``, determines the format.

    Returns:
        ``path``.

    Raises:
        ConfigError: the suffix is not supported.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise ConfigError(f"cannot draw '{path}': a figure ends in {' or '.join(FORMATS)}")
    metadata = FORMATS[path.suffix]
    return write_atomically(path, lambda file: figure.savefig(file, dpi=DPI, metadata=metadata))
