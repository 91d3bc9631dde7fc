"""Runs of ``analogmed.eval``."""

from collections.abc import Iterator
from functools import partial

import pandas as pd

from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.figures.drop_over_time import has_drops
from analogmed.report.figures.over_time import drop_per_model, measured_drops, metric_over_time
from analogmed.report.kinds.evaluation_findings import findings_of_evaluation
from analogmed.report.kinds.kind import Kind
from analogmed.report.levels import best_digital, limit_text
from analogmed.report.names import capitalised, with_article
from analogmed.report.page.drops import drop_section, unclear_drop
from analogmed.report.page.sections import Section, cases_section, page_figure
from analogmed.report.page.strips import strip_section
from analogmed.report.run import Run
from analogmed.report.tables.class_scores import MEANING, class_tables
from analogmed.report.tables.evaluation import run_notes
from analogmed.report.tables.evaluation_page import (
    comparison_tables,
    cost_tables_of,
    curves_table,
    drops_table,
    failure_table,
    rows_of,
    summary_table,
)
from analogmed.report.text import format_fixed
from analogmed.tables import robustness
from analogmed.tables.estimates import drop_word, metrics_of, of_metric


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    summary, tables = run.tables["summary"], run.tables
    metrics, notes = metrics_of(summary.columns), run_notes(summary)
    comparison = tables.get("comparison")
    if "curves" in tables:
        yield from _over_time(tables["curves"], tables.get("chip_losses"), prefix)
    yield from cases_section(run, prefix)
    if {"strip_images", "strip_signals"} <= tables.keys():
        yield from strip_section(tables["strip_images"], tables["strip_signals"], prefix)
    yield Section(
        f"{prefix}-comparison",
        "Comparison",
        tables=tuple(summary_table(summary, comparison, metric) for metric in metrics),
        folded=() if comparison is None else comparison_tables(comparison),
        listing=(("Notes on the runs", notes),) if notes else (),
    )
    if "class_scores" in tables and (of_classes := class_tables(tables["class_scores"])):
        yield Section(
            f"{prefix}-classes",
            "Classes",
            MEANING,
            tables=of_classes,
        )
    for metric in metrics:
        yield from _drops(summary, metric, prefix, "" if metric == metrics[0] else f"-{metric}")
    if "time_to_failure" in tables:
        yield from _failures(tables["time_to_failure"], summary, prefix)
    if costs := cost_tables_of(summary):
        yield Section(f"{prefix}-cost", "Cost", tables=costs)


def _over_time(curves: pd.DataFrame, chips: pd.DataFrame | None, prefix: str) -> Iterator[Section]:
    """Yield a section on each metric over time: its drop, or its values without a digital run."""
    first = curves["metric"].iloc[0]
    for name, rows in curves.groupby("metric", sort=False):
        metric, key = str(name), f"{prefix}-{name}"
        end = "" if name == first else f"-{name}"
        if has_drops(rows):
            of_chips = None if chips is None else rows_of(chips, metric)
            yield drop_section(rows, of_chips, f"{prefix}-time{end}", key)
            continue
        label = label_of(metric)
        alt = f"{label} of each network over the age of the chip; the table below has the numbers."
        yield Section(
            f"{prefix}-time{end}",
            f"{label} over time",
            "Lines: means over chips and patients. Bands: confidence intervals.",
            figures=(page_figure(metric_over_time, rows, key, alt),),
            folded=(curves_table(rows),),
        )


def _drops(summary: pd.DataFrame, metric: str, prefix: str, end: str) -> Iterator[Section]:
    """Yield the section on the drops of a metric, if they are known."""
    of_this = of_metric(summary, metric)
    drops = measured_drops(of_this)
    if not drops:
        return
    label, word = label_of(metric), drop_word(metric)
    unclear = unclear_drop(word, of_this[f"{drops[0].key}_low"])
    draw = partial(drop_per_model, metric=metric)
    alt = f"{label} {word} of each network right away, after a day and after a month."
    yield Section(
        f"{prefix}-drop{end}",
        f"{label} {word} of each network",
        f"{capitalised(word)} of {label} on the chip against the digitally trained network of the "
        f"model, run digitally: points to the right are worse. {unclear}".strip(),
        figures=(page_figure(draw, summary, f"{prefix}-drops{end}", alt),),
        folded=(drops_table(summary, metric),),
    )


def _failures(failures: pd.DataFrame, summary: pd.DataFrame, prefix: str) -> Iterator[Section]:
    """Yield a section on the time to failure for each metric."""
    primary = metrics_of(summary.columns)[0]
    metrics = failures["metric"].unique() if "metric" in failures else [primary]
    for metric in map(str, metrics):
        rows, label = rows_of(failures, metric), label_of(metric)
        best = best_digital(of_metric(summary, metric), metric)
        limit = float(rows["limit"].iloc[0])
        word, side = drop_word(metric), "below" if is_lower_better(metric) else "above"
        end = "" if metric == primary else f"-{metric}"
        yield Section(
            f"{prefix}-failure{end}",
            "Time to failure" + (f": {label}" if end else ""),
            f"The limit is {with_article(label)} of {limit_text(limit, best)}. A network meets it "
            f"at a time if its {label} stays {side} {format_fixed(limit, 2)} even with the largest "
            f"{word} in the confidence interval. Reprogram the chip no later than the last time "
            "that meets the limit: nothing was measured between it and the first time that fails.",
            tables=(failure_table(rows),),
        )


KIND = Kind(
    name="evaluation",
    program="eval",
    tables=(
        robustness.SUMMARY,
        robustness.CURVES,
        robustness.CLASS_SCORES,
        robustness.CHIP_LOSSES,
        robustness.COMPARISON,
        robustness.TIME_TO_FAILURE,
        robustness.STRIP_IMAGES,
        robustness.STRIP_SIGNALS,
    ),
    known_table=robustness.SUMMARY,
    known_column="noise_drop",
    findings=findings_of_evaluation,
    sections=_sections,
)
