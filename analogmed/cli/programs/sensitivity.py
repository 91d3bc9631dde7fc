"""Programs of ``analogmed sensitivity``: Dice drop of layers and noise sources, and placement."""

import time

from analogmed.evaluation import place_layers, sensitivity
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig, SensitivityConfig
from analogmed.report import render_placement, render_sensitivity


def run_layers(settings: SensitivityConfig) -> None:
    """Measure the sensitivity of layers and noise sources; print the table and the folder."""
    start = time.monotonic()
    found = sensitivity(settings)
    if found.reuse:
        print(found.reuse)
    print(render_sensitivity(found.ranking()))
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {settings.folder}/")


def run_placement(settings: PlacementConfig) -> None:
    """Choose a digital-layer placement; print its steps and the folder."""
    start = time.monotonic()
    placed = place_layers(settings)
    if placed.reuse:
        print(placed.reuse)
    print(render_placement(placed.steps))
    print(placed.verdict())
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {settings.folder}/")
