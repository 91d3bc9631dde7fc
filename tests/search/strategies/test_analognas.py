import math

import numpy as np
import optuna
import pytest

from analogmed.foundation.errors import ConfigError, CoverageError
from analogmed.foundation.seeds import derive_seed
from analogmed.search.objectives import Constraint, Goal
from analogmed.search.space.gene_table import GeneTable
from analogmed.search.space.space import Space
from analogmed.search.strategies.analognas import analognas
from analogmed.search.strategy import (
    ERROR_ATTRIBUTE,
    METRICS_ATTRIBUTE,
    Context,
    Evaluated,
    distributions,
    history_of,
    tried,
)

SPACE = Space(depths=(1, 2, 3), blocks=("identity", *"ABC"))
QUICK = {"population": 40, "iterations": 10}


def width_of(genotype):
    return genotype.levels[0].channels


def measured(genotype):
    """Wide networks of many C are good; wide ones vary over the month."""
    levels = genotype.levels[: genotype.depth]
    good = sum(level.block == "C" for level in levels) + 0.1 * math.log2(width_of(genotype))
    return {
        "dice_1d": good / 4,
        "dice_1d_std": 0.01 * len(levels),
        "avm_drop": 0.01 * width_of(genotype),
    }


def counted(genotype):
    return {"parameters": float(width_of(genotype)), "tiles": float(genotype.depth)}


def context_of(goal=None, *, seed=0, budget=24, count=counted, space=SPACE):
    return Context(space, goal or Goal(), budget, seed, count, {})


def study_of(strategy):
    return optuna.create_study(direction="maximize", sampler=strategy)


def search(strategy, n, study=None):
    study = study or study_of(strategy)
    study.sampler = strategy
    for _ in range(n):
        trial = study.ask(distributions(SPACE))
        metrics = measured(SPACE.decode(trial.params))
        trial.set_user_attr(METRICS_ATTRIBUTE, metrics)
        study.tell(trial, metrics["dice_1d"])
    return study


def proposal_generator(seed, number):
    """That of a trial, as every strategy gets it."""
    return np.random.default_rng(derive_seed(seed, "strategy", number))


def networks(study):
    return [SPACE.decode(trial.params) for trial in study.trials]


@pytest.fixture(scope="module")
def history():
    strategy = analognas(context_of(), initial=20, **QUICK)
    return history_of(search(strategy, 20), SPACE)


def proposals(history, goal=None, *, n=5, count=counted, **options):
    strategy = analognas(context_of(goal, count=count), initial=20, **(QUICK | options))
    return [strategy.propose(history, 20, np.random.default_rng(seed)) for seed in range(n)]


def test_the_first_data_set_is_a_latin_hypercube():
    context = context_of(seed=1)  # a draw without equal networks, which random ones would replace
    first = networks(search(analognas(context, initial=12, max_avm_drop=None, **QUICK), 12))
    assert sorted(network.depth for network in first) == [1] * 4 + [2] * 4 + [3] * 4
    assert sorted(map(width_of, first)) == [4] * 4 + [8] * 4 + [16] * 4
    assert all(network in SPACE for network in first)


def test_half_of_the_budget_is_the_first_data_set():
    assert analognas(context_of(budget=60)).initial == 30


def test_the_guessed_best_is_new_and_better_than_most(history):
    for found in proposals(history, max_avm_drop=None):
        assert measured(found)["dice_1d"] > np.median([one.metrics["dice_1d"] for one in history])
        assert found not in [one.genotype for one in history]


def test_what_varies_too_much_over_the_month_is_not_proposed(history):
    assert 16 in {width_of(found) for found in proposals(history, max_avm_drop=None)}
    assert max(width_of(found) for found in proposals(history, max_avm_drop=0.1)) == 8


def test_a_bound_of_the_goal_counts_rather_than_the_default(history):
    goal = Goal(constraints=(Constraint.of("avm_drop <= 0.05"),))
    assert {width_of(found) for found in proposals(history, goal)} == {4}


def test_what_can_be_counted_is_not_guessed(history):
    goal = Goal(constraints=(Constraint.of("tiles <= 1"), Constraint.of("parameters >= 8")))
    for found in proposals(history, goal):
        assert (found.depth, width_of(found)) == (1, 8)


def test_a_network_that_cannot_be_counted_breaks_all_bounds(history):
    def count(genotype):
        if genotype.depth > 2:
            raise CoverageError("nothing is on the chip")
        return counted(genotype)

    goal = Goal(constraints=(Constraint.of("tiles <= 5"),))
    assert max(found.depth for found in proposals(history, goal, count=count)) == 2


def test_the_score_over_its_deviation_favours_what_spreads_less(history):
    options = {"n": 3, "max_avm_drop": None}
    over_std = proposals(history, objective="score_over_std", **options)
    assert {found.depth for found in over_std} == {1}  # three times the Dice at three times the std
    assert {found.depth for found in proposals(history, **options)} == {3}


def test_a_surrogate_that_ranks_well_is_kept_and_another_fitted_anew(history):
    strategy = analognas(context_of(), initial=20, check_every=4, **QUICK)
    first = strategy.surrogate(history)
    extra = history[:8]
    table = GeneTable(SPACE)
    ranks = first.rank(table.features(table.rows(one.genotype for one in extra)))
    told = [
        Evaluated(20 + number, one.genotype, one.metrics | {"dice_1d": rank})
        for number, (one, rank) in enumerate(zip(extra, ranks, strict=True))
    ]
    assert strategy.surrogate([*history, *told]) is first  # tau is 1

    wrong = [
        Evaluated(one.number, one.genotype, one.metrics | {"dice_1d": -one.metrics["dice_1d"]})
        for one in told
    ]
    assert strategy.surrogate([*history, *wrong[:3]]) is first  # no check yet
    assert strategy.surrogate([*history, *wrong]) is not first


def test_equal_measurements_say_nothing_and_have_it_fitted_anew(history):
    strategy = analognas(context_of(), initial=20, check_every=4, **QUICK)
    same = [Evaluated(20 + n, history[n].genotype, history[0].metrics) for n in range(4)]
    assert strategy.surrogate([*history, *same]) is not strategy.surrogate(history)


@pytest.mark.slow
def test_the_seed_says_what_is_proposed_also_after_a_resume():
    options = QUICK | {"initial": 6, "check_every": 2}
    once = search(analognas(context_of(seed=1), **options), 11)
    resumed = search(analognas(context_of(seed=1), **options), 9)
    search(analognas(context_of(seed=1), **options), 2, resumed)
    other = search(analognas(context_of(seed=2), **options), 11)
    assert networks(once) == networks(resumed) != networks(other)


def test_no_network_is_proposed_twice_be_it_running_or_failed():
    study = search(analognas(context_of(), **QUICK), 13)
    failed = study.ask(distributions(SPACE))
    failed.set_user_attr(ERROR_ATTRIBUTE, "the training diverged")
    study.tell(failed, state=optuna.trial.TrialState.FAIL)
    for _ in range(4):
        study.ask(distributions(SPACE))
    assert len(set(networks(study))) == 18


def test_a_network_whose_process_was_ended_is_proposed_again():
    study = search(analognas(context_of(), **QUICK), 13)
    lost = study.ask(distributions(SPACE))
    study.tell(lost, state=optuna.trial.TrialState.FAIL)
    history = history_of(study, SPACE)
    strategy = analognas(context_of(), **QUICK)
    again = strategy.propose(history, lost.number, proposal_generator(0, lost.number))
    assert again == SPACE.decode(lost.params)
    assert again not in tried(study, SPACE)


def test_the_first_data_set_loses_no_network_to_an_ended_process():
    options = {"initial": 6, "max_avm_drop": None, **QUICK}
    undisturbed = networks(search(analognas(context_of(), **options), 6))
    strategy = analognas(context_of(), **options)
    study = search(strategy, 2)
    study.tell(study.ask(distributions(SPACE)), state=optuna.trial.TrialState.FAIL)
    search(strategy, 4, study)
    assert [one.genotype for one in history_of(study, SPACE)] == undisturbed


def test_networks_that_are_refused_do_not_thin_out_the_first_data_set():
    strategy = analognas(context_of(), initial=8, **QUICK)
    study = study_of(strategy)
    for _ in range(5):
        study.tell(study.ask(distributions(SPACE)), state=optuna.trial.TrialState.PRUNED)
    for _ in range(3):
        study.ask(distributions(SPACE))  # in work
    search(strategy, 4, study)
    assert not strategy._fitted  # 7 of 8
    search(strategy, 2, study)
    assert strategy._fitted


def test_a_bound_that_none_keeps_has_no_more_than_a_number_of_networks_counted(history):
    asked = []

    def count(genotype):
        asked.append(genotype)
        return counted(genotype)

    goal = Goal(constraints=(Constraint.of("tiles <= 0"),))
    options = {"n": 1, "count": count, "max_avm_drop": None, "population": 200, "iterations": 50}
    (found,) = proposals(history, goal, **options)
    assert found in SPACE
    assert len(asked) <= 1001


def test_a_space_that_is_evaluated_whole_does_not_end_the_search():
    space = Space(depths=(1,), blocks=("B",), widths=(4, 8), kernels=(3,))
    strategy = analognas(context_of(space=space), initial=2, **QUICK)
    seen = list(space.enumerate())
    history = [Evaluated(n, one, measured(one)) for n, one in enumerate(seen)]
    assert strategy.propose(history, 2, np.random.default_rng(0)) in seen
    assert strategy.propose(history, 1, np.random.default_rng(0)) in seen


def test_networks_are_random_while_nothing_has_been_evaluated(history):
    strategy = analognas(context_of(), initial=2, **QUICK)
    assert strategy.propose(history[:1], 5, np.random.default_rng(0)) in SPACE


def test_a_metric_that_is_not_measured_is_asked_for(history):
    lacking = [Evaluated(one.number, one.genotype, {"dice_1d": 0.5}) for one in history]
    with pytest.raises(ConfigError, match="none of the 20 evaluated networks has a 'avm_drop'"):
        proposals(lacking)
    assert proposals(lacking, n=1, max_avm_drop=None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial": 1}, "initial must be 2 or more, got 1"),
        ({"population": 1}, "population must be 2 or more, got 1"),
        ({"iterations": -1}, "iterations must be 0 or more, got -1"),
        ({"least_tau": 2}, "least_tau: expected a finite number at least -1 and at most 1, got 2"),
        (
            {"objective": "dice"},
            "objective: unknown value 'dice'; choose from: score, score_over_std",
        ),
        ({"max_avm": 1}, "analognas: unknown option 'max_avm'; did you mean 'max_avm_drop'"),
        ({"iterations": "many"}, "iterations: expected a whole number of 0 or more, got 'many'"),
    ],
)
def test_a_wrong_option_is_refused_before_the_search(options, message):
    with pytest.raises(ConfigError, match=message):
        analognas(context_of(), **options)


def test_a_deviation_belongs_to_the_one_day_dice():
    with pytest.raises(ConfigError, match=r"for instance dice_1d; found dice_t0"):
        analognas(context_of(Goal(("dice_t0",))), objective="score_over_std")
