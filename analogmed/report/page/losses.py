"""Section of a page on the loss over the age of the chip."""

from functools import partial

import pandas as pd

from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.figures.loss_over_time import loss_over_time
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.tables.evaluation_page import curves_table
from analogmed.report.tables.terminal import reference_of


def loss_section(
    curves: pd.DataFrame,
    chips: pd.DataFrame | None,
    key: str,
    prefix: str,
    *,
    lower_is_better: bool | None = None,
    reference: str = "",
) -> Section:
    """Return the section on the paired loss of a metric over time.

    Args:
        curves: ``curves.csv`` of one metric, with a loss in at least one row.
        chips: ``chip_losses.csv`` of the same metric; ``None`` if it is unknown.
        key: identifier of the section.
        prefix: prefix of the names in the SVG.
        lower_is_better: whether lower values are better; by default, as the metric declares.
        reference: network that losses refer to; by default, as the notes of the curves say.
    """
    metric = str(curves["metric"].iloc[0])
    label = label_of(metric)
    lower = is_lower_better(metric, lower_is_better)
    draw = partial(loss_over_time, chips=chips, lower_is_better=lower)
    reference = reference or reference_of(curves[curves["time_s"].notna()])
    word = "added" if lower else "lost"
    return Section(
        key,
        f"{label} {word} over time",
        f"{label} {word} on the chip against {reference}, paired by patient. "
        "Markers: means over chips and patients. "
        + ("" if chips is None else "Thin lines: single chips. ")
        + "Where an interval includes 0, the loss is not statistically distinguishable from 0.",
        figures=(
            page_figure(
                draw,
                curves,
                prefix,
                f"{label} {word} by each network over the age of the chip; the tables have the "
                "numbers.",
            ),
        ),
        folded=(curves_table(curves, losses=True), curves_table(curves)),
    )
