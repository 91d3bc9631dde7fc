"""`python -m analogmed.eval`: Dice of each network on a chip over time since programming."""

import sys
import time

from analogmed.cli.parse import parse
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import AnalogmedError

EXAMPLES = """examples:
  python -m analogmed.eval
      the shipped U-Net, U-Net++ and Swin-UNETR on the embedded brain phantom
  python -m analogmed.eval --hardware hermes --sweep.chips 10
      the same on another chip, with more programming draws
  python -m analogmed.eval --task lgg --task.root data/lgg --checkpoints unet.safetensors
      your network on real data
  python -m analogmed.eval --config runs/eval/experiment.yaml --out runs/again
      a run once more
  python -m analogmed.eval --sweep.chips 100 --sweep.width 0.1 --engine.workers 4
      in four processes, up to 100 chips, until the interval of Dice after a day is narrower than
      0.1; stopped and started again, it goes on
"""


def main(arguments: list[str]) -> None:
    """Evaluate, print the table and the folder; raise AnalogmedError if a unit of work failed."""
    experiment = parse(Experiment, arguments, prog="analogmed.eval", epilog=EXAMPLES)
    from analogmed.evaluation import evaluate  # takes seconds, which --help need not wait for
    from analogmed.report import render_summary

    start = time.monotonic()
    try:
        results = evaluate(experiment)
    except KeyboardInterrupt as stop:
        print(stop, file=sys.stderr)
        raise
    if reuse := results.reuse():
        print(reuse)
    print(render_summary(results.summary()))
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {experiment.folder}/")
    if results.failures:
        raise AnalogmedError(
            f"{len(results.failures)} of {results.units} digital runs and chips failed, and are in "
            f"no mean; first {results.failures[0]}. The note column of {experiment.folder}/"
            "results.csv contains all causes. Rerun the same command to compute only these again"
        )
