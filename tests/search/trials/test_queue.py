import math
import time
from datetime import timedelta

import optuna
import pytest
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from analogmed.foundation.errors import CoverageError
from analogmed.models import Genotype, Level
from analogmed.search.objectives import Constraint, Goal
from analogmed.search.space.space import Space
from analogmed.search.strategy import (
    METRICS_ATTRIBUTE,
    VIOLATIONS_ATTRIBUTE,
    Context,
    distributions,
    find_strategy,
)
from analogmed.search.trials import heartbeat
from analogmed.search.trials import queue as ledgers
from analogmed.search.trials.journal_lock import FileLock
from analogmed.search.trials.queue import ClaimedTrial, TrialQueue, TrialStatus

SPACE = Space(depths=(1,), blocks=("A", "B"), widths=(2, 4, 8), growths=(1,), kernels=(3,))
"""Six networks."""


class InTurn(BaseSampler):
    """Proposes networks of a list, one after the other."""

    def __init__(self, genotypes):
        self.genotypes = genotypes

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, name, distribution):
        genotype = self.genotypes[trial.number % len(self.genotypes)]
        return SPACE.encode(genotype)[name]


class Arithmetic:
    """Counts as many tiles as channels, and refuses what it is told to."""

    def __init__(self, refused=()):
        self.refused = refused

    def count(self, genotype):
        if genotype in self.refused:
            raise CoverageError("nothing to put on a tile")
        return {"tiles": float(genotype.levels[0].channels)}


def network(block, channels):
    return Genotype((Level(block, channels, 3),))


A2, A4, A8, B2, B4, B8 = (network(block, width) for block in "AB" for width in (2, 4, 8))


def dice(genotype):
    channels = genotype.levels[0].channels
    return {"dice_1d": channels / 10, "tiles": float(channels)}


@pytest.fixture
def open_ledger(tmp_path):
    """Makes ledgers on one study, as processes that share a folder do."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    opened = []
    studies = []

    def make(
        genotypes=(A2, A4, A8, B2),
        *,
        budget=3,
        proposals=20,
        bounds=(),
        refused=(),
        folder=tmp_path,
        elsewhere=False,
    ):
        goal = Goal(("dice_1d",), tuple(map(Constraint.of, bounds)))
        if not studies:
            studies.append(optuna.create_study(directions=goal.directions))
        studies[0].sampler = InTurn(genotypes)
        opened.append(
            TrialQueue(
                studies[0],
                SPACE,
                goal,
                Arithmetic(refused),
                budget=budget,
                proposals=proposals,
                folder=folder,
                elsewhere=elsewhere,
            )
        )
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


def evaluate_all(ledger):
    """Networks in the order in which they are handed out."""
    order = []
    while isinstance(claim := ledger.claim(), ClaimedTrial):
        order.append(claim.genotype)
        ledger.finish(claim, dice(claim.genotype), seconds=1.0)
    return order


def statuses(ledger):
    return [TrialStatus.of(trial) for trial in ledger.study.trials]


def test_as_many_networks_are_handed_out_as_the_budget_has(open_ledger):
    ledger = open_ledger((A2, A4, A8, B2))
    assert evaluate_all(ledger) == [A2, A4, A8]
    assert [trial.value for trial in ledger.study.trials] == [0.2, 0.4, 0.8]
    assert ledger.study.trials[0].user_attrs[METRICS_ATTRIBUTE] == {"dice_1d": 0.2, "tiles": 2.0}


def test_a_network_that_is_known_is_copied_and_costs_nothing(open_ledger):
    ledger = open_ledger((A2, A2, A4, A2, A8))
    assert evaluate_all(ledger) == [A2, A4, A8]
    assert statuses(ledger) == [
        TrialStatus.EVALUATED,
        TrialStatus.KNOWN,
        TrialStatus.EVALUATED,
        TrialStatus.KNOWN,
        TrialStatus.EVALUATED,
    ]
    copy = ledger.study.trials[3]
    assert (copy.state, copy.value, copy.user_attrs["copy_of"]) == (TrialState.COMPLETE, 0.2, 0)


def test_two_genes_that_make_one_network_are_one_network(open_ledger):
    ledger = open_ledger((network("A", 2), Genotype((Level("A", 2, 5), Level("zero")))))
    assert evaluate_all(ledger) == [A2]


def test_a_strategy_that_proposes_the_same_again_and_again_comes_to_an_end(open_ledger):
    ledger = open_ledger((A2,), budget=3, proposals=5)
    assert evaluate_all(ledger) == [A2]
    assert len(ledger.study.trials) == 15


def test_what_breaks_a_countable_constraint_is_not_evaluated(open_ledger):
    ledger = open_ledger((A8, A4, A2), budget=2, bounds=("tiles <= 4", "dice_1d >= 0.3"))
    assert evaluate_all(ledger) == [A4, A2]
    first, second, third = ledger.study.trials
    assert first.state is TrialState.PRUNED
    assert first.user_attrs[VIOLATIONS_ATTRIBUTE] == [1.0, 0.0]
    assert second.user_attrs[VIOLATIONS_ATTRIBUTE] == pytest.approx([0.0, -1 / 3])
    assert third.user_attrs[VIOLATIONS_ATTRIBUTE] == pytest.approx([-0.5, 1 / 3])


def test_failures_count_and_are_not_tried_again(open_ledger):
    ledger = open_ledger((A2, A2, A4), budget=2)
    ledger.fail(ledger.claim(), "NonFiniteError: the loss is nan", 2.0)
    assert evaluate_all(ledger) == [A4]
    assert statuses(ledger) == [TrialStatus.FAILED, TrialStatus.FAILED, TrialStatus.EVALUATED]
    assert ledger.study.trials[1].user_attrs["error"] == "NonFiniteError: the loss is nan"


def test_a_network_that_cannot_be_counted_has_failed_and_costs_nothing(open_ledger):
    ledger = open_ledger((A2, A4), budget=1, refused=(A2,))
    assert evaluate_all(ledger) == [A4]
    assert ledger.study.trials[0].user_attrs["error"] == "nothing to put on a tile"


def test_an_evaluation_that_lacks_an_objective_has_failed(open_ledger):
    ledger = open_ledger((A2,), budget=1)
    ledger.finish(ledger.claim(), {"tiles": 2.0}, seconds=1.0)
    assert ledger.study.trials[0].user_attrs["error"] == "its evaluation gave no dice_1d"


def test_two_processes_share_one_budget(open_ledger):
    first, second = open_ledger((A2, A4, A8, B2)), open_ledger((A2, A4, A8, B2))
    claims = [first.claim(), second.claim(), first.claim()]
    assert [claim.genotype for claim in claims] == [A2, A4, A8]
    assert (first.claim(), second.claim()) == (None, None)
    assert first.in_work() == 3


def test_what_another_process_has_in_work_is_not_evaluated_twice(open_ledger):
    first, second = open_ledger((A2, A2, A4)), open_ledger((A2, A2, A4))
    claim = first.claim()
    assert second.claim() == "later"
    assert second.claim().genotype == A4
    assert TrialStatus.of(first.study.trials[1]) is TrialStatus.LOST
    first.finish(claim, dice(A2), 1.0)
    assert first.study.trials[0].value == 0.2


def kill(ledger):
    """Let the lock of a process go, as the kernel does when the process is killed."""
    ledger._alive.release()


def test_the_network_of_a_killed_process_is_evaluated_under_the_same_number(open_ledger):
    first = open_ledger((A2, A4), budget=2)
    claim = first.claim()
    kill(first)
    second = open_ledger((A2, A4), budget=2)
    again = second.claim()
    assert (again.number, again.genotype) == (claim.number, claim.genotype) == (0, A2)
    assert statuses(second) == [TrialStatus.RUNNING]
    second.finish(again, dice(A2), 1.0)
    assert evaluate_all(second) == [A4]


def test_a_network_whose_processes_are_killed_three_times_has_failed_and_counts(open_ledger):
    for _ in range(3):
        ledger = open_ledger((A2, A4), budget=2)
        assert ledger.claim().genotype == A2
        kill(ledger)
    ledger = open_ledger((A2, A4), budget=2)
    assert evaluate_all(ledger) == [A4]
    assert statuses(ledger) == [TrialStatus.FAILED, TrialStatus.EVALUATED]
    assert "3 processes were killed" in ledger.study.trials[0].user_attrs["error"]


@pytest.mark.parametrize("genes", range(5))
@pytest.mark.parametrize("strategy", ["random", "tpe", "nsga2", "evolution"])
def test_a_process_that_is_killed_while_choosing_changes_no_network(
    open_ledger, tmp_path, strategy, genes
):
    """As many genes as ``genes`` are written when the process is killed in its sixth trial."""
    space = Space(depths=(1, 2), blocks=("A", "B"), widths=(2, 4, 8), growths=(1,), kernels=(3,))
    goal = Goal(("dice_1d",))

    def begin(study, budget):
        context = Context(space, goal, 12, 3, Arithmetic().count, {})
        study.sampler = find_strategy(strategy)(context)
        made = {"budget": budget, "proposals": 20, "folder": tmp_path / str(id(study))}
        return TrialQueue(study, space, goal, Arithmetic(), **made)

    whole, killed = (optuna.create_study(directions=goal.directions) for _ in range(2))
    expected = evaluate_all(begin(whole, 9))
    first = evaluate_all(begin(killed, 5))
    killed.ask(dict(list(distributions(space).items())[:genes]))
    assert [*first, *evaluate_all(begin(killed, 9))] == expected
    assert [trial.params for trial in killed.trials] == [trial.params for trial in whole.trials]


def test_what_a_living_process_has_in_work_stays_its(open_ledger):
    first, second = open_ledger((A2, A4), budget=1), open_ledger((A2, A4), budget=1)
    claim = first.claim()
    assert second.claim() is None
    first.finish(claim, dice(A2), 1.0)
    assert statuses(first) == [TrialStatus.EVALUATED]


def test_a_trial_without_a_process_is_taken_over(open_ledger):
    ledger = open_ledger((A2, A4), budget=1)
    ledger.study.ask()
    assert ledger.claim() == ClaimedTrial(0, A2)
    assert statuses(ledger) == [TrialStatus.RUNNING]


def test_a_process_with_another_folder_keeps_its_network_while_it_sends_heartbeats(
    open_ledger, tmp_path, monkeypatch
):
    first = open_ledger((A2, A4), budget=1, folder=tmp_path / "one", elsewhere=True)
    second = open_ledger((A2, A4), budget=1, folder=tmp_path / "other", elsewhere=True)
    claim = first.claim()
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 3 * 86_400)
    first._heartbeat._beat()
    assert second.claim() is None
    monkeypatch.setattr(time, "time", lambda: now_s + 5 * 86_400)
    assert second.claim() == claim
    assert statuses(second) == [TrialStatus.RUNNING]


def test_heartbeats_are_sent_while_a_network_is_evaluated(open_ledger, monkeypatch):
    monkeypatch.setattr(heartbeat, "PERIOD_S", 0.01)
    ledger = open_ledger((A2,), budget=1, elsewhere=True)
    claim = ledger.claim()
    first_s = ledger.study.trials[0].user_attrs[heartbeat.BEAT]
    for _ in range(1000):
        if ledger.study.trials[0].user_attrs[heartbeat.BEAT] > first_s:
            break
        time.sleep(0.01)
    else:
        pytest.fail("no heartbeat was sent")
    ledger.finish(claim, dice(A2), 1.0)
    assert statuses(ledger) == [TrialStatus.EVALUATED]


def test_a_result_of_a_process_that_was_taken_for_dead_is_kept(open_ledger, tmp_path, monkeypatch):
    first = open_ledger((A2, A4), budget=1, folder=tmp_path / "one", elsewhere=True)
    second = open_ledger((A2, A4), budget=1, folder=tmp_path / "other", elsewhere=True)
    claim = first.claim()
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 10 * 86_400)  # a jump of the clock
    again = second.claim()
    assert again == claim
    first.finish(claim, dice(A2), 1.0)
    assert first.study.trials[0].value == 0.2
    second.finish(again, dice(A2), 2.0)
    assert statuses(second) == [TrialStatus.EVALUATED]
    assert second.study.trials[0].user_attrs["seconds"] == 1.0


def test_a_trial_that_another_machine_is_choosing_is_not_taken_for_dead(open_ledger, monkeypatch):
    ledger = open_ledger((A2, A4), budget=1, elsewhere=True)
    ledger.study.ask()
    assert ledger.claim() is None
    monkeypatch.setattr(ledgers, "_ASKING", timedelta(0))
    assert ledger.claim() == ClaimedTrial(0, A2)


def test_a_network_of_which_another_machine_has_chosen_a_part_is_no_obstacle(open_ledger):
    ledger = open_ledger((A2, A4), budget=2, elsewhere=True)
    trial = ledger.study.ask()
    first, distribution = next(iter(distributions(SPACE).items()))
    trial.suggest_categorical(first, distribution.choices)
    assert ledger.claim() == ClaimedTrial(1, A4)


def test_proposals_of_networks_in_evaluation_do_not_use_up_the_proposals(open_ledger, monkeypatch):
    first = open_ledger((A2, A2, A2, A2, A2, A2, A4), budget=2, proposals=2)
    second = open_ledger((A2, A2, A2, A2, A2, A2, A4), budget=2, proposals=2)
    claim = first.claim()
    now_s = math.ceil(time.monotonic())  # differences of whole numbers are exact
    asked = []
    for second_s in range(40):
        monkeypatch.setattr(time, "monotonic", lambda now=now_s + second_s: now)
        asked.append(second.claim())
        if isinstance(asked[-1], ClaimedTrial):
            break
    assert asked[-1] == ClaimedTrial(6, A4)
    assert len(asked) == 1 + 1 + 1 + 3 + 7 + 15  # waits of 0, 1, 3, 7 and 15 s
    first.finish(claim, dice(A2), 1.0)


def test_a_process_that_ends_gives_back_what_it_had_in_work(open_ledger):
    ledger = open_ledger((A2, A4))
    claim = ledger.claim()
    ledger.close()
    assert statuses(ledger) == [TrialStatus.LOST]
    assert (ledger.spent(), ledger.in_work()) == (0, 0)
    assert open_ledger((A2, A4)).claim() == claim


def test_what_comes_too_late_is_left_out(open_ledger):
    ledger = open_ledger((A2, A4))
    claim = ledger.claim()
    ledger.study.tell(claim.number, state=TrialState.FAIL)
    ledger.finish(claim, dice(A2), 1.0)
    assert statuses(ledger) == [TrialStatus.LOST]


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    with first.held():
        assert not second.acquire(wait=False)
    assert second.acquire(wait=False)
    second.release()
