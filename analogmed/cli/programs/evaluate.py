"""Program of ``analogmed eval``: score of networks on chips over time since programming."""

from collections.abc import Iterator

from analogmed.cli.evaluation import EvalConfig
from analogmed.cli.study import run_study
from analogmed.evaluation import evaluate
from analogmed.evaluation.studies.robustness.study import Results
from analogmed.foundation.errors import AnalogmedError
from analogmed.report import render_evaluation, render_summary
from analogmed.report.tables.class_scores import render_class_scores


def run(settings: EvalConfig) -> None:
    """Evaluate, print the table and the folder; raise AnalogmedError if a unit of work failed."""

    def texts(results: Results) -> Iterator[str]:
        if settings.wide:
            yield render_summary(results.summary())
            if of_classes := render_class_scores(results.class_scores()):
                yield of_classes
        else:
            tables = results.summary(), results.curves(), results.class_scores()
            yield render_evaluation(*tables, costs=settings.costs)
            yield "All estimates: --wide true. Tiles and costs: --costs true."

    refuse_failures(run_study(lambda given: evaluate(given.experiment()), settings, texts))


def refuse_failures(results: Results) -> None:
    """Raise AnalogmedError if a unit of work failed."""
    if results.failures:
        raise AnalogmedError(
            f"{len(results.failures)} of {results.units} digital runs and chips failed, and are in "
            f"no mean; first {results.failures[0]}. The note column of "
            f"{results.experiment.folder}/results.csv contains all causes. Rerun the same command "
            "to compute only these again"
        )
