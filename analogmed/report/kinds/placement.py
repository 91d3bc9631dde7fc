"""Runs of ``analogmed.sensitivity placement``."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from analogmed.foundation.text import shortened
from analogmed.metrics.registry import label_of
from analogmed.report.figures.sensitivity import placement_curve
from analogmed.report.kinds.kind import Kind
from analogmed.report.kinds.sensitivity import sensitivity_sections
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.run import Run
from analogmed.report.tables.sensitivity import placement_table
from analogmed.report.text import format_fixed, in_interval
from analogmed.tables import sensitivity
from analogmed.tables.table import records


def _findings(run: Run) -> Iterator[str]:
    steps, label = run.tables["placements"], label_of(run.primary_metric)
    chosen = steps[steps["chosen"].astype(bool)]
    if chosen.empty:
        yield f"No evaluated placement keeps the drop of {label} within the accepted limit."
        return
    row = records(chosen)[0]
    layers = () if pd.isna(row["digital"]) else tuple(str(row["digital"]).split(";"))
    digital = f"{len(layers)} digital layer{'s' * (len(layers) > 1)} ({shortened(layers)})"
    yield (
        f"With {digital if layers else 'all layers analog'}, the drop of {label} is "
        f"{format_fixed(row['drop'])}"
        f"{in_interval(row['drop_low'], row['drop_high'], row['level'])}."
    )


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    steps, metric = run.tables["placements"], run.primary_metric
    figure = page_figure(
        partial(placement_curve, metric=metric),
        steps,
        f"{prefix}-curve",
        f"{label_of(metric)} drop against cost; the table has the numbers",
        paper=True,
    )
    table = placement_table(steps, metric)
    yield Section(f"{prefix}-placement", "Choice of the digital layers", "", (figure,), (table,))
    yield from sensitivity_sections(run, prefix)


KIND = Kind(
    name="placement",
    program="sensitivity placement",
    tables=(sensitivity.PLACEMENTS, sensitivity.RANKING),
    known_table=sensitivity.PLACEMENTS,
    known_column="drop",
    findings=_findings,
    sections=_sections,
)
