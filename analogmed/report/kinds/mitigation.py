"""Runs of ``analogmed.uncertainty mitigation``."""

from collections.abc import Iterator

import pandas as pd

from analogmed.foundation.time_constants import time_label
from analogmed.report.figures.mitigation import mitigation_gains
from analogmed.report.kinds.kind import Kind
from analogmed.report.names import network_name
from analogmed.report.page.sections import Section, wide_figure
from analogmed.report.run import Run
from analogmed.report.tables.mitigation import mitigation_table
from analogmed.report.text import format_fixed, records, size_interval
from analogmed.tables import mitigation


def _findings(run: Run) -> Iterator[str]:
    summary = run.tables["summary"]
    dice = summary[(summary["metric"] == "dice") & summary["gain"].notna()]
    last = dice[dice["time_s"] == dice["time_s"].max()]
    for row in records(last):
        name, option = network_name(row["model"], row["training"]), str(row["option"])
        age, gain = time_label(row["time_s"]), row["gain"]
        interval = size_interval(row["gain_low"], row["gain_high"], row["level"])
        if pd.notna(row["gain_low"]) and not row["gain_low"] <= 0 <= row["gain_high"]:
            verb = "gains" if gain > 0 else "costs"
            yield (
                f"At {age}, {option.replace('_', ' ')} {verb} the {name} "
                f"{format_fixed(abs(gain))} Dice{interval}."
            )


def _sections(run: Run, prefix: str) -> Iterator[Section]:
    summary = run.tables["summary"]
    figure = wide_figure(
        mitigation_gains, summary, f"{prefix}-gains", "Dice and calibration by option"
    )
    yield Section(
        f"{prefix}-mitigation",
        "Effect of each mitigation",
        figures=(figure,),
        tables=(mitigation_table(summary),),
    )


KIND = Kind(
    name="mitigation",
    program="analogmed.uncertainty mitigation",
    tables=(mitigation.SUMMARY,),
    known_table=mitigation.SUMMARY,
    known_column="option",
    findings=_findings,
    sections=_sections,
)
