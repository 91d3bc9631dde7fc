"""Runs of ``analogmed.train``."""

from collections.abc import Iterator

from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.figures.training import training_curves
from analogmed.report.kinds.kind import Kind
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.run import Run
from analogmed.report.text import format_fixed
from analogmed.tables.table import records
from analogmed.tables.training_log import LOG, score_column


def _findings(run: Run) -> Iterator[str]:
    log = run.tables["log"]
    score = score_column(log.columns)
    validated = records(log.dropna(subset=score))
    if validated:
        choose = min if is_lower_better(score) else max
        best = choose(validated, key=lambda row: float(row[score]))
        label = label_of(score)
        score_text = format_fixed(best[score])
        yield f"Best validation {label} {score_text}, after epoch {best['epoch']:.0f}."


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    log = run.tables["log"]
    if log.empty:
        yield Section(f"{prefix}-training", "Training", "No epoch is done yet.")
        return
    alt = f"Loss and validation {label_of(score_column(log.columns))}"
    figure = page_figure(training_curves, log, f"{prefix}-log", alt)
    yield Section(f"{prefix}-training", "Training", figures=(figure,))


KIND = Kind(
    name="training",
    program="train",
    tables=(LOG,),
    known_table=LOG,
    known_column="loss",
    findings=_findings,
    sections=_sections,
)
