import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analogmed.foundation.errors import ConfigError
from analogmed.hardware.replication import replicate


def by_trying_all(times, tiles, budget):
    ranges = [range(1, budget // size + 1) for size in tiles]
    counts = (
        counts
        for counts in itertools.product(*ranges)
        if sum(c * size for c, size in zip(counts, tiles, strict=True)) <= budget
    )
    return min(max(t / c for t, c in zip(times, count, strict=True)) for count in counts)


@given(
    layers=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 3)), min_size=1, max_size=3),
    spare=st.integers(0, 8),
)
def test_no_other_replicas_within_the_budget_are_faster(layers, spare):
    times, tiles = zip(*layers, strict=True)
    budget = sum(tiles) + spare
    names = [str(i) for i in range(len(times))]
    found = replicate(
        dict(zip(names, map(float, times), strict=True)),
        dict(zip(names, tiles, strict=True)),
        dict.fromkeys(names, 1000),
        budget,
    )
    assert sum(found[n] * t for n, t in zip(names, tiles, strict=True)) <= budget
    interval = max(t / found[n] for n, t in zip(names, times, strict=True))
    assert interval == pytest.approx(by_trying_all(times, tiles, budget))


def test_replicas_are_no_more_than_products():
    assert replicate({"a": 1.0}, {"a": 1}, {"a": 3}, 100) == {"a": 3}


def test_a_budget_below_one_replica_each_is_refused():
    with pytest.raises(ConfigError, match="takes 5 tiles, which 4 cannot hold"):
        replicate({"a": 1.0, "b": 1.0}, {"a": 2, "b": 3}, {"a": 1, "b": 1}, 4)
