import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import kendalltau

from analogmed.search.space.gene_table import GeneTable
from analogmed.search.space.space import Space
from analogmed.search.strategies.surrogate import Surrogate, pairwise_hinge

SPACE = Space(depths=(2, 3), blocks=("identity", *"ABC"))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def separable(table, rows, rng):
    """A score that is a sum of what each value of each gene is worth, and no other value is."""
    worth = [rng.permutation(size) / size for size in table.sizes]
    return sum(worth[column][rows[:, column]] for column in range(len(table.sizes)))


def drawn(n, rng):
    table = GeneTable(SPACE)
    rows = table.canonical(rng.integers(0, table.sizes, (n, len(table.sizes))))
    return table, rows


def test_the_hinge_of_a_pair_is_what_its_lead_lacks_of_the_margin():
    score = np.array([0.8, 0.5])
    for lead, loss in [(0.3, 0.0), (0.1, 0.0), (0.04, 0.06), (0.0, 0.1), (-0.5, 0.6)]:
        assert pairwise_hinge(np.array([lead, 0.0]), score)[0] == pytest.approx(loss, abs=1e-12)


def test_the_hinge_is_the_mean_over_pairs_times_half_their_number(rng):
    predicted, score = rng.normal(size=7), rng.normal(size=7)
    pairs = [
        max(0.0, 0.1 - (predicted[i] - predicted[j]))
        for i in range(7)
        for j in range(7)
        if score[i] > score[j]
    ]
    assert len(pairs) == 21
    assert pairwise_hinge(predicted, score)[0] == pytest.approx(np.mean(pairs) * 3.5)


def test_the_gradient_is_that_of_finite_differences(rng):
    score = rng.integers(0, 5, size=20).astype(float)  # with ties
    for spread in (0.01, 0.1, 1.0):
        predicted = rng.normal(scale=spread, size=20)
        error = check_grad(
            lambda values: pairwise_hinge(values, score)[0],
            lambda values: pairwise_hinge(values, score)[1],
            predicted,
            epsilon=1e-8,
        )
        assert error < 1e-5


def test_equal_scores_ask_for_nothing():
    loss, gradient = pairwise_hinge(np.array([0.3, 0.1, 0.2]), np.full(3, 0.5))
    assert (loss, gradient.tolist()) == (0.0, [0.0, 0.0, 0.0])


def test_a_separable_score_is_ranked_as_its_networks_are(rng):
    """Of 150 networks seen, the order of 300 others; chance has a standard deviation of 0.039."""
    table, rows = drawn(450, rng)
    score = separable(table, rows, rng)
    surrogate = Surrogate(table.features(rows[:150]), score[:150], {}, seed=0)
    unseen = surrogate.rank(table.features(rows[150:]))
    assert kendalltau(unseen, score[150:]).statistic > 0.7


def test_a_metric_is_guessed_better_than_by_its_mean(rng):
    table, rows = drawn(450, rng)
    value = 0.02 * separable(table, rows, rng)
    surrogate = Surrogate(table.features(rows[:150]), value[:150], {"avm_drop": value[:150]}, 0)
    guessed = surrogate.metric("avm_drop", table.features(rows[150:]))
    error = np.mean((guessed - value[150:]) ** 2)
    assert error < 0.3 * value[150:].var()


def test_networks_of_which_a_metric_is_unknown_do_not_count_for_it(rng):
    table, rows = drawn(60, rng)
    value = separable(table, rows, rng)
    known = rng.random(60) < 0.5
    features = table.features(rows)
    among = Surrogate(features, value, {"avm_drop": np.where(known, value, np.nan)}, 0)
    alone = Surrogate(features[known], value[known], {"avm_drop": value[known]}, 0)
    assert np.array_equal(among.metric("avm_drop", features), alone.metric("avm_drop", features))


def test_the_score_is_the_rank_in_the_unit_of_what_was_measured(rng):
    table, rows = drawn(100, rng)
    features, score = table.features(rows), separable(table, rows, rng)
    surrogate = Surrogate(features, score, {}, seed=0)
    slope, intercept = np.polyfit(surrogate.rank(features), score, 1)
    expected = slope * surrogate.rank(features) + intercept
    assert surrogate.score(features) == pytest.approx(expected, rel=1e-6)
    assert slope > 0


def test_equal_scores_are_guessed_for_all():
    table, rows = drawn(10, np.random.default_rng(0))
    surrogate = Surrogate(table.features(rows), np.full(10, 0.7), {}, seed=0)
    assert surrogate.score(table.features(rows)) == pytest.approx(0.7)


def test_the_seed_says_what_is_guessed(rng):
    table, rows = drawn(60, rng)
    features, score = table.features(rows), separable(table, rows, rng)
    once, again, other = (Surrogate(features, score, {}, seed).rank(features) for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)
