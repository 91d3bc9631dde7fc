import optuna
import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.search.objectives import Constraint, Goal
from analogmed.search.space.space import Space
from analogmed.search.strategies.samplers import nsga2, nsga3, random, tpe
from analogmed.search.strategy import (
    METRICS_ATTRIBUTE,
    VIOLATIONS_ATTRIBUTE,
    Context,
    distributions,
)

SPACE = Space(depths=(1, 2, 3), blocks=("identity", *"ABC"), widths=(4, 8), kernels=(3, 5))
GOALS = {
    random: Goal(),
    tpe: Goal(constraints=(Constraint.of("parameters <= 20"),)),
    nsga2: Goal(("dice_1d", "parameters"), (Constraint.of("parameters <= 20"),)),
    nsga3: Goal(("dice_1d", "parameters", "tiles")),
}


def made_up(genotype):
    """Metrics that have a known optimum: every gene adds to Dice, and costs."""
    levels = genotype.levels[: genotype.depth]
    size = sum(level.channels + level.kernel for level in levels)
    good = sum(level.block in "C" for level in levels) / len(levels)
    return {"dice_1d": good, "parameters": size, "tiles": len(levels)}


def context_of(goal, seed=0, budget=24):
    return Context(SPACE, goal, budget, seed, made_up, {})


def study_of(sampler, goal):
    return optuna.create_study(directions=goal.directions, sampler=sampler)


def tell(study, trial, goal):
    metrics = made_up(SPACE.decode(trial.params))
    trial.set_user_attr(METRICS_ATTRIBUTE, metrics)
    trial.set_user_attr(VIOLATIONS_ATTRIBUTE, goal.violations(metrics))
    study.tell(trial, goal.values(metrics))


def search(strategy, goal, n=24, seed=0, study=None):
    sampler = strategy(context_of(goal, seed))
    if study is None:
        study = study_of(sampler, goal)
    study.sampler = sampler
    for _ in range(n):
        tell(study, study.ask(distributions(SPACE)), goal)
    return study


def params(study):
    return [trial.params for trial in study.trials]


each_strategy = pytest.mark.parametrize(("strategy", "goal"), GOALS.items())


@each_strategy
def test_the_seed_says_what_is_proposed(strategy, goal):
    once, again, other = (search(strategy, goal, seed=seed) for seed in (3, 3, 4))
    assert params(once) == params(again)
    assert params(once) != params(other)


@each_strategy
def test_a_resumed_search_proposes_what_the_unbroken_one_would_have(strategy, goal):
    resumed = search(strategy, goal, n=13)
    search(strategy, goal, n=11, study=resumed)
    assert params(resumed) == params(search(strategy, goal))


@each_strategy
def test_processes_that_share_a_study_do_not_propose_the_same(strategy, goal):
    samplers = [strategy(context_of(goal)) for _ in range(4)]
    study = study_of(samplers[0], goal)
    trials = []
    for sampler in samplers:
        study.sampler = sampler
        trials.append(study.ask(distributions(SPACE)))
    assert len({str(trial.params) for trial in trials}) == 4
    for trial in reversed(trials):  # a trial may be told by another than has asked for it
        tell(study, trial, goal)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [tpe, nsga2])
def test_a_constraint_is_kept_by_more_of_the_later_proposals(strategy):
    goal = Goal(("dice_1d",), (Constraint.of("parameters <= 9"),))
    kept = []
    for seed in range(5):
        trials = search(strategy, goal, n=40, seed=seed).trials
        kept.append([max(trial.user_attrs[VIOLATIONS_ATTRIBUTE]) <= 0 for trial in trials])
    early, late = (sum(sum(run[part]) for run in kept) for part in (slice(10), slice(30, 40)))
    assert late > 1.5 * early


@pytest.mark.parametrize("strategy", [tpe, nsga2, nsga3])
def test_violations_that_an_older_version_kept_in_other_units_are_counted_anew(strategy):
    texts = ("parameters <= 12", "dice_1d >= 0.9")
    goal = Goal(("dice_1d", "parameters"), tuple(map(Constraint.of, texts)))
    study = search(strategy, goal, n=16)
    bounds = [constraint.bound for constraint in goal.constraints]
    for trial in study.get_trials(deepcopy=False):  # Optuna's own, of a study in memory
        shares = trial.constraints.values()
        in_units = [share * bound for share, bound in zip(shares, bounds, strict=True)]
        trial.system_attrs["constraints"] = in_units
    search(strategy, goal, study=study)
    assert params(study) == params(search(strategy, goal, n=40))


def test_a_trial_of_which_nothing_is_known_keeps_no_constraint():
    goal = GOALS[nsga2]
    study = study_of(nsga2(context_of(goal)), goal)
    study.tell(study.ask(distributions(SPACE)), (0.9, 1.0))
    assert study.trials[0].constraints == {"0": float("inf")}


@pytest.mark.parametrize(
    ("strategy", "options", "message"),
    [
        (nsga2, {"population": 1}, "population must be 2 or more, got 1"),
        (nsga2, {"mutation_prob": 2}, "nsga2.*mutation_prob"),
        (nsga3, {"no_such_option": 2}, "nsga3: unknown option 'no_such_option'; choose from"),
        (nsga2, {"mutation_probability": 0.1}, "did you mean 'mutation_prob'"),
        (nsga2, {"dividing_parameter": 3}, "nsga2: unknown option 'dividing_parameter'"),
        (tpe, {"candidates": 0}, "candidates must be 1 or more, got 0"),
    ],
)
def test_a_wrong_option_is_refused_before_the_search(strategy, options, message):
    with pytest.raises(ConfigError, match=message):
        strategy(context_of(Goal()), **options)
