"""Sections of a page about one run; each exists if the run has the tables that it needs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from analogmed.metrics.properties import is_lower_better
from analogmed.metrics.registry import label_of
from analogmed.report.figures.mitigation import mitigation_gains
from analogmed.report.figures.over_time import drop_per_model, measured_losses, metric_over_time
from analogmed.report.figures.sensitivity import (
    placement_curve,
    sensitivity_heat_map,
    source_bars,
)
from analogmed.report.figures.style import WIDTH_IN
from analogmed.report.figures.training import training_curves
from analogmed.report.figures.uncertainty import (
    conformal_over_time,
    reliability_diagram,
    risk_coverage_curves,
    uncertainty_density,
)
from analogmed.report.levels import best_digital, limit_text
from analogmed.report.names import hardware_name, model_name, task_name, with_article
from analogmed.report.page.case_view import View, case_view, color_scale
from analogmed.report.page.svg import inline_svg
from analogmed.report.provenance import facts_of, files_of
from analogmed.report.runs import Run
from analogmed.report.tables.evaluation import run_notes
from analogmed.report.tables.page import PageTable
from analogmed.report.tables.run import (
    comparison_tables,
    cost_tables_of,
    curves_table,
    failure_table,
    losses_table,
    placement_table,
    rows_of,
    sensitivity_table,
    summary_table,
)
from analogmed.report.tables.uncertainty_run import (
    conformal_table,
    mitigation_table,
    split_table,
    time_to_look_at,
    trainings_table,
    uncertainty_table,
)
from analogmed.tables.estimates import metrics_of, of_metric

NARROW_IN = 3.8
_MOST_NARROW = 12
"""Largest number of models with narrow figures; each drawing of 50 models takes about 20 s."""


@dataclass(frozen=True)
class PageFigure:
    """A figure on a page.

    Attributes:
        alt: text alternative for screen readers.
        svg: SVG of page width.
        narrow: the same for a phone; empty if the wide figure is used there too.
        own_paper: whether the figure has filled cells and needs a light card, even on dark pages.
    """

    alt: str
    svg: str
    narrow: str = ""
    own_paper: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page about one run.

    Attributes:
        key: identifier of the part in links, unique on the page.
        title: heading.
        text: description in one or two sentences.
        figures, tables: figures and tables in order; tables that duplicate a figure are folded
            below it.
        folded: tables that are collapsed by default.
        view: example cases; empty if there are none.
        facts: names and values.
        listing: preformatted lines, by title.
    """

    key: str
    title: str
    text: str = ""
    figures: tuple[PageFigure, ...] = ()
    tables: tuple[PageTable, ...] = ()
    folded: tuple[PageTable, ...] = ()
    view: View | None = None
    facts: tuple[tuple[str, str], ...] = ()
    listing: tuple[tuple[str, str], ...] = ()


def parts_of(run: Run, prefix: str) -> list[Section]:
    """Return the parts of a run in reading order.

    Args:
        run: run of any kind.
        prefix: prefix of all names in links, unique for each run of a page.
    """
    makers: dict[str, Callable[[Run, str], Iterator[Section]]] = {
        "evaluation": _evaluation,
        "uncertainty": _uncertainty,
        "mitigation": _mitigation,
        "placement": _placement,
        "sensitivity": _sensitivity,
        "training": _training,
    }
    return [*makers[run.kind](run, prefix), *_made(run, prefix)]


def _evaluation(run: Run, prefix: str) -> Iterator[Section]:
    summary, tables = run.tables["summary"], run.tables
    metrics, notes = metrics_of(summary.columns), run_notes(summary)
    comparison = tables.get("comparison")
    yield Section(
        f"{prefix}-comparison",
        "Comparison",
        tables=tuple(summary_table(summary, comparison, metric) for metric in metrics),
        folded=() if comparison is None else comparison_tables(comparison),
        listing=(("Notes on the runs", notes),) if notes else (),
    )
    if "curves" in tables:
        first = tables["curves"]["metric"].iloc[0]
        for name, curves in tables["curves"].groupby("metric", sort=False):
            of_metric = "" if name == first else f"-{name}"
            place, label = f"{prefix}-{name}", label_of(str(name))
            alt = f"{label} of each network over the age of the chip; the table below has the"
            alt += " numbers."
            yield Section(
                f"{prefix}-time{of_metric}",
                f"{label} over time",
                "The closer a solid line is to its dashed baseline, the smaller the drop on the "
                "chip. Lines: means over chips and patients. Bands: confidence intervals. Dashed: "
                "the same network run digitally.",
                figures=(_wide_and_narrow(metric_over_time, curves, place, alt),),
                folded=(curves_table(curves),),
            )
    for metric in metrics:
        yield from _losses(summary, metric, prefix, "" if metric == metrics[0] else f"-{metric}")
    if "time_to_failure" in tables:
        yield from _failures(tables["time_to_failure"], summary, prefix)
    yield from _cases(run, prefix)
    if costs := cost_tables_of(summary):
        yield Section(f"{prefix}-cost", "Cost", tables=costs)


def _losses(summary: pd.DataFrame, metric: str, prefix: str, end: str) -> Iterator[Section]:
    """Yield the section on what networks lose of a metric, if the loss is known."""
    if not measured_losses(of_metric(summary, metric)):
        return
    label = label_of(metric)
    digital, chip = f"{label} of the digitally trained network, run digitally", "on the chip"
    text = f"{digital}, minus {label} {chip}: "
    if is_lower_better(metric):
        text = f"{label} {chip} minus {digital.replace(', run', ' run')}: "
    draw = partial(drop_per_model, metric=metric)
    word = "added" if is_lower_better(metric) else "lost"
    alt = f"{label} {word} by each network right away, after a day and after a month."
    yield Section(
        f"{prefix}-drop{end}",
        "What each model loses" + (f": {label}" if end else ""),
        f"{text}points to the right have lost. Where a line crosses 0, no loss can be told.",
        figures=(_wide_and_narrow(draw, summary, f"{prefix}-drops{end}", alt),),
        folded=(losses_table(summary, metric),),
    )


def _failures(failures: pd.DataFrame, summary: pd.DataFrame, prefix: str) -> Iterator[Section]:
    """Yield a section on the time to failure for each metric."""
    primary = metrics_of(summary.columns)[0]
    metrics = failures["metric"].unique() if "metric" in failures else [primary]
    for metric in map(str, metrics):
        rows, label = rows_of(failures, metric), label_of(metric)
        best = best_digital(of_metric(summary, metric), metric)
        limit = limit_text(float(rows["limit"].iloc[0]), best)
        side, least = ("plus", "at most") if is_lower_better(metric) else ("minus", "at least")
        end = "" if metric == primary else f"-{metric}"
        yield Section(
            f"{prefix}-failure{end}",
            "Time to failure" + (f": {label}" if end else ""),
            f"A network meets the limit while its digital {label}, {side} the upper confidence "
            f"limit of its paired drop on the chip, is {least} {with_article(label)} of {limit}. "
            "Between the last time that meets the limit and the first that does not, nothing is "
            "measured.",
            tables=(failure_table(rows),),
        )


def _uncertainty(run: Run, prefix: str) -> Iterator[Section]:
    tables = run.tables
    if "comparison" in tables and (time_s := time_to_look_at(tables["comparison"])) is not None:
        yield Section(
            f"{prefix}-claim",
            "Does training for the chip make it more certain?",
            tables=(trainings_table(tables["comparison"], time_s),),
            folded=(trainings_table(tables["comparison"]),),
        )
    yield from _cases(run, prefix)
    scaled = uncertainty_table(tables["summary"], scaled=True)
    yield Section(
        f"{prefix}-sure",
        "How sure, and how right",
        "Low uncertainty is worth something only where the network is right.",
        tables=(uncertainty_table(tables["summary"]),),
        folded=(scaled,) if scaled.rows else (),
    )
    figures: dict[str, tuple[str, str, Callable[[pd.DataFrame, Path], object]]] = {
        "density": ("Densities of the uncertainty", _DENSITY_TEXT, uncertainty_density),
        "reliability": ("Reliability", _RELIABILITY_TEXT, reliability_diagram),
        "risk_coverage": ("Risk and coverage", _RISK_TEXT, risk_coverage_curves),
        "conformal_summary": ("Masks with a promise", _CONFORMAL_TEXT, conformal_over_time),
    }
    for name, (title, text, draw) in figures.items():
        if name not in tables or not _drawable(tables[name]):
            continue
        figure = _wide(draw, tables[name], f"{prefix}-{name}", f"{title}. {text}")
        shown = (conformal_table(tables[name]),) if name == "conformal_summary" else ()
        yield Section(f"{prefix}-{name}", title, text, figures=(figure,), folded=shown)
    if (split := split_table(tables["summary"])).rows:
        yield Section(f"{prefix}-split", "Where the variance comes from", tables=(split,))


def _mitigation(run: Run, prefix: str) -> Iterator[Section]:
    summary = run.tables["summary"]
    figure = _wide(mitigation_gains, summary, f"{prefix}-gains", "Dice and calibration by option")
    yield Section(
        f"{prefix}-mitigation",
        "What each correction buys",
        figures=(figure,),
        tables=(mitigation_table(summary),),
    )


def _placement(run: Run, prefix: str) -> Iterator[Section]:
    steps = run.tables["placements"]
    figure = _wide(placement_curve, steps, f"{prefix}-curve", "Dice lost against cost", paper=True)
    table = placement_table(steps)
    yield Section(f"{prefix}-placement", "Which layers to leave digital", "", (figure,), (table,))
    yield from _sensitivity(run, prefix)


def _sensitivity(run: Run, prefix: str) -> Iterator[Section]:
    if "ranking" not in run.tables:
        return
    ranking = run.tables["ranking"]
    draws = {
        ("only_analog", "only_digital"): (sensitivity_heat_map, "Dice that each layer costs"),
        ("noise_alone", "noise_all_but"): (source_bars, "Dice that each noise source costs"),
    }
    figures = [
        _wide(draw, ranking, f"{prefix}-{draw.__name__}", alt, paper=True)
        for settings, (draw, alt) in draws.items()
        if ranking["setting"].isin(settings).any()
    ]
    yield Section(
        f"{prefix}-sensitivity",
        "What each layer and noise source costs",
        figures=tuple(figures),
        folded=(sensitivity_table(ranking),),
    )


def _training(run: Run, prefix: str) -> Iterator[Section]:
    log = run.tables["log"]
    if log.empty:
        yield Section(f"{prefix}-training", "Training", "No epoch is done yet.")
        return
    figure = _wide(training_curves, log, f"{prefix}-log", "Loss and validation Dice")
    yield Section(f"{prefix}-training", "Training", figures=(figure,))


def _cases(run: Run, prefix: str) -> Iterator[Section]:
    if run.examples:
        view = case_view(run.examples)
        text = (
            "Yellow: the reference. Blue, dashed: what the network marks. Move the slider to let "
            f"the chip age. Shown: {view['pred_of']}."
        )
        yield Section(
            f"{prefix}-cases", "Cases to look at", text, view=view | {"colors": color_scale()}
        )


def _made(run: Run, prefix: str) -> Iterator[Section]:
    """Yield the provenance of the run and the commands to reproduce it."""
    yield Section(f"{prefix}-made", "How it was made", facts=facts_of(run), listing=files_of(run))


def _wide_and_narrow(
    draw: Callable[..., object], table: pd.DataFrame, prefix: str, alt: str
) -> PageFigure:
    table = _with_names(table)
    wide = inline_svg(lambda path: draw(table, path, width_in=WIDTH_IN), prefix=prefix)
    if table["model"].nunique() > _MOST_NARROW:
        return PageFigure(alt, wide)
    narrow = inline_svg(lambda path: draw(table, path, width_in=NARROW_IN), prefix=f"{prefix}-n")
    return PageFigure(alt, wide, narrow)


def _wide(
    draw: Callable[[pd.DataFrame, Path], object],
    table: pd.DataFrame,
    prefix: str,
    alt: str,
    *,
    paper: bool = False,
) -> PageFigure:
    table = _with_names(table)
    svg = inline_svg(lambda path: draw(table, path), prefix=prefix, recolored=not paper)
    return PageFigure(alt, svg, own_paper=paper)


def _with_names(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with the display names of models, tasks and hardware."""
    names = {"model": model_name, "task": task_name, "hardware": hardware_name}
    return table.assign(**{n: table[n].map(call) for n, call in names.items() if n in table})


def _drawable(table: pd.DataFrame) -> bool:
    """Return whether a table has the on-chip or digital rows that figures show."""
    if "source" in table.columns:
        return bool(table["source"].isin(["chips", "deterministic"]).any())
    return bool(table["time_s"].notna().any())


_DENSITY_TEXT = (
    "Share of the test set's voxels by their uncertainty, over many passes through the chips."
)
_RELIABILITY_TEXT = (
    "Share of voxels that are right against how sure the network is; on the diagonal both agree."
)
_RISK_TEXT = "Error rate of the voxels that remain when the most uncertain ones are set aside."
_CONFORMAL_TEXT = (
    "Share of the structure that conformal masks miss, and how much they mark for it, over time."
)
