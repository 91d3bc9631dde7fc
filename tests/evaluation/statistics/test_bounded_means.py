import doctest

import numpy as np
import pytest
from scipy import stats

from analogmed.evaluation.statistics import bounded_means
from analogmed.evaluation.statistics.bounded_means import limit_distances


def limits_of(values, bounds=(0.0, 1.0), level=0.95, n_draws=100_000):
    mean = float(np.mean(values))
    room = (mean - bounds[0], bounds[1] - mean)
    below, above = limit_distances(
        np.asarray(values) - mean,
        room,
        level=level,
        n_draws=n_draws,
        generator=np.random.default_rng(0),
    )
    return mean - below, mean + above


@pytest.mark.parametrize(("ones", "n"), [(1, 8), (1, 40), (3, 20), (20, 40)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_shares_have_the_limits_of_clopper_and_pearson(ones, n, level):
    expected = stats.binomtest(ones, n).proportion_ci(level, method="exact")
    found = limits_of([1.0] * ones + [0.0] * (n - ones), level=level)
    assert found == pytest.approx((expected.low, expected.high), abs=0.003)


@pytest.mark.parametrize("n", [2, 7, 20])
def test_equal_values_have_the_limits_of_the_closed_form(n):
    """One unit in n more has a share of at most 1 - 0.025 ** (1 / n)."""
    unseen = 1.0 - 0.025 ** (1.0 / n)
    expected = (0.8 - 0.8 * unseen, 0.8 + 0.2 * unseen)
    assert limits_of([0.8] * n) == pytest.approx(expected, abs=0.003)


def test_without_a_bound_there_is_no_limit():
    values = np.arange(10.0)
    low, high = limits_of(values, bounds=(0.0, np.inf), n_draws=1000)
    assert 0.0 < low < values.mean()
    assert high == np.inf
    assert limits_of(values, bounds=(-np.inf, np.inf)) == (-np.inf, np.inf)


def test_many_draws_are_made_in_parts_of_the_same_numbers(monkeypatch):
    values = np.random.default_rng(1).uniform(size=30)
    whole = limits_of(values, n_draws=1000)
    monkeypatch.setattr(bounded_means, "CHUNK_VALUES", 31 * 64)
    assert limits_of(values, n_draws=1000) == pytest.approx(whole, rel=1e-12)


def test_the_example_in_the_docstring_holds():
    outcome = doctest.testmod(bounded_means)
    assert outcome.attempted > 0
    assert outcome.failed == 0
