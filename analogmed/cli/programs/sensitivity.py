"""Programs of ``analogmed sensitivity``: loss by layer and noise source, and placement."""

from analogmed.cli.study import run_study
from analogmed.evaluation import place_layers, sensitivity
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig, SensitivityConfig
from analogmed.report import render_placement, render_sensitivity


def run_layers(settings: SensitivityConfig) -> None:
    """Measure the sensitivity of layers and noise sources; print the table and the folder."""
    run_study(
        sensitivity,
        settings,
        lambda found: (render_sensitivity(found.ranking(), metric=found.config.primary_metric),),
    )


def run_placement(settings: PlacementConfig) -> None:
    """Choose a digital-layer placement; print its steps and the folder."""
    run_study(
        place_layers,
        settings,
        lambda placed: (
            render_placement(placed.steps, metric=placed.config.primary_metric),
            placed.verdict(),
        ),
    )
