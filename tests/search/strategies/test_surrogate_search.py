import numpy as np
import pytest

from analogmed.search.space.gene_table import GeneTable
from analogmed.search.space.space import Space
from analogmed.search.strategies.surrogate_search import (
    SurrogateCriteria,
    best,
    evolve,
    initial_population,
)

# no gene of these networks is without effect, so that rows are canonical as they are
TABLE = GeneTable(Space(depths=(2, 3), blocks=("B", "C", "D"), widths=(4, 8, 16, 32)))
RATES = TABLE.rates({"depth": 0.8, "width": 0.8, "other": 0.5})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def nothing(rows):
    return np.zeros(len(rows))


def total(rows):
    return rows.sum(axis=1).astype(float)


def judges(score=total, drop=nothing, violation=nothing, count=lambda row: 0.0):
    return SurrogateCriteria(score, drop, violation, count)


def drawn(n, rng):
    return np.unique(TABLE.canonical(rng.integers(0, TABLE.sizes, (n, len(RATES)))), axis=0)


def test_the_best_have_the_highest_scores(rng):
    rows = drawn(60, rng)
    assert total(best(rows, judges(), 10)).tolist() == sorted(total(rows))[: -10 - 1 : -1]


def test_a_violation_is_worse_than_any_score(rng):
    rows = drawn(60, rng)

    def width(rows):  # the third width breaks the bound by one, the fourth by two
        return np.maximum(rows[:, 1] - 1, 0).astype(float)

    found = best(rows, judges(violation=width), len(rows))
    violation = width(found)
    assert (np.diff(violation) >= 0).all()
    for level in (0, 1, 2):
        assert (np.diff(total(found[violation == level])) <= 0).all()


def test_what_is_counted_and_what_is_guessed_add_up(rng):
    rows = drawn(60, rng)
    guessed = judges(violation=lambda rows: rows[:, 1].astype(float), count=lambda row: 2 * row[2])
    found = best(rows, guessed, len(rows))
    assert (np.diff(found[:, 1] + 2 * found[:, 2]) >= 0).all()


def test_only_as_many_are_counted_as_are_needed(rng):
    rows = drawn(200, rng)
    asked = []

    def count(row):
        asked.append(row)
        return float(row[1] == 3)

    found = best(rows, judges(count=count), 5)
    assert (found[:, 1] < 3).all()
    assert len(asked) < 30


def test_the_top_half_never_loses_the_best_and_finds_better_ones():
    gains = []
    for seed in range(6):
        seen = []

        def watched(rows, seen=seen):
            seen.append(total(rows).max())
            return total(rows)

        options = {"population": 12, "rates": RATES, "taken": (), "iterations": 40}
        generator = np.random.default_rng(seed)
        winner = evolve(TABLE, judges(score=watched), generator=generator, **options)
        assert (np.diff(seen) >= 0).all()
        assert total(winner[None])[0] == max(seen)
        gains.append(seen[-1] - seen[0])
    assert np.mean(gains) >= 1


def test_a_known_optimum_is_found(rng):
    target = rng.integers(0, TABLE.sizes)

    def likeness(rows):
        return (TABLE.canonical(target[None]) == rows).mean(axis=1)

    found = evolve(
        TABLE,
        judges(score=likeness),
        population=200,
        iterations=200,
        rates=RATES,
        taken=(),
        generator=rng,
    )
    assert likeness(found[None])[0] >= 0.9


def test_what_is_taken_is_not_proposed():
    table = GeneTable(Space(depths=(1,), blocks=("B",), widths=(4, 8, 16), kernels=(3,)))
    rates = table.rates({"other": 0.5})
    taken = set()
    options = {"population": 10, "iterations": 3, "rates": rates}
    widths = []
    for seed in range(3):
        row = evolve(table, judges(), taken=taken, generator=np.random.default_rng(seed), **options)
        widths.append(table.genotype(row).levels[0].channels)
        taken.add(row.tobytes())
    assert widths == [16, 8, 4]
    assert (
        evolve(table, judges(), taken=taken, generator=np.random.default_rng(3), **options) is None
    )


def test_violators_of_the_first_population_are_replaced_inside_their_hypercube(rng):
    def drop(rows):  # of each half of the widths, one keeps the bound
        return np.where(np.isin(rows[:, 1], (1, 2)), 0.0, 0.1)

    before = initial_population(TABLE, judges(), 80, np.random.default_rng(5))
    after = initial_population(TABLE, judges(drop=drop), 80, np.random.default_rng(5))
    violators = drop(before) > 0
    assert 20 < violators.sum() < 60
    assert (drop(after) == 0).all()
    assert np.array_equal(after[~violators], before[~violators])
    deep = (before[:, 0] == 1) & (after[:, 0] == 1)
    halves = 2 * before // TABLE.sizes == 2 * after // TABLE.sizes
    assert halves[deep].all()
    assert (before[violators] != after[violators]).any(axis=0).sum() > 3  # not the width alone


def test_where_a_hypercube_holds_none_that_keeps_the_bound_the_nearest_stays(rng):
    def drop(rows):  # all of the upper half of the widths break it
        return np.maximum(rows[:, 1] - 1, 0) / 10

    before = initial_population(TABLE, judges(), 80, np.random.default_rng(5))
    after = initial_population(TABLE, judges(drop=drop), 80, np.random.default_rng(5))
    assert set(after[before[:, 1] >= 2, 1]) == {2}


def test_the_seed_says_what_is_found():
    options = {"population": 20, "iterations": 5, "rates": RATES, "taken": ()}

    def score(rows):
        return np.sin(rows @ np.arange(1, rows.shape[1] + 1) * 1.7)

    found = [
        evolve(TABLE, judges(score), generator=np.random.default_rng(seed), **options)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
