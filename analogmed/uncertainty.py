"""`python -m analogmed.uncertainty`: how sure networks are on chips, and how right they are."""

import sys
import time
from pathlib import Path

import analogmed.program_start  # noqa: F401, before imports that may fail
from analogmed.cli import parse, run
from analogmed.evaluation.mitigation_run import measure_mitigation
from analogmed.evaluation.uncertainty_config import MitigationConfig, UncertaintyConfig
from analogmed.evaluation.uncertainty_run import measure_uncertainty
from analogmed.report.uncertainty_tables import (
    render_comparison,
    render_conformal,
    render_mitigation,
    render_uncertainty,
)

EXAMPLES = """examples:
  python -m analogmed.uncertainty
      the shipped networks on the embedded brain phantom: 5 chips, 4 reads, t0, a day and a month
  python -m analogmed.uncertainty --checkpoints unet-digital.safetensors unet-hwa.safetensors \\
      --dropout 0.1 --conformal_cases leave_one_out
      two trainings of your network, and dropout put in for a digital Monte Carlo
  python -m analogmed.uncertainty --checkpoints a.safetensors b.safetensors c.safetensors
      networks of one model and training, as of several seeds, are an ensemble
  python -m analogmed.uncertainty mitigation
      what drift compensation, BatchNorm, input ranges and temperature buy on the chip

python -m analogmed.uncertainty mitigation --help tells the options of mitigations.
"""
MITIGATION_EXAMPLES = """examples:
  python -m analogmed.uncertainty mitigation --checkpoints unet.safetensors
      each way to correct a chip, alone and all together, right away, after a day and a month
  python -m analogmed.uncertainty mitigation --options batchnorm --images 128 --sweep.chips 10
      one of them, on more images and chips

docs/uncertainty.md tells how each is done, and what it costs.
"""


def main(arguments: list[str]) -> None:
    """Measure uncertainty, or mitigations, and say where everything is."""
    start = time.monotonic()
    mitigating = arguments[:1] == ["mitigation"]
    folder = _mitigate(arguments[1:]) if mitigating else _measure(arguments)
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {folder}/")


def _measure(arguments: list[str]) -> Path:
    config = parse(UncertaintyConfig, arguments, prog="analogmed.uncertainty", epilog=EXAMPLES)
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
    print(render_mitigation(measure_mitigation(config).summary()))
    return config.folder


if __name__ == "__main__":
    sys.exit(run(main))
