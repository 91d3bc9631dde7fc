"""A search that is killed at any write to its storage ends as an uninterrupted one does."""

import itertools

import optuna
import pytest

from analogmed.models import Genotype
from analogmed.search.objectives import Constraint, Goal
from analogmed.search.space.space import Space
from analogmed.search.strategy import Context, find_strategy
from analogmed.search.trials.queue import ClaimedTrial, TrialQueue

SPACE = Space(depths=(1, 2), blocks=("A", "B"), widths=(2, 4, 8), growths=(1,), kernels=(3,))
GOAL = Goal(("dice_1d",), (Constraint.of("tiles <= 6"),))
BUDGET = 7
WRITES = (
    "create_new_trial",
    "set_trial_param",
    "set_trial_state_values",
    "set_trial_user_attr",
    "set_trial_system_attr",
)
STRATEGIES = ("random", "tpe", "nsga2", "evolution")


class Killed(BaseException):
    """The process has ended."""


class Counts:
    """As many tiles as channels; networks of 8 channels break the constraint."""

    def count(self, genotype):
        return {"tiles": float(genotype.levels[0].channels)}


class Study:
    """A study in memory whose process is killed at one of its writes, before or after it.

    Args:
        strategy: name of the strategy.
        folder: of the locks.
        at: number of the write; ``None`` for a process that is not killed.
        after: whether the write is done.
    """

    def __init__(self, strategy, folder, at=None, after=False):
        self.strategy, self.folder, self.writes = strategy, folder, 0
        self.study = optuna.create_study(directions=GOAL.directions)
        storage = self.study._storage
        for name in WRITES:
            setattr(storage, name, self.counted(getattr(storage, name), at, after))

    def counted(self, write, at, after):
        def counting(*arguments, **options):
            number, self.writes = self.writes, self.writes + 1
            if number == at and not after:
                raise Killed
            done = write(*arguments, **options)
            if number == at:
                raise Killed
            return done

        return counting

    def run(self):
        """Evaluate networks until the budget is spent, in another process after a kill."""
        while True:
            context = Context(SPACE, GOAL, 12, 3, Counts().count, {})
            self.study.sampler = find_strategy(self.strategy)(context)
            ledger = TrialQueue(
                self.study,
                SPACE,
                GOAL,
                Counts(),
                budget=BUDGET,
                proposals=20,
                folder=self.folder,
            )
            try:
                while isinstance(claim := ledger.claim(), ClaimedTrial):
                    ledger.finish(claim, dice(claim.genotype), 1.0)
            except Killed:
                ledger._alive.release()  # as the kernel does
            else:
                ledger.close()
                return self


def dice(genotype: Genotype):
    channels = genotype.levels[0].channels
    return {"dice_1d": channels / 10 + genotype.depth / 100, "tiles": float(channels)}


def found(study):
    return [(trial.number, trial.params, trial.state, trial.values) for trial in study.study.trials]


def assert_same(strategy, folder, kills):
    whole = Study(strategy, folder / "whole").run()
    for at, after in kills(whole.writes):
        killed = Study(strategy, folder / f"{at}-{after}", at, after).run()
        assert found(killed) == found(whole), (at, after)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_kill_changes_no_network(strategy, tmp_path):
    assert_same(strategy, tmp_path, lambda n: [(at, at % 2 == 0) for at in range(0, n, n // 6)])


@pytest.mark.exhaustive
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_kill_changes_any_network(strategy, tmp_path):
    assert_same(strategy, tmp_path, lambda n: itertools.product(range(n), (False, True)))
