"""`python -m analogmed.uncertainty`: predictive uncertainty and calibration on chips."""

import time
from collections.abc import Callable
from pathlib import Path

from analogmed.cli.parse import parse
from analogmed.evaluation.studies.uncertainty.settings import MitigationConfig, UncertaintyConfig

EXAMPLES = """examples:
  python -m analogmed.uncertainty
      the shipped networks on the embedded brain phantom: 5 chips, 4 reads, t0, a day and a month
  python -m analogmed.uncertainty --checkpoints unet-digital.safetensors unet-hwa.safetensors \\
      --dropout 0.1 --conformal_cases leave_one_out
      two trainings of your network, and dropout put in for a digital Monte Carlo
  python -m analogmed.uncertainty --checkpoints a.safetensors b.safetensors c.safetensors
      networks of one model and training, as of several seeds, are an ensemble
  python -m analogmed.uncertainty mitigation
      what drift compensation, BatchNorm, input ranges and temperature gain on the chip

python -m analogmed.uncertainty mitigation --help lists the options of mitigations.
"""
MITIGATION_EXAMPLES = """examples:
  python -m analogmed.uncertainty mitigation --checkpoints unet.safetensors
      each way to correct a chip, alone and all together, right away, after a day and a month
  python -m analogmed.uncertainty mitigation --options batchnorm --images 128 --sweep.chips 10
      one of them, on more images and chips

docs/uncertainty.md tells how each is done, and what it costs.
"""


def main(arguments: list[str]) -> None:
    """Measure uncertainty; print the tables and the folder."""
    _timed(_measure, arguments)


def main_mitigation(arguments: list[str]) -> None:
    """Measure mitigations; print the table and the folder."""
    _timed(_mitigate, arguments)


def _timed(run: Callable[[list[str]], Path], arguments: list[str]) -> None:
    start = time.monotonic()
    folder = run(arguments)
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {folder}/")


def _measure(arguments: list[str]) -> Path:
    config = parse(UncertaintyConfig, arguments, prog="analogmed.uncertainty", epilog=EXAMPLES)
    from analogmed.evaluation.studies.uncertainty.study import measure_uncertainty  # takes seconds
    from analogmed.report.tables.uncertainty import (
        render_comparison,
        render_conformal,
        render_uncertainty,
    )

    found = measure_uncertainty(config)
    print(render_uncertainty(found.summary()))
    print(render_comparison(found.comparison()))
    print(render_conformal(found.conformal_summary()))
    return config.folder


def _mitigate(arguments: list[str]) -> Path:
    config = parse(
        MitigationConfig,
        arguments,
        prog="analogmed.uncertainty mitigation",
        epilog=MITIGATION_EXAMPLES,
    )
    from analogmed.evaluation.studies.mitigation.study import measure_mitigation
    from analogmed.report.tables.uncertainty import render_mitigation

    print(render_mitigation(measure_mitigation(config).summary()))
    return config.folder
