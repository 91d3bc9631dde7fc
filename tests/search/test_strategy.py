import numpy as np
import optuna
import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.search.objectives import Goal
from analogmed.search.space.space import Space
from analogmed.search.strategy import (
    ERROR_ATTRIBUTE,
    METRICS_ATTRIBUTE,
    VIOLATIONS_ATTRIBUTE,
    Context,
    GenotypeSampler,
    distributions,
    find_strategy,
    history_of,
    strategy_names,
    tried,
)

SPACE = Space(depths=(3,), blocks=tuple("ABCDE"))
BUDGET, SEEDS = 32, 20
WITHOUT_SUPERNET = {
    "random": {},
    "tpe": {},
    "nsga2": {},
    "nsga3": {},
    "evolution": {},
    "analognas": {"initial": 24, "check_every": 8, "population": 40, "iterations": 5},
}


def worths():
    """What each value of each gene is worth; the best of each is worth 1, the worst 0."""
    generator = np.random.default_rng(42)
    return {
        name: dict(
            zip(
                choices,
                np.linspace(0, 1, len(choices))[generator.permutation(len(choices))],
                strict=True,
            )
        )
        for name, choices in SPACE.genes.items()
        if len(choices) > 1
    }


WORTHS = worths()


def dice_of(genotype):
    """The mean worth of a network's genes."""
    genes = SPACE.encode(genotype)
    return float(np.mean([worth[genes[name]] for name, worth in WORTHS.items()]))


def context_of(seed, budget=BUDGET):
    return Context(SPACE, Goal(), budget, seed, lambda _: {"parameters": 1.0}, {})


def search(name, seed, n=BUDGET, **options):
    sampler = find_strategy(name)(context_of(seed), **options)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(n):
        trial = study.ask(distributions(SPACE))
        dice = dice_of(SPACE.decode(trial.params))
        metrics = {"dice_1d": dice, "avm_drop": 0.0, "dice_1d_std": 0.01}
        trial.set_user_attr(METRICS_ATTRIBUTE, metrics)
        trial.set_user_attr(VIOLATIONS_ATTRIBUTE, [])
        study.tell(trial, dice)
    return study


@pytest.fixture(scope="module")
def found():
    """Best Dice of each strategy and seed."""
    return {
        name: np.array([search(name, seed, **options).best_value for seed in range(SEEDS)])
        for name, options in WITHOUT_SUPERNET.items()
        if name != "nsga3"  # as nsga2, where there is one objective
    }


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["tpe", "nsga2", "evolution", "analognas"])
def test_a_strategy_finds_more_than_random_search_of_equal_budget(found, name):
    gain = found[name] - found["random"]
    assert gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(SEEDS)


@pytest.mark.parametrize("name", WITHOUT_SUPERNET)
def test_all_that_is_proposed_is_of_the_space_and_follows_from_the_seed(name):
    options = {"initial": 4, "iterations": 3} if name == "analognas" else {}
    once, again, other = (search(name, seed, n=7, **options) for seed in (5, 5, 6))
    networks = [one.genotype for one in history_of(once, SPACE)]
    assert len(networks) == 7
    assert all(network in SPACE for network in networks)
    assert networks == [one.genotype for one in history_of(again, SPACE)]
    assert networks != [one.genotype for one in history_of(other, SPACE)]


def test_the_history_is_what_has_been_evaluated_and_tried_is_more():
    study = search("random", 0, n=3)
    failed, _, ended = (study.ask(distributions(SPACE)) for _ in range(3))
    failed.set_user_attr(ERROR_ATTRIBUTE, "the training diverged")
    for trial in (failed, ended):
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    history = history_of(study, SPACE)
    assert [one.number for one in history] == [0, 1, 2]
    assert all(one.metrics["dice_1d"] == dice_of(one.genotype) for one in history)
    assert tried(study, SPACE) == [SPACE.decode(trial.params) for trial in study.trials[:5]]


def test_genes_that_another_program_adds_to_a_study_are_drawn_too():
    study = optuna.create_study(sampler=find_strategy("evolution")(context_of(0)))
    trial = study.ask(distributions(SPACE))
    assert trial.suggest_categorical("of another program", [3, 4]) in (3, 4)


def test_the_built_in_strategies_are_listed():
    assert {*WITHOUT_SUPERNET, "mias", "mt_mias", "mt_mias_c"} <= set(strategy_names())


def test_an_unknown_strategy_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown strategy 'nsga4'; did you mean 'nsga"):
        find_strategy("nsga4")


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("tpe", "start_up", "did you mean 'startup'"),
        ("evolution", "populaton", "did you mean 'population'"),
        ("analognas", "populaton", "did you mean 'population'"),
        ("nsga2", "populaton", "did you mean 'population'"),
        ("mt_mias_c", "detla", "did you mean 'delta'"),
        ("mias", "context_", "choose from: n, task"),
        ("random", "seed", "it has no options"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest(name, option, message):
    with pytest.raises(ConfigError, match=f"{name}: unknown option '{option}'; {message}"):
        find_strategy(name)(context_of(0), **{option: 3})


def test_the_former_name_of_the_sampler_of_genotypes_is_deprecated():
    with pytest.warns(DeprecationWarning, match="GenotypeSampler"):
        from analogmed.search.strategy import Proposing
    assert Proposing is GenotypeSampler
