"""Runs of ``analogmed.sensitivity``."""

from collections.abc import Iterator

from analogmed.foundation.time_constants import time_label
from analogmed.report.figures.sensitivity import sensitivity_heat_map, source_bars
from analogmed.report.kinds.kind import Kind
from analogmed.report.page.sections import Section, wide_figure
from analogmed.report.run import Run
from analogmed.report.tables.sensitivity import sensitivity_table
from analogmed.report.text import format_fixed, in_interval, records
from analogmed.tables import sensitivity


def _findings(run: Run) -> Iterator[str]:
    ranking = run.tables["ranking"]
    last = ranking[ranking["time_s"] == ranking["time_s"].max()]
    kinds = {"only_analog": "layer that costs", "noise_alone": "noise source that costs"}
    for kind, what in kinds.items():
        rows = last[last["setting"] == kind].sort_values("rank")
        if not rows.empty:
            row = records(rows)[0]
            yield (
                f"The {what} the most, alone, at {time_label(row['time_s'])}: {row['subject']}, "
                f"{format_fixed(row['effect'])} Dice"
                f"{in_interval(row['effect_low'], row['effect_high'], row['level'])}."
            )


def sensitivity_sections(run: Run, prefix: str) -> Iterator[Section]:
    """Yield the section on layers and noise sources, if the run has ranked them."""
    if "ranking" not in run.tables:
        return
    ranking = run.tables["ranking"]
    draws = {
        ("only_analog", "only_digital"): (sensitivity_heat_map, "Dice that each layer costs"),
        ("noise_alone", "noise_all_but"): (source_bars, "Dice that each noise source costs"),
    }
    figures = [
        wide_figure(draw, ranking, f"{prefix}-{draw.__name__}", alt, paper=True)
        for settings, (draw, alt) in draws.items()
        if ranking["setting"].isin(settings).any()
    ]
    yield Section(
        f"{prefix}-sensitivity",
        "What each layer and noise source costs",
        figures=tuple(figures),
        folded=(sensitivity_table(ranking),),
    )


KIND = Kind(
    name="sensitivity",
    program="analogmed.sensitivity",
    tables=(sensitivity.RANKING,),
    known_table=sensitivity.RANKING,
    known_column="effect",
    findings=_findings,
    sections=sensitivity_sections,
)
