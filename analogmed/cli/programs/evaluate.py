"""Program of ``analogmed eval``: Dice of networks on chips over time since programming."""

import time

from analogmed.cli.evaluation import EvalConfig
from analogmed.evaluation import evaluate
from analogmed.evaluation.studies.robustness.study import Results
from analogmed.foundation.errors import AnalogmedError
from analogmed.report import render_evaluation, render_summary


def run(settings: EvalConfig) -> None:
    """Evaluate, print the table and the folder; raise AnalogmedError if a unit of work failed."""
    start = time.monotonic()
    results = evaluate(settings.experiment())
    if reuse := results.reuse():
        print(reuse)
    if settings.wide:
        print(render_summary(results.summary()))
    else:
        print(render_evaluation(results.summary(), results.curves(), costs=settings.costs))
        print("All estimates: --wide true. Tiles and costs: --costs true.")
    print(f"{time.monotonic() - start:.0f} s; tables and figures: {settings.folder}/")
    refuse_failures(results)


def refuse_failures(results: Results) -> None:
    """Raise AnalogmedError if a unit of work failed."""
    if results.failures:
        raise AnalogmedError(
            f"{len(results.failures)} of {results.units} digital runs and chips failed, and are in "
            f"no mean; first {results.failures[0]}. The note column of "
            f"{results.experiment.folder}/results.csv contains all causes. Rerun the same command "
            "to compute only these again"
        )
