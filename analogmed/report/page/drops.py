"""Section of a page on the drop over the age of the chip."""

from collections.abc import Mapping
from functools import partial

import pandas as pd

from analogmed.foundation.time_constants import TIME_NAMES
from analogmed.metrics.registry import label_of
from analogmed.report.figures.drop_over_time import are_several, drop_over_time
from analogmed.report.names import capitalised
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.tables.evaluation_page import curves_table
from analogmed.report.tables.terminal import reference_of
from analogmed.tables.estimates import drop_word


def unclear_drop(word: str, low: pd.Series) -> str:
    """Return how a drop that may be 0 is recognised; empty without intervals.

    Args:
        word: word for the drop.
        low: lower limits of the intervals.
    """
    if low.isna().all():
        return ""
    return f"Where an interval includes 0, the {word} is not statistically distinguishable from 0."


def drop_section(
    curves: pd.DataFrame,
    chips: pd.DataFrame | None,
    key: str,
    prefix: str,
    *,
    lower_is_better: bool | None = None,
    reference: str = "",
    names: Mapping[float, str] = TIME_NAMES,
) -> Section:
    """Return the section on the paired drop of a metric over time.

    Args:
        curves: ``curves.csv`` of one metric, with a drop in at least one row.
        chips: ``chip_losses.csv`` of the same metric; ``None`` if it is unknown.
        key: identifier of the section.
        prefix: prefix of the names in the SVG.
        lower_is_better: whether lower values are better; by default, as the metric declares.
        reference: network that drops refer to; by default, as the notes of the curves say.
        names: names of some times.
    """
    metric = str(curves["metric"].iloc[0])
    label = label_of(metric)
    word = drop_word(metric, lower_is_better)
    draw = partial(drop_over_time, chips=chips, lower_is_better=lower_is_better, names=names)
    reference = reference or reference_of(curves[curves["time_s"].notna()])
    return Section(
        key,
        f"{label} {word} over time",
        f"{capitalised(word)} of {label} on the chip against {reference}, paired by patient. "
        "Markers: means over chips and patients. "
        + ("Thin lines: single chips. " if are_several(chips) else "")
        + unclear_drop(word, curves["drift_drop_low"]),
        figures=(
            page_figure(
                draw,
                curves,
                prefix,
                f"{label} {word} of each network over the age of the chip; the tables have the "
                "numbers.",
            ),
        ),
        folded=tuple(curves_table(curves, drops=drops, names=names) for drops in (True, False)),
    )
