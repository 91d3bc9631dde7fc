"""Section of a page on strips: signals with their images, and predictions over time."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analogmed.foundation.time_constants import DAY_S, time_label
from analogmed.report.figures.over_time import DROP_LOOKS
from analogmed.report.figures.style import (
    WIDTH_IN,
    is_narrow,
    legend_below,
    publication_style,
    save_figure,
)
from analogmed.report.names import (
    capitalised,
    case_name,
    event_name,
    hardware_name,
    is_synthetic,
    network_name,
)
from analogmed.report.page.case_view import View
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.text import count_range, format_fixed
from analogmed.tables.results import MODEL

_SIGNAL_IN, _NETWORK_IN, _LEGEND_IN = 1.5, 1.15, 0.8
_NARROW_LEGEND_IN = 1.5
_NARROW_IMAGES = 5
_FILLED = 0.7
"""Share of the distance between two images that the markers of one take."""
_MOST_LARGE = 4
"""Largest number of markers of one image with large markers."""
_DIGITAL, _ON_CHIP = "run digitally", "on chips"


def strip_section(images: pd.DataFrame, signals: pd.DataFrame, prefix: str) -> Iterator[Section]:
    """Yield the section of example signals.

    Args:
        images: ``strip_images.csv``, with one row or more.
        signals: ``strip_signals.csv``.
        prefix: prefix of the names in links.
    """
    on_chip = images[images["time_s"].notna()]
    if on_chip.empty:
        return
    event = event_name(str(images["task"].iloc[0]))
    figures = []
    for number, (case, rows) in enumerate(images.groupby("case", sort=False)):
        first = rows.iloc[0]
        name = case_name(str(first["task"]), str(case))
        title = f"{capitalised(str(first['place']))} case: {name}"
        alt = (
            f"{title}. Its signal, and for each network the probability of the reference of each "
            f"{event}; strip_images.csv has the numbers."
        )
        draw = partial(draw_strip, signals=signals[signals["case"] == case], title=title)
        figures.append(page_figure(draw, rows, f"{prefix}-strip{number}", alt))
    times_s = sorted(on_chip["time_s"].unique())
    times = ", ".join(map(time_label, times_s))
    chips = int(on_chip["n_chips"].max())
    hardware = hardware_name(str(on_chip["hardware"].iloc[0]))
    synthetic = is_synthetic(str(images["task"].iloc[0]))
    yield Section(
        f"{prefix}-strips",
        "Example signals",
        f"Above: a part of a signal, with the true class of each {event}. Below: the predicted "
        f"probability of this class, run digitally and on {hardware} chips at {times}, from left "
        f"to right. Markers: means over {count_range([chips], 'chip')}. Bars: the lowest and the "
        "highest chip. Move the slider to emphasise one time."
        + (" All signals are synthetic." if synthetic else ""),
        figures=tuple(figures),
        slider=strip_view(images),
    )


def strip_view(images: pd.DataFrame) -> View:
    """Return the data with which the page's script shows the strips of a run at one time.

    Args:
        images: ``strip_images.csv``, with rows on chips.

    Returns:
        plain lists, numbers and text: ``networks`` (names), ``stops`` (digital run, then the
        times), ``start`` with the initial ``stop``, ``event`` (name of what is classified) and
        ``cases``: of each figure in order, its ``place`` and ``values`` by network and stop, the
        mean probability of the references.
    """
    of_reference = images[_is_of_reference(images)]
    times_s = sorted(images["time_s"].dropna().unique())
    stops = [None, *times_s]
    models = of_reference[list(MODEL)].drop_duplicates()
    networks = [tuple(map(str, model)) for model in models.itertuples(index=False)]
    cases = []
    for case in images["case"].unique():
        rows = of_reference[of_reference["case"] == case]
        cases.append(
            {
                "place": str(images.loc[images["case"] == case, "place"].iloc[0]),
                "values": [
                    [_mean_probability(rows, network, time_s) for time_s in stops]
                    for network in networks
                ],
            }
        )
    return {
        "networks": [capitalised(network_name(*network)) for network in networks],
        "stops": [_DIGITAL, *map(time_label, times_s)],
        "start": {"stop": 1 + (times_s.index(DAY_S) if DAY_S in times_s else len(times_s) - 1)},
        "event": event_name(str(images["task"].iloc[0])),
        "cases": cases,
    }


def _mean_probability(rows: pd.DataFrame, network: tuple[str, ...], time_s: float | None) -> str:
    """Return the mean of a network at a time; empty without a reference."""
    at_time = rows["time_s"].isna() if time_s is None else rows["time_s"] == time_s
    chosen = rows[at_time & (rows[list(MODEL)] == list(network)).all(axis=1)]
    return "" if chosen.empty else format_fixed(float(chosen["probability"].mean()), 2)


def draw_strip(
    images: pd.DataFrame,
    path: Path | str,
    *,
    signals: pd.DataFrame,
    title: str = "",
    width_in: float = WIDTH_IN,
) -> Path:
    """Draw the strip of one case: the signal, and a panel per network.

    Args:
        images: rows of ``strip_images.csv`` of the case.
        path: ``.png`` or ``.svg`` file.
        signals: rows of ``strip_signals.csv`` of the case.
        title: title of the figure.
        width_in: width of the figure in inches; a narrow one shows the first few images.

    Returns:
        ``path``; identical tables yield identical bytes.

    Raises:
        ConfigError: the suffix is neither ``.png`` nor ``.svg``.
    """
    seconds = np.sort(images["second"].unique())
    narrow = is_narrow(width_in)
    if narrow and len(seconds) > _NARROW_IMAGES:
        end = float(seconds[_NARROW_IMAGES - 1 : _NARROW_IMAGES + 1].mean())
        images, signals = images[images["second"] < end], signals[signals["second"] < end]
        event = event_name(str(images["task"].iloc[0]))
        title = f"{title}\n(first {_NARROW_IMAGES} {event}s)"
    of_reference = images[_is_of_reference(images)]
    networks = list(of_reference.groupby(list(MODEL), sort=False))
    times_s = sorted(images["time_s"].dropna().unique())
    with publication_style():
        height_in = _SIGNAL_IN + _NETWORK_IN * len(networks)
        height_in += _NARROW_LEGEND_IN if narrow else _LEGEND_IN
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        first, *others = figure.subplots(
            1 + len(networks),
            1,
            sharex=True,
            squeeze=False,
            height_ratios=[_SIGNAL_IN, *[_NETWORK_IN] * len(networks)],
        ).ravel()
        _draw_signal(first, signals, images)
        first.set_title(title, parse_math=False)
        for panel, (axes, (network, rows)) in enumerate(zip(others, networks, strict=True)):
            _draw_network(axes, rows, times_s, panel)
            name = capitalised(network_name(*map(str, network)))
            axes.set_title(name, fontsize="small", loc="left", parse_math=False)
        others[-1].set_xlabel("seconds")
        legend_below(figure, *others[-1].get_legend_handles_labels())
        return save_figure(figure, path)


def _is_of_reference(images: pd.DataFrame) -> np.ndarray:
    """Return whether the class of a row is in the reference of its image."""
    pairs = zip(images["class"], images["reference"], strict=True)
    return np.array([str(name) in str(reference).split("+") for name, reference in pairs], bool)


def _draw_signal(axes: Axes, signals: pd.DataFrame, images: pd.DataFrame) -> None:
    axes.plot(signals["second"], signals["value"], color="0.15", linewidth=0.8)
    top = float(signals["value"].max())
    for second, reference in images.groupby("second")["reference"].first().items():
        axes.annotate(
            str(reference),
            (float(str(second)), top),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            color="0.15",
            parse_math=False,
        )
    axes.set_ylim(top=top + 0.2 * (top - float(signals["value"].min())))
    axes.set_ylabel(f"{signals['channel'].iloc[0]} (SD)", parse_math=False)


def _draw_network(axes: Axes, rows: pd.DataFrame, times_s: Sequence[float], panel: int) -> None:
    """Draw the probabilities of a network; the id of each mark has the stop that it belongs to."""
    seconds = np.sort(rows["second"].unique())
    apart = float(np.diff(seconds).min()) if len(seconds) > 1 else 1.0
    step = _FILLED * apart / (1 + len(times_s))
    stops = [(rows["time_s"].isna(), _DIGITAL, ("0.15", "x"))]
    for number, time_s in enumerate(times_s):
        label = "_nolegend_" if number else _ON_CHIP
        stops.append((rows["time_s"] == time_s, label, DROP_LOOKS[0]))
    for number, (chosen, label, (color, marker)) in enumerate(stops):
        part = rows[chosen]
        mean, low, high = (
            part[name].to_numpy(dtype=np.float64) for name in ("probability", "least", "largest")
        )
        drawn = axes.errorbar(
            part["second"] + (number - len(times_s) / 2) * step,
            mean,
            yerr=np.clip(np.array([mean - low, high - mean]), 0.0, None),
            color=color,
            linestyle="none",
            marker=marker,
            markersize=3.5 if len(stops) <= _MOST_LARGE else 2.8,
            elinewidth=1.0,
            label=label,
        )
        for index, artist in enumerate(drawn.get_children()):
            artist.set_gid(f"stop{number}-{panel}-{index}")
    axes.set_ylim(-0.05, 1.05)
    axes.set_ylabel("probability")
