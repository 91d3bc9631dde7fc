"""Parts of figures with one panel per model over the age of the chip."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analogmed.foundation.time_constants import (
    DAY_S,
    MONTH_S,
    T0_S,
    TIME_NAMES,
    YEAR_S,
    time_label,
)
from analogmed.report.figures.style import WIDTH_IN, legend_below
from analogmed.report.names import hardware_name, model_name, place_name, task_name
from analogmed.report.text import level_of, sample_sizes

PANEL_IN = WIDTH_IN / 3
PANEL = ["task", "hardware", "model"]
LEGEND_HEIGHT_IN = 1.0
_MARGIN_IN = 0.6
"""Width of a panel that its vertical axis takes."""
_CHARACTER_IN, _GAP_IN = 0.078, 0.1
"""Width of a character of a time label, and smallest gap between two labels."""
_ROTATED_IN = 0.17
"""Smallest distance between rotated time labels."""
_LABELS_FIRST = (T0_S, DAY_S, MONTH_S, YEAR_S)
"""Times whose labels have priority."""
_MOST_TICKS = 24
"""Largest number of times with a tick each; with more, only labelled times have a tick."""


@dataclass(frozen=True)
class Look:
    """Color, line style and marker of a training."""

    color: tuple[float, float, float]
    line: str
    marker: str


def looks(trainings: Iterable[str]) -> dict[str, Look]:
    """Return the look of each training; those that are neither digital nor hwa share one."""
    palette = seaborn.color_palette("colorblind")
    known = {"digital": Look(palette[1], ":", "s"), "hwa": Look(palette[0], "-", "o")}
    other = Look(palette[2], "-", "^")
    return known | {training: known.get(training, other) for training in trainings}


class TimeAxis:
    """Positions of times on a logarithmic axis; 0 s is one decade before the first other time.

    Args:
        times_s: times in s, in ascending order.
        panels: number of panels of the figure.
        width_in: width of the figure in inches.
        names: names of some times.
    """

    def __init__(
        self,
        times_s: Sequence[float],
        *,
        panels: int,
        width_in: float,
        names: Mapping[float, str] = TIME_NAMES,
    ) -> None:
        self._names = names
        self.rotated = panels > 1 or width_in < WIDTH_IN
        self.width_in = width_in / min(panels, panels_per_row(width_in)) - _MARGIN_IN
        self.times_s = [float(time_s) for time_s in times_s]
        positive = [time_s for time_s in self.times_s if time_s > 0]
        self.first = np.log10(min(positive)) if positive else 1.0
        self.has_break = bool(positive) and 0.0 in self.times_s

    def __call__(self, times_s: pd.Series) -> np.ndarray:
        """Return the positions of times in s, in decades."""
        values = times_s.to_numpy(dtype=np.float64)
        logs = np.log10(values, out=np.zeros_like(values), where=values > 0)
        return np.where(values > 0, logs, self.first - 1.0)

    def decorate(self, axes: Axes) -> None:
        """Draw ticks, labels that do not overlap, and the break between 0 s and the others."""
        places = self(pd.Series(self.times_s))
        limits = (places[0] - 0.4, places[-1] + 0.4)
        labelled = self._labelled(places, decades_per_in=(limits[1] - limits[0]) / self.width_in)
        ticks = [
            (place, time_label(time_s, self._names) if time_s in labelled else "")
            for place, time_s in zip(places, self.times_s, strict=True)
            if time_s in labelled or len(places) <= _MOST_TICKS
        ]
        axes.set_xticks(*zip(*ticks, strict=True), fontsize="small")
        if self.rotated:
            for label in axes.get_xticklabels():
                label.set(rotation=60, ha="right", rotation_mode="anchor")
        axes.set_xlim(*limits)
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

    def _labelled(self, places: np.ndarray, *, decades_per_in: float) -> set[float]:
        """Return the times whose labels do not overlap."""
        at = dict(zip(self.times_s, places, strict=True))
        kept: list[float] = []
        for time_s in sorted(at, key=lambda time_s: time_s not in _LABELS_FIRST):
            needed = (decades_per_in * self._apart_in(time_s, other) for other in kept)
            if all(
                abs(at[time_s] - at[other]) >= apart
                for other, apart in zip(kept, needed, strict=True)
            ):
                kept.append(time_s)
        return set(kept)

    def _apart_in(self, time_s: float, other_s: float) -> float:
        """Return the smallest distance of two labels in inches."""
        if self.rotated:
            return _ROTATED_IN
        characters = sum(len(time_label(each, self._names)) for each in (time_s, other_s))
        return _CHARACTER_IN * characters / 2 + _GAP_IN


def panels_per_row(width_in: float) -> int:
    """Return the number of panels next to each other in a figure of a width."""
    return max(1, round(width_in / PANEL_IN - 0.4))


def panel_grid(n_panels: int, *, height_in: float, width_in: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a grid of panels and room for a legend below them."""
    n_columns = min(panels_per_row(width_in), n_panels)
    n_rows = -(-n_panels // n_columns)
    size = (width_in, n_rows * height_in + LEGEND_HEIGHT_IN)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(n_rows, n_columns, sharey=True, squeeze=False).ravel()
    for unused in grid[n_panels:]:
        unused.remove()
    return figure, list(grid[:n_panels])


def with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the display names of models, tasks and hardware."""
    names = {"model": model_name, "task": task_name, "hardware": hardware_name}
    return table.assign(**{n: table[n].map(call) for n, call in names.items() if n in table})


def panel_title(key: Sequence[object], rows: pd.DataFrame) -> str:
    """Return the model, prefixed by task and hardware if the figure shows several."""
    parts = [name for name, column in zip(key, PANEL, strict=True) if rows[column].nunique() > 1]
    return ", ".join(map(str, parts)) or str(key[-1])


def panel_legend(figure: Figure, axes: Sequence[Axes], caption: str, n_columns: int) -> None:
    """Write one legend for all panels below them, with a caption.

    Args:
        figure: figure of the panels.
        axes: the panels.
        caption: meaning of bands, whiskers and lines.
        n_columns: number of columns in a figure of full width.
    """
    entries = {
        label: handle
        for panel in axes
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    legend_below(figure, list(entries.values()), list(entries), caption=caption, columns=n_columns)


def places_caption(rows: pd.DataFrame) -> str:
    """Return data sets and chips of the rows as the start of a caption."""
    pairs = unique_pairs(rows, "task", "hardware")
    return " and ".join(place_name(task, hardware) for task, hardware in pairs) + ". "


def sample_caption(rows: pd.DataFrame, mark: str, lows: Collection[str] = ()) -> str:
    """Return the meaning of a mark, with the numbers of patients and chips.

    Args:
        rows: rows of a table with ``n_patients``, ``n_chips`` and ``level``.
        mark: mark with its punctuation, such as ``"Whiskers:"``.
        lows: columns of the lower limits, where all may be unknown; there are then no marks.
    """
    sizes = sample_sizes(rows, " and ")
    if lows and not rows[[*lows]].notna().to_numpy().any():
        return f"No intervals: {sizes} are too few"
    return f"{mark} {level_of(rows)} bootstrap interval over {sizes}"


def unique_pairs(rows: pd.DataFrame, first: str, second: str) -> list[tuple[str, str]]:
    """Return the pairs of names of two columns in the order of the rows."""
    pairs = rows[[first, second]].drop_duplicates().itertuples(index=False)
    return [(str(one), str(other)) for one, other in pairs]
