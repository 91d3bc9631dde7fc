import numpy as np
import pytest

from analogmed.foundation.errors import ConfigError
from analogmed.search.objectives import Constraint, Goal
from analogmed.search.space.space import Space
from analogmed.search.strategies.evolution import evolution
from analogmed.search.strategy import Context, Evaluated

SPACE = Space()


def context_of(goal=None, space=SPACE, budget=40):
    return Context(space, goal or Goal(), budget, 0, lambda _: {}, {})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def history_of(rng, scores, space=SPACE):
    return [
        Evaluated(number, space.random(rng), {"dice_1d": score})
        for number, score in enumerate(scores)
    ]


def distance(one, other):
    """Number of genes in which two networks differ."""
    first, second = SPACE.encode(one), SPACE.encode(other)
    return sum(first[name] != second[name] for name in first)


def test_networks_are_random_until_there_is_a_population(rng):
    strategy = evolution(context_of(), population=5)
    proposed = strategy.propose(history_of(rng, [0.1] * 4), 4, np.random.default_rng(7))
    assert proposed == SPACE.random(np.random.default_rng(7))


def test_the_best_of_the_population_is_mutated_where_all_take_part(rng):
    strategy = evolution(context_of(), population=5, tournament=5, rates={"width": 1.0})
    history = history_of(rng, [0.1, 0.3, 0.9, 0.2, 0.4])
    for seed in range(10):
        mutant = strategy.propose(history, 5, np.random.default_rng(seed))
        assert distance(mutant, history[2].genotype) == 1


def test_the_oldest_dies_however_good_it_is(rng):
    strategy = evolution(context_of(), population=5, tournament=5, rates={"width": 1.0})
    history = history_of(rng, [0.99, 0.1, 0.3, 0.2, 0.4, 0.35])
    mutant = strategy.propose(history, 6, np.random.default_rng(0))
    assert distance(mutant, history[4].genotype) == 1


@pytest.mark.slow
def test_a_tournament_is_won_as_often_as_its_draws_say(rng):
    """Of 4, the best takes part in a tournament of 2 in half of them, the second wins 1/3."""
    strategy = evolution(context_of(), population=4, tournament=2, rates={"width": 1.0})
    history = history_of(rng, [0.4, 0.3, 0.2, 0.1])
    wins = np.zeros(4)
    for _ in range(600):
        mutant = strategy.propose(history, 4, rng)
        wins[np.argmin([distance(mutant, one.genotype) for one in history])] += 1
    assert wins / 600 == pytest.approx([1 / 2, 1 / 3, 1 / 6, 0], abs=0.08)


def test_a_network_that_keeps_the_constraints_beats_a_better_one_that_does_not(rng):
    goal = Goal(constraints=(Constraint.of("tiles <= 10"),))
    strategy = evolution(context_of(goal), population=3, tournament=3, rates={"width": 1.0})
    history = [
        Evaluated(number, SPACE.random(rng), {"dice_1d": dice, "tiles": tiles})
        for number, (dice, tiles) in enumerate([(0.9, 12), (0.5, 10), (0.8, 11)])
    ]
    mutant = strategy.propose(history, 3, np.random.default_rng(0))
    assert distance(mutant, history[1].genotype) == 1
    nearest = strategy.propose([history[0], history[2], history[0]], 3, np.random.default_rng(0))
    assert distance(nearest, history[2].genotype) == 1


def test_sizes_follow_from_the_budget():
    assert evolution(context_of(budget=60)).population == 12
    assert evolution(context_of(budget=60)).tournament == 3
    assert evolution(context_of(budget=1)).population == 4
    assert evolution(context_of(budget=10_000)).population == 100  # that of the paper
    assert evolution(context_of(budget=10_000)).tournament == 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"population": 0}, "population must be 1 or more, got 0"),
        ({"population": 4, "tournament": 5}, "tournament: expected 1 to the population, 4; found"),
        ({"rates": {"width": 1.5}}, "width"),
        ({"rates": {"colour": 0.5}}, "colour"),
    ],
)
def test_a_wrong_option_is_refused_before_the_search(options, message):
    with pytest.raises(ConfigError, match=message):
        evolution(context_of(), **options)
