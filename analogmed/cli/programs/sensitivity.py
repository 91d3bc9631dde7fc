"""`python -m analogmed.sensitivity`: Dice drop caused by single layers and noise sources."""

import time
from collections.abc import Callable
from pathlib import Path

from analogmed.cli.parse import parse
from analogmed.evaluation.studies.sensitivity.settings import PlacementConfig, SensitivityConfig

EXAMPLES = """examples:
  python -m analogmed.sensitivity
      the shipped U-Net: each layer alone analog and alone digital, each noise source
  python -m analogmed.sensitivity --checkpoints unet.safetensors --parts layers \\
      --layers 'decoder*' head --sweep.times_s 0 2592000 --sweep.chips 10
      some layers of your network, right after programming and a month later
  python -m analogmed.sensitivity placement --loss 0.005 --hardware.tile_size 256 \\
      --digital_gmac_per_s 20 --digital_pj_per_mac 1.2
      which layers to leave digital for the least latency; needs to know the digital processor
  python -m analogmed.eval --checkpoints unet.safetensors \\
      --digital_layers runs/placement/placement.yaml
      the chosen placement, evaluated as any network

python -m analogmed.sensitivity placement --help lists the options of a placement.
"""
PLACEMENT_EXAMPLES = """examples:
  python -m analogmed.sensitivity placement --loss 0.01 --digital_gmac_per_s 20
      least latency at 0.01 Dice lost; a processor of 20e9 multiplications per second
  python -m analogmed.sensitivity placement --sensitivity runs/sensitivity \\
      --profile my-chip.yaml --objective energy --whole_curve true
      least energy, on layers measured before, and the whole Pareto curve

Layers go digital one after the other, those first that regain the most Dice for the least cost;
each step is run on the chips. docs/sensitivity.md tells how, and what the figures mean.
"""


def main(arguments: list[str]) -> None:
    """Measure the sensitivity of layers and noise sources; print the table and the folder."""
    _timed(_look, arguments)


def main_placement(arguments: list[str]) -> None:
    """Choose a digital-layer placement; print its steps and the folder."""
    _timed(_place, arguments)


def _timed(run: Callable[[list[str]], Path], arguments: list[str]) -> None:
    start = time.monotonic()
    folder = run(arguments)
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {folder}/")


def _look(arguments: list[str]) -> Path:
    config = parse(SensitivityConfig, arguments, prog="analogmed.sensitivity", epilog=EXAMPLES)
    from analogmed.evaluation import sensitivity  # takes seconds, which --help need not wait for
    from analogmed.report import render_sensitivity

    print(render_sensitivity(sensitivity(config).ranking()))
    return config.folder


def _place(arguments: list[str]) -> Path:
    config = parse(
        PlacementConfig,
        arguments,
        prog="analogmed.sensitivity placement",
        epilog=PLACEMENT_EXAMPLES,
    )
    from analogmed.evaluation import place_layers
    from analogmed.report import render_placement

    placed = place_layers(config)
    print(render_placement(placed.steps))
    print(placed.verdict())
    return config.folder
