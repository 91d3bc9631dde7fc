"""Runs of ``analogmed.uncertainty mitigation``."""

from collections.abc import Iterator

import pandas as pd

from analogmed.metrics.registry import label_of
from analogmed.report.figures.mitigation import mitigation_gains, primary_of
from analogmed.report.kinds.kind import Kind
from analogmed.report.names import capitalised, network_name
from analogmed.report.page.sections import Section, page_figure
from analogmed.report.run import Run
from analogmed.report.tables.mitigation import mitigation_table
from analogmed.report.text import age, format_fixed, size_interval
from analogmed.tables import mitigation
from analogmed.tables.table import records

_WORDS = {
    "drift_compensation": "drift compensation than without",
    "batchnorm": "BatchNorm statistics of the chip than with drift compensation alone",
    "input_ranges": "input ranges of the chip than with drift compensation alone",
    "temperature": "a fitted temperature than with drift compensation alone",
    "all": "all mitigations together than with none",
}
"""Each mitigation and its reference, as they follow the word "with"."""


def _findings(run: Run) -> Iterator[str]:
    summary = run.tables["summary"]
    primary = primary_of(summary)
    gains = summary[(summary["metric"] == primary) & summary["gain"].notna()]
    last = gains[gains["time_s"] == gains["time_s"].max()]
    for row in records(last):
        network, option = network_name(row["model"], row["training"]), str(row["option"])
        gain, words = row["gain"], _WORDS.get(option, option)
        interval = size_interval(row["gain_low"], row["gain_high"], row["level"])
        if pd.notna(row["gain_low"]) and not row["gain_low"] <= 0 <= row["gain_high"]:
            effect = "higher" if gain > 0 else "lower"
            yield (
                f"{capitalised(age(row['time_s']))}, the {label_of(primary)} of the {network} is "
                f"{effect} by {format_fixed(abs(gain))}{interval} with {words}."
            )


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    summary = run.tables["summary"]
    figure = page_figure(
        mitigation_gains,
        summary,
        f"{prefix}-gains",
        f"{label_of(primary_of(summary))} and calibration by mitigation; the table has the numbers",
    )
    yield Section(
        f"{prefix}-mitigation",
        "Effect of each mitigation",
        figures=(figure,),
        tables=(mitigation_table(summary),),
    )


KIND = Kind(
    name="mitigation",
    program="uncertainty mitigation",
    tables=(mitigation.SUMMARY,),
    known_table=mitigation.SUMMARY,
    known_column="option",
    findings=_findings,
    sections=_sections,
)
