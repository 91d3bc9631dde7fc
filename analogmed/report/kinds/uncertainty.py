"""Runs of ``analogmed.uncertainty``."""

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from analogmed.foundation.time_constants import DAY_S
from analogmed.report.figures.uncertainty import (
    conformal_over_time,
    is_drawable,
    reliability_diagram,
    risk_coverage_curves,
    uncertainty_density,
)
from analogmed.report.kinds.kind import Kind
from analogmed.report.names import capitalised, model_name
from analogmed.report.page.sections import Section, cases_section, page_figure
from analogmed.report.run import Run
from analogmed.report.tables.conformal import conformal_table
from analogmed.report.tables.uncertainty import (
    class_table,
    has_band,
    split_table,
    time_to_look_at,
    trainings_table,
    uncertainty_table,
)
from analogmed.report.text import age, count_range, format_level, format_number
from analogmed.tables import uncertainty
from analogmed.tables.table import records

Row = dict[str, Any]

_COMPARED = {
    "mean_variance": "variance of the probability",
    "mean_entropy": "entropy",
    "ece": "calibration error",
    "brier": "Brier score",
}
"""Metrics of which the page states the comparison, with their names."""

_DENSITY = (
    "Share of the test set's voxels by their uncertainty, over many passes through the chips.",
    "Share of the test set's predictions by their uncertainty, over many passes through the chips.",
)
_RELIABILITY = (
    "Share of correct voxels against the confidence of the network; on the diagonal both agree.",
    "Share of correct predictions against the confidence of the network; on the diagonal both "
    "agree.",
)
_RISK = (
    "Error rate of the voxels that remain when the most uncertain ones are set aside.",
    "Error rate of the predictions that remain when the most uncertain ones are set aside.",
)
_CONFORMAL = (
    "Share of the structure that conformal masks miss, and how much they mark for it, over time.",
    "Share of the images with a class whose conformal label set misses it, and share of all images "
    "whose set contains it, over time.",
)
"""Texts below the figures: of masks, and of classified images."""


def _findings(run: Run) -> Iterator[str]:
    comparison = run.tables.get("comparison")
    if comparison is None or "metric" not in comparison:
        return
    banded = has_band(comparison)
    place = comparison["region"] == ("band" if banded else "image")
    rows = comparison[(comparison["source"] == "chips") & place]
    names = {metric: _COMPARED[metric] for metric in _COMPARED if banded != (metric == "brier")}
    where = ", in the band about the structure" if banded else ""
    for model, of_model in rows.groupby("model", sort=False):
        times_s = of_model["time_s"]
        at = of_model[times_s == (DAY_S if (times_s == DAY_S).any() else times_s.max())]
        by_metric = {row["metric"]: row for row in records(at)}
        for metric in filter(by_metric.__contains__, names):
            yield _compared(by_metric[metric], names[metric], model_name(str(model)), where)


def _compared(row: Row, name: str, network: str, where: str) -> str:
    """Return a sentence on one metric of a network with hardware-aware and digital training."""
    low, high = row["difference_low"], row["difference_high"]
    patients = count_range([row["n_patients"]], "patient")
    interval = ""
    if pd.notna(low):
        ends = f"{format_number(low, 4)} to {format_number(high, 4)}"
        interval = f"{format_level(row['level'])} interval of the difference {ends}; "
    hwa, digital = format_number(row["hwa"]), format_number(row["digital"])
    what = f"the {name} of the {network}"
    if pd.isna(low) or low <= 0 <= high:
        outcome = (
            f"{what} with hardware-aware and with digital training is not statistically "
            f"distinguishable: {hwa} and {digital}"
        )
    else:
        verb = "raises" if row["difference"] > 0 else "lowers"
        outcome = f"hardware-aware training {verb} {what}: {hwa} instead of {digital}"
    return f"{capitalised(age(float(row['time_s'])))}{where}, {outcome} ({interval}{patients})."


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    tables = run.tables
    if "comparison" in tables and (time_s := time_to_look_at(tables["comparison"])) is not None:
        yield Section(
            f"{prefix}-claim",
            "Uncertainty by training",
            tables=(trainings_table(tables["comparison"], time_s),),
            folded=(trainings_table(tables["comparison"]),),
        )
    yield from cases_section(run, prefix)
    banded = has_band(tables["summary"])
    scaled = uncertainty_table(tables["summary"], scaled=True)
    yield Section(
        f"{prefix}-sure",
        "Uncertainty and calibration",
        "Low uncertainty is useful only where the prediction is correct.",
        tables=(uncertainty_table(tables["summary"]),),
        folded=(scaled,) if scaled.rows else (),
    )
    if (classes := class_table(tables["summary"])).rows:
        yield Section(f"{prefix}-classes", "Classes", tables=(classes,))
    figures: dict[str, tuple[str, tuple[str, str], Callable[..., object]]] = {
        "density": ("Densities of the uncertainty", _DENSITY, uncertainty_density),
        "reliability": ("Reliability", _RELIABILITY, reliability_diagram),
        "risk_coverage": ("Risk and coverage", _RISK, risk_coverage_curves),
        "conformal_summary": ("Conformal risk control", _CONFORMAL, conformal_over_time),
    }
    for name, (title, texts, draw) in figures.items():
        text = texts[0 if banded else 1]
        if name not in tables or not is_drawable(tables[name]):
            continue
        figure = page_figure(draw, tables[name], f"{prefix}-{name}", f"{title}. {text}")
        shown = (conformal_table(tables[name]),) if name == "conformal_summary" else ()
        yield Section(f"{prefix}-{name}", title, text, figures=(figure,), folded=shown)
    if (split := split_table(tables["summary"])).rows:
        yield Section(f"{prefix}-split", "Components of the variance", tables=(split,))


KIND = Kind(
    name="uncertainty",
    program="uncertainty",
    tables=(
        uncertainty.SUMMARY,
        uncertainty.COMPARISON,
        uncertainty.DENSITY,
        uncertainty.RELIABILITY,
        uncertainty.RISK_COVERAGE,
        uncertainty.CONFORMAL_SUMMARY,
    ),
    known_table=uncertainty.SUMMARY,
    known_column="region",
    findings=_findings,
    sections=_sections,
)
