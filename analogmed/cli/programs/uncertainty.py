"""Programs of ``analogmed uncertainty``: measurement of uncertainty, and of mitigations."""

from analogmed.cli.study import run_study
from analogmed.evaluation.studies.mitigation.study import measure_mitigation
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig, UncertaintyConfig
from analogmed.evaluation.studies.uncertainty.study import measure_uncertainty
from analogmed.report.tables.conformal import render_conformal
from analogmed.report.tables.mitigation import render_mitigation
from analogmed.report.tables.uncertainty import render_comparison, render_uncertainty


def run_measure(settings: UncertaintyConfig) -> None:
    """Measure uncertainty; print the tables and the folder."""
    run_study(
        measure_uncertainty,
        settings,
        lambda found: (
            render_uncertainty(found.summary()),
            render_comparison(found.comparison()),
            render_conformal(found.conformal_summary()),
        ),
    )


def run_mitigation(settings: MitigationConfig) -> None:
    """Measure mitigations; print the table and the folder."""
    run_study(measure_mitigation, settings, lambda found: (render_mitigation(found.summary()),))
