"""Search loop: propose networks, evaluate them and record results until the budget is spent."""

import inspect
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from optuna.samplers import BaseSampler

from analogmed.data.case import Task
from analogmed.execution.compute import Outcome
from analogmed.execution.executors import Executor, make_executor
from analogmed.execution.run_folder import ENVIRONMENT, WRITTEN, RunFolder, describe_run
from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError
from analogmed.foundation.files import NewFiles, ensure_writable
from analogmed.foundation.progress import ProgressBar
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.forms import takes_keywords
from analogmed.models import Genotype
from analogmed.search.candidates import CandidateUnit, MakeCandidates
from analogmed.search.evaluator import Evaluator
from analogmed.search.results import (
    FIGURES,
    candidates_of,
    front_of,
    nearest_of,
    trial_folder,
    write_results,
)
from analogmed.search.selection import SELECTION, patients_of, selection_split, write_selection
from analogmed.search.settings import SearchConfig
from analogmed.search.space.fit import check_space_fits
from analogmed.search.strategy import Context, find_strategy
from analogmed.search.supernet.operations import FIGURE, importance_of, report_importance
from analogmed.search.supernet.weights import refuse_leakage
from analogmed.search.trials.journal_lock import FileLock
from analogmed.search.trials.queue import ClaimedTrial, TrialQueue, TrialStatus
from analogmed.search.trials.study import (
    FILES,
    has_begun,
    is_without_patients,
    open_study,
    refuse_other_patients,
    refuse_other_supernets,
)
from analogmed.search.winner import train_winner
from analogmed.tables.search import CANDIDATES, FRONT, IMPORTANCE
from analogmed.tables.table import Table, records

LOGGER = "analogmed.search"
"""Name of the logger that reports each network, at level INFO."""
_PATIENCE_S = 2.0
_SETTINGS = "search.yaml"
_START = ".start.lock"


@dataclass(frozen=True)
class SearchResult:
    """Result of a search.

    Attributes:
        config: settings of the search.
        candidates: table of all proposed networks.
        in_work: number of networks that other processes are still evaluating; the process that
            finishes last trains the winner.
        winner: run folder of the network that is best by the first objective; ``None`` while
            other processes are still evaluating.
    """

    config: SearchConfig
    candidates: pd.DataFrame
    in_work: int = 0
    winner: Path | None = None

    @property
    def front(self) -> pd.DataFrame:
        """Pareto front, the winner first."""
        return front_of(self.candidates, self.config.goal)

    @property
    def best(self) -> tuple[int, Genotype]:
        """Trial and genotype of the network that is best by the first objective."""
        row = records(self.front.head(1))[0]
        return int(row["number"]), Genotype.of(str(row["genotype"]))


class NothingFeasibleError(AnalogmedError):
    """Error if no network meets the constraints; its message lists the nearest networks."""


@takes_keywords
def search(config: SearchConfig) -> SearchResult:
    """Search for networks, and train the best one.

    Calling it again with the same settings resumes a stopped search, or shares the work of a search
    that is running elsewhere on the same run folder or database.

    Args:
        config: settings of the search. Its fields can be given as keywords instead.

    Returns:
        the result, as it is written into the run folder.

    Raises:
        ConfigError: settings that do not fit each other, the task, or the existing study.
        DataError: a case cannot be read, or the patients differ from those that the study began
            with.
        LeakageError: a supernetwork has been trained on patients that the task keeps for testing.
        NothingFeasibleError: no network meets the constraints.
        AnalogmedError: every network failed.
        KeyboardInterrupt: the search was interrupted; the message states how to resume it.
    """
    folder = config.folder
    ledger, make, task = begin(config, folder)
    _logger.info("%d of %d networks are known", ledger.spent(), config.budget)
    try:
        with (
            _goes_on(folder),
            closing(ledger),
            closing(make_executor(config.engine, make)) as executor,
        ):
            evaluate_all(ledger, executor, folder, remote=config.engine.name == "ray")
    finally:
        in_work = ledger.in_work()  # before the table, to miss no result
        candidates = candidates_of(
            ledger.study, config.space, config.goal, primary=task.primary_metric
        )
        with _one_at_a_time(folder) as run:
            run.files.record(*run.names)
            write_results(folder, candidates, config.goal)
            _draw_importance(config)
    if in_work:
        return SearchResult(config, candidates, in_work)
    _raise_if_no_winner(config, candidates)
    number, genotype = SearchResult(config, candidates).best
    _logger.info(
        "the best by %s is trial %d, %s; it is trained for %d epochs digitally and for the chip",
        config.objectives[0],
        number,
        genotype,
        config.final_epochs,
    )
    with _goes_on(folder):
        return SearchResult(config, candidates, winner=train_winner(config, number, genotype))


def begin(config: SearchConfig, folder: Path) -> tuple[TrialQueue, MakeCandidates, Task]:
    """Open the study of a search, check its settings and data, and take part in it.

    Processes that share a folder run this function one after the other.

    Args:
        config: settings of the search.
        folder: run folder of the search.

    Returns:
        the queue of trials, a factory for the object that evaluates networks in each process, and
        the data with their own split.

    Raises:
        AnalogmedError: as :func:`search`, before anything is evaluated.
    """
    with _one_at_a_time(folder) as run:
        run.begin()
        study = open_study(config)
        is_new = is_without_patients(study)
        task = config.task.load()
        _check_objectives(config, task)
        parts = selection_split(task, seed=config.seed)
        refuse_other_patients(study, {**parts, "final_test": patients_of(task.test)})
        inner = write_selection(config.task, folder, parts, replaces=not has_begun(config))
        make = MakeCandidates(config, inner)
        evaluator = make.evaluator()
        check_space_fits(config.space, evaluator.task)
        if config.supernets:
            refuse_leakage(config.supernets.values(), task)
            refuse_other_supernets(study, config.supernets)
        study.sampler = make_sampler(config, evaluator)
        if is_new:
            run.renew(config)
        else:
            describe_run(config, folder, _SETTINGS)
        ledger = TrialQueue(
            study,
            config.space,
            config.goal,
            evaluator,
            budget=config.budget,
            proposals=config.proposals,
            folder=folder,
            elsewhere=config.storage is not None,
        )
    return ledger, make, task


def _check_objectives(config: SearchConfig, task: Task) -> None:
    """Raise an error for metrics that are not defined for the task; names objectives that are."""
    try:
        task.kind.check_metrics(config.goal.estimated, setting="objectives")
    except ConfigError as error:
        raise ConfigError(
            f"{error}. For task {task.name}, objectives can be {task.primary_metric}_1d tiles."
        ) from error


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[RunFolder]:
    """Let one process write the files of a search; then release names of files not written.

    A process that raises an error before any has begun the search leaves nothing that it created.
    """
    always: tuple[Table | str, ...] = (SELECTION, CANDIDATES, FRONT)
    optional: tuple[Table | str, ...] = (*FIGURES, IMPORTANCE, FIGURE)
    run = RunFolder(folder, always, optional, settings=_SETTINGS)
    new = NewFiles(folder)
    with FileLock(ensure_writable(folder) / _START).held():
        try:
            yield run
        except BaseException:
            new.remove(_START, *FILES, WRITTEN, ENVIRONMENT, SELECTION, _SETTINGS)
            raise
        finally:
            run.files.settle()


@contextmanager
def _goes_on(folder: Path) -> Iterator[None]:
    """Replace a keyboard interrupt by one whose message states how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped: evaluated networks are kept in {folder}; the same command resumes"
        ) from None


def make_sampler(config: SearchConfig, evaluator: Evaluator) -> BaseSampler:
    """Return the sampler of the search strategy.

    Raises:
        ConfigError: the strategy does not accept its options.
    """
    context = Context(
        space=config.space,
        goal=config.goal,
        budget=config.budget,
        seed=derive_seed(config.seed, "search"),
        count=evaluator.count,
        supernets=config.supernets,
    )
    strategy, options = find_strategy(config.strategy.name), config.strategy.options
    try:
        return strategy(context, **options)
    except TypeError as error:
        known = ", ".join(list(inspect.signature(strategy).parameters)[1:]) or "none"
        raise ConfigError(
            f"strategy {config.strategy.name}: {error}; its options: {known}"
        ) from error


def evaluate_all(
    ledger: TrialQueue, executor: Executor, folder: Path, *, remote: bool = False
) -> None:
    """Evaluate networks until the budget is spent.

    Args:
        ledger: queue that assigns networks.
        executor: executor that evaluates the networks.
        folder: run folder of the search.
        remote: whether networks are evaluated in processes with another working directory.
    """
    running = 0
    with _progress(ledger) as tell:
        while True:
            claim = ledger.claim() if running < executor.slots else "later"
            if isinstance(claim, ClaimedTrial):
                place = trial_folder(folder, claim.number, claim.genotype)
                executor.submit(CandidateUnit.of(claim, place.absolute() if remote else place))
                running += 1
            elif running:
                tell(_record_outcome(ledger, executor.next()))
                running -= 1
            elif claim is None:
                return
            else:
                time.sleep(_PATIENCE_S)


def _record_outcome(ledger: TrialQueue, outcome: Outcome) -> Outcome:
    for text in outcome.warnings:
        warnings.warn(text, stacklevel=3)
    if outcome.stop is not None:
        raise outcome.stop
    if outcome.failure:
        ledger.fail(outcome.unit.claim, outcome.failure, outcome.seconds)
    else:
        ledger.finish(outcome.unit.claim, outcome.value, outcome.seconds)
    return outcome


@contextmanager
def _progress(ledger: TrialQueue) -> Iterator[Callable[[Outcome], None]]:
    """Show the progress through the budget, and log one line per network."""
    first = ledger.goal.objectives[0]

    def tell(outcome: Outcome) -> None:
        done = ledger.spent() - ledger.in_work()
        value = (outcome.value or {}).get(first)
        found = outcome.failure or f"{first} {'unknown' if value is None else f'{value:.4g}'}"
        bar.describe(note=found[:_SHORT])
        bar.log(
            _logger,
            f"{done} of {ledger.budget}: trial {outcome.unit.claim.number}, "
            f"{outcome.unit.claim.genotype}, {found}, {outcome.seconds:.0f} s",
        )
        bar.update(done - bar.done)

    done = ledger.spent() - ledger.in_work()
    with ProgressBar(ledger.budget, unit="network", title="search", done=done) as bar:
        yield tell


_SHORT = 60
_logger = logging.getLogger(LOGGER)


def _draw_importance(config: SearchConfig) -> None:
    """Write the table and heat map of block importance for the supernetworks of the search."""
    if not config.supernets or (config.folder / FIGURE).exists():
        return
    try:
        report_importance(importance_of(tuple(config.supernets.values())), config.folder)
    except DataError as error:
        warnings.warn(f"no heat map of importance: {error}", stacklevel=2)


def _raise_if_no_winner(config: SearchConfig, candidates: pd.DataFrame) -> None:
    """Raise an error if there is no winner.

    Raises:
        NothingFeasibleError: no network meets the constraints.
        AnalogmedError: every network failed.
    """
    if candidates["on_front"].any():
        return
    tried = candidates[candidates["status"] != TrialStatus.LOST.value]
    failed = tried[tried["status"] == TrialStatus.FAILED.value]
    if len(failed) and len(failed) == len(tried):
        raise AnalogmedError(
            f"all {len(failed)} networks failed; the first (trial {failed['number'].iloc[0]}, "
            f"{failed['network'].iloc[0]}): {failed['error'].iloc[0]}"
        )
    nearest = nearest_of(candidates, config.goal)
    raise NothingFeasibleError(
        f"none of {candidates['key'].nunique()} networks keeps {' and '.join(config.constraints)}; "
        f"the nearest:\n{nearest.to_string(index=False)}\nwith a larger --budget or --proposals "
        "the same command resumes; for looser --constraints or another --space give another --out"
    )
