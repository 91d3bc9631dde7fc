from collections import Counter
from itertools import islice, pairwise

import pytest
from scipy.stats import chisquare

from analogmed.foundation.errors import ConfigError
from analogmed.models import Genotype, Level
from analogmed.search.space.space import Space
from analogmed.search.supernet.path_sampling import (
    RULES,
    ReducedSpace,
    extreme,
    paths,
    paths_of_step,
)

SPACE = Space(depths=(2, 3), widths=(4, 8), kernels=(3, 5))
CHOICES = ReducedSpace.of(SPACE)


def steps(rule, n=1, choices=CHOICES, seed=0):
    return paths(rule, choices, n=n, seed=seed)


@pytest.mark.parametrize("rule", RULES)
def test_a_step_follows_from_the_seed_and_its_number_alone(rule):
    first = list(islice(steps(rule, n=2), 6))
    assert [paths_of_step(rule, CHOICES, n=2, seed=0, step=step) for step in range(6)] == first
    assert list(islice(steps(rule, n=2, seed=1), 6)) != first
    assert all(genotype in SPACE for step in first for genotype in step)


def test_spos_draws_one_network_a_step_and_each_block_as_often():
    drawn = [one for (one,) in islice(steps("spos"), 1600)]
    counts = Counter(genotype.levels[1].block for genotype in drawn)
    assert set(counts) == set(SPACE.blocks)
    assert chisquare(list(counts.values())).pvalue > 0.001
    assert [len(step) for step in islice(steps("spos", n=10), 3)] == [10, 10, 10]


def test_fairnas_uses_each_operation_of_a_level_once_a_step():
    for networks in islice(steps("fairnas"), 50):
        assert len(networks) == len(SPACE.blocks)
        (depth,) = {genotype.depth for genotype in networks}
        for level in range(1, depth):
            used = Counter(genotype.levels[level].block for genotype in networks)
            assert used == Counter(SPACE.blocks)


def test_a_level_of_fewer_operations_deals_anew():
    """The first level has no identity: eight networks share seven blocks."""
    twice = Counter()
    for networks in islice(steps("fairnas"), 50):
        used = Counter(genotype.levels[0].block for genotype in networks)
        assert sorted(used.values()) == [1] * 6 + [2]
        twice[max(used, key=used.get)] += 1
    assert set(twice) == set(SPACE.blocks) - {"identity"}


def test_fairnas_deals_widths_and_kernels_evenly_too():
    space = Space(depths=(2,), blocks=("B", "C", "D", "E"), widths=(4, 8), kernels=(3, 5))
    for networks in islice(paths("fairnas", ReducedSpace.of(space), n=1, seed=0), 20):
        for level in (0, 1):
            kernels = Counter(genotype.levels[level].kernel for genotype in networks)
            assert kernels == {3: 2, 5: 2}
        assert Counter(genotype.levels[0].channels for genotype in networks) == {4: 2, 8: 2}


def test_sandwich_holds_the_largest_the_smallest_and_two_others():
    largest = Genotype((Level("G", 8, 5), Level("G", 16, 5), Level("G", 32, 5)))
    smallest = Genotype((Level("A", 4), Level("identity")))
    drawn = list(islice(steps("sandwich"), 20))
    assert all(len(networks) == 4 for networks in drawn)
    for first, second, *_ in drawn:
        assert [level.kernel for level in first.levels[:3]] == [5, 5, 5]
        assert [level.channels for level in first.levels[:3]] == [8, 16, 32]
        assert {level.block for level in first.levels[:3]} <= {"F", "G"}  # equally large
        assert second == smallest
    assert largest in SPACE
    assert len({genotype for _, _, *others in drawn for genotype in others}) > 30


def test_what_was_pruned_is_drawn_no_more():
    choices = CHOICES.without(0, "G").without(0, "F").without(1, "identity").without(1, "A")
    for rule in RULES:
        for networks in islice(paths(rule, choices, n=4, seed=0), 30):
            assert all(genotype in choices for genotype in networks)
            assert not {g.levels[0].block for g in networks} & {"F", "G"}
            assert not {g.levels[1].block for g in networks} & {"identity", "A"}
    assert extreme(choices) not in CHOICES.without(1, "B")
    assert Genotype((Level("F", 4, 3), Level("B", 4, 3))) not in choices


def test_the_last_operation_of_a_level_stays():
    choices = ReducedSpace(SPACE, (("B",), SPACE.blocks, SPACE.blocks))
    with pytest.raises(ConfigError, match="level 0: expected one or more of A, B"):
        choices.without(0, "B")


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'fairnas'"):
        next(steps("fairnass"))


def test_the_draws_of_steps_are_independent():
    """Of two blocks in turn, all pairs of neighbouring steps come up as often."""
    space = Space(depths=(1,), blocks=("B", "C"), widths=(4,), growths=(1,), kernels=(3,))
    drawn = islice(paths("spos", ReducedSpace.of(space), n=1, seed=3), 1001)
    names = [one.levels[0].block for (one,) in drawn]
    pairs = Counter(pairwise(names))
    assert chisquare(list(pairs.values())).pvalue > 0.001
