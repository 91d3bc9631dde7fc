import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analogmed.foundation.errors import ConfigError, NonFiniteError, ShapeError
from analogmed.search.benchmark.rank_agreement import (
    agreement_matrix,
    kendall_tau,
    rank_agreement,
    top_overlap,
    top_tau,
)


def pairs_counted(one, other):
    """Tau-b by its definition: concordant less discordant pairs, over those that do not tie."""
    score = untied_one = untied_other = 0
    for a, b in itertools.combinations(range(len(one)), 2):
        first, second = np.sign(one[a] - one[b]), np.sign(other[a] - other[b])
        score += first * second
        untied_one += first != 0
        untied_other += second != 0
    return score / math.sqrt(untied_one * untied_other)


def test_the_same_order_is_1_and_the_reverse_is_minus_1():
    scores = [0.1, 0.5, 0.7, 0.9]
    assert kendall_tau(scores, [1, 2, 3, 40]) == pytest.approx(1.0)
    assert kendall_tau(scores, [-1, -2, -3, -40]) == pytest.approx(-1.0)


def test_one_swap_of_neighbours_costs_two_pairs():
    # 10 pairs of 5 networks: 9 concordant, 1 discordant.
    assert kendall_tau([1, 2, 3, 4, 5], [1, 2, 3, 5, 4]) == pytest.approx(0.8)


def test_ties_are_left_out_of_both_sides():
    # Pairs (1,2) concordant, (1,3) concordant, (2,3) tied in the second only: 2 / sqrt(3 * 2).
    assert kendall_tau([1, 2, 3], [1, 2, 2]) == pytest.approx(2 / math.sqrt(6))


@pytest.mark.parametrize("seed", range(5))
def test_tau_is_that_of_its_definition_and_of_scipy(seed):
    generator = np.random.default_rng(seed)
    one, other = generator.integers(0, 6, (2, 25))
    assert kendall_tau(one, other) == pytest.approx(pairs_counted(one, other))
    assert kendall_tau(one, other) == pytest.approx(stats.kendalltau(one, other).statistic)


def test_equal_scores_have_no_tau():
    assert math.isnan(kendall_tau([1, 1, 1], [1, 2, 3]))


def test_top_lists_by_hand():
    one, other = [9, 8, 7, 6, 5, 4], [9, 5, 8, 4, 7, 6]  # best 3: {0, 1, 2} and {0, 2, 4}
    assert top_overlap(one, other, k=3) == pytest.approx(2 / 4)
    # Of networks 0, 1, 2, 4: scores 9, 8, 7, 5 and 9, 5, 8, 7; discordant (1, 2) and (1, 4).
    assert top_tau(one, other, k=3) == pytest.approx((4 - 2) / 6)


def test_top_lists_of_all_networks_are_the_whole_ranking():
    generator = np.random.default_rng(0)
    one, other = generator.random((2, 12))
    assert top_overlap(one, other, k=12) == 1.0
    assert top_tau(one, other, k=12) == pytest.approx(kendall_tau(one, other))


def test_lists_with_nothing_in_common_do_not_overlap():
    assert top_overlap([4, 3, 2, 1], [1, 2, 3, 4], k=2) == 0.0


def test_networks_that_tie_at_the_end_of_a_list_are_all_in_it():
    # Best 2 of the first: 0, and 1 and 2, which tie; of the second: 0 and 1.
    assert top_overlap([2, 1, 1], [2, 1, 0], k=2) == pytest.approx(2 / 3)
    assert top_overlap([1, 1, 1, 1], [4, 3, 2, 1], k=2) == pytest.approx(2 / 4)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_in_which_networks_are_given_does_not_matter(seed):
    generator = np.random.default_rng(seed)
    one, other = generator.integers(0, 4, (2, 20))  # many ties
    shuffled = generator.permutation(20)
    for k in (1, 5, 13):
        assert top_overlap(one, other, k=k) == top_overlap(one[shuffled], other[shuffled], k=k)


@pytest.mark.slow
def test_the_interval_holds_the_tau_of_the_population():
    """Tau of a bivariate normal is 2 / pi * arcsin(rho): Kendall and Stuart 1979."""
    rho, held, generator = 0.7, 0, np.random.default_rng(1)
    truth = 2 / math.pi * math.asin(rho)
    for repeat in range(40):
        one = generator.standard_normal(60)
        other = rho * one + math.sqrt(1 - rho**2) * generator.standard_normal(60)
        found = rank_agreement(one, other, n_boot=100, seed=repeat)
        assert found.low < found.value < found.high
        held += found.low <= truth <= found.high
    assert held >= 34  # 40 of 0.95 is 38; P(below 34) of the binomial is 0.003


def test_the_same_draws_give_the_same_interval():
    one, other = np.random.default_rng(2).random((2, 20))
    assert rank_agreement(one, other, n_boot=50) == rank_agreement(one, other, n_boot=50)
    assert rank_agreement(one, other, n_boot=50) != rank_agreement(one, other, n_boot=50, seed=1)


def test_a_network_without_one_of_the_scores_is_left_out():
    one, other = [1.0, 2.0, 3.0, np.nan, 4.0], [1.0, 2.0, 3.0, 0.0, np.nan]
    found = rank_agreement(one, other, n_boot=10)
    assert (found.value, found.n) == (1.0, 3)


def test_identical_scores_have_an_interval_of_one_point():
    scores = np.arange(10.0)
    found = rank_agreement(scores, scores, k=3, overlap=True, n_boot=20)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_matrix_is_symmetric_and_one_with_itself():
    generator = np.random.default_rng(3)
    scores = pd.DataFrame(generator.random((15, 3)), columns=["brain", "spleen", "nuclei"])
    scores.loc[0, "nuclei"] = np.nan
    table = agreement_matrix(scores, n_boot=20).pivot(index="one", columns="other", values="value")
    assert (table.to_numpy() == table.T.to_numpy()).all()
    assert np.diag(table.to_numpy()) == pytest.approx([1.0, 1.0, 1.0])
    without = scores.drop(index=0)
    assert table.loc["brain", "nuclei"] == kendall_tau(without["brain"], without["nuclei"])


def test_a_pair_of_tasks_with_two_shared_networks_has_no_tau():
    scores = pd.DataFrame({"brain": [1.0, 2, 3, np.nan], "nuclei": [np.nan, 1.0, 2.0, 3.0]})
    table = agreement_matrix(scores, n_boot=10).set_index(["one", "other"])
    assert math.isnan(table.loc[("brain", "nuclei"), "value"])
    assert table.loc[("brain", "nuclei"), "n"] == 2


@pytest.mark.parametrize("k", [0, 5])
def test_a_top_list_longer_than_the_ranking_is_refused(k):
    with pytest.raises(ConfigError, match=f"1 to 4 of them, got {k}"):
        top_tau([1, 2, 3, 4], [1, 2, 3, 4], k=k)


def test_an_overlap_without_a_length_is_refused():
    with pytest.raises(ConfigError, match="give their length k"):
        rank_agreement([1, 2, 3], [1, 2, 3], overlap=True)


def test_scores_of_other_networks_are_refused():
    with pytest.raises(ShapeError, match=r"\(3,\) and \(2,\)"):
        kendall_tau([1, 2, 3], [1, 2])
    with pytest.raises(NonFiniteError, match="NaN"):
        kendall_tau([1, 2, np.nan], [1, 2, 3])
