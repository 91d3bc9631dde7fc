"""Program of ``analogmed eval``: Dice of networks on chips over time since programming."""

import time

from analogmed.evaluation import evaluate
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import AnalogmedError
from analogmed.report import render_summary


def run(experiment: Experiment) -> None:
    """Evaluate, print the table and the folder; raise AnalogmedError if a unit of work failed."""
    start = time.monotonic()
    results = evaluate(experiment)
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
