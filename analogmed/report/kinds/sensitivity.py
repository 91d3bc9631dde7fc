"""Runs of ``analogmed.sensitivity``."""

from collections.abc import Iterator
from functools import partial

from analogmed.metrics.registry import label_of
from analogmed.report.figures.sensitivity import sensitivity_heat_map, source_bars
from analogmed.report.kinds.kind import Kind
from analogmed.report.names import capitalised
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.run import Run
from analogmed.report.tables.sensitivity import sensitivity_table
from analogmed.report.text import age, format_fixed, in_interval
from analogmed.tables import sensitivity
from analogmed.tables.table import records

_MOST_NARROW_TIMES = 3
"""Largest number of times whose columns of numbers fit on a phone."""


def _findings(run: Run) -> Iterator[str]:
    ranking, label = run.tables["ranking"], label_of(run.primary_metric)
    last = ranking[ranking["time_s"] == ranking["time_s"].max()]
    kinds = {
        "only_analog": f"the layer with the largest drop of {label} as the only analog one",
        "noise_alone": f"the noise source with the largest drop of {label} as the only one",
    }
    for kind, what in kinds.items():
        rows = last[last["setting"] == kind].sort_values("rank")
        if not rows.empty:
            row = records(rows)[0]
            low, high = row["effect_low"], row["effect_high"]
            open_end = ", not statistically distinguishable from 0" if low <= 0 <= high else ""
            yield (
                f"{capitalised(age(row['time_s']))}, {what} is {row['subject']}: "
                f"{format_fixed(row['effect'])}{in_interval(low, high, row['level'])}{open_end}."
            )


def sensitivity_sections(run: Run, prefix: str) -> Iterator[Section]:
    """Yield the section on layers and noise sources, if the run has ranked them."""
    if "ranking" not in run.tables:
        return
    ranking, metric = run.tables["ranking"], run.primary_metric
    label = label_of(metric)
    draws = {
        ("only_analog", "only_digital"): (
            sensitivity_heat_map,
            f"{label} drop or recovery by layer; the table has the numbers",
        ),
        ("noise_alone", "noise_all_but"): (
            source_bars,
            f"{label} drop or recovery by noise source; the table has the numbers",
        ),
    }
    few_times = ranking["time_s"].nunique() <= _MOST_NARROW_TIMES
    figures = [
        page_figure(
            partial(draw, metric=metric),
            ranking,
            f"{prefix}-{draw.__name__}",
            alt,
            paper=True,
            narrow=few_times,
        )
        for settings, (draw, alt) in draws.items()
        if ranking["setting"].isin(settings).any()
    ]
    yield Section(
        f"{prefix}-sensitivity",
        f"{label} drop by layer and noise source",
        figures=tuple(figures),
        folded=(sensitivity_table(ranking, metric),),
    )


KIND = Kind(
    name="sensitivity",
    program="sensitivity",
    tables=(sensitivity.RANKING,),
    known_table=sensitivity.RANKING,
    known_column="effect",
    findings=_findings,
    sections=sensitivity_sections,
)
