"""Programs of ``analogmed uncertainty``: measurement of uncertainty, and of mitigations."""

import time

from analogmed.evaluation.studies.mitigation.study import measure_mitigation
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig, UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.study import measure_uncertainty
from analogmed.report.tables.uncertainty import (
    render_comparison,
    render_conformal,
    render_mitigation,
    render_uncertainty,
)


def run_measure(settings: UncertaintyConfig) -> None:
    """Measure uncertainty; print the tables and the folder."""
    start = time.monotonic()
    found = measure_uncertainty(settings)
    if found.reuse:
        print(found.reuse)
    print(render_uncertainty(found.summary()))
    print(render_comparison(found.comparison()))
    print(render_conformal(found.conformal_summary()))
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {settings.folder}/")


def run_mitigation(settings: MitigationConfig) -> None:
    """Measure mitigations; print the table and the folder."""
    start = time.monotonic()
    found = measure_mitigation(settings)
    if found.reuse:
        print(found.reuse)
    print(render_mitigation(found.summary()))
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {settings.folder}/")
