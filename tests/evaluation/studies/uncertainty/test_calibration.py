import numpy as np
import pytest
from scipy import stats

from analogmed.evaluation.studies.uncertainty.calibration import (
    PROB_FLOOR,
    Voxels,
    area_under_risk_coverage,
    auroc,
    band,
    brier_score,
    calibration_error,
    flatten,
    negative_log_likelihood,
    rank_correlation,
    reliability_counts,
    risk_coverage,
)
from analogmed.foundation.errors import ConfigError, NonFiniteError, ShapeError

sklearn_metrics = pytest.importorskip("sklearn.metrics")


@pytest.fixture
def voxels():
    rng = np.random.default_rng(0)
    prob = rng.dirichlet([2.0, 1.0, 0.5], 400)
    return Voxels(prob, np.array([rng.choice(3, p=p) for p in prob]))


@pytest.fixture
def scored():
    rng = np.random.default_rng(1)
    errors = rng.random(500) < 0.2
    return np.round(rng.random(500) + 0.4 * errors, 2), errors


def test_calibration_error_is_the_gap_of_the_closed_form():
    confidence = np.array([0.9] * 10 + [0.6] * 10)
    outcome = np.array([1] * 8 + [0] * 2 + [1] * 9 + [0])
    expected = 0.5 * abs(0.9 - 0.8) + 0.5 * abs(0.6 - 0.9)
    assert calibration_error(confidence, outcome) == pytest.approx(expected)
    assert calibration_error(confidence, outcome, n_bins=2, adaptive=True) == pytest.approx(
        expected
    )
    assert calibration_error(confidence, outcome, n_bins=1) == pytest.approx(abs(0.75 - 0.85))


def test_calibration_error_agrees_with_scikit_learns_curve():
    rng = np.random.default_rng(2)
    confidence = rng.random(1000)
    outcome = rng.random(1000) < confidence**2
    calibration_curve = pytest.importorskip("sklearn.calibration").calibration_curve
    share, mean = calibration_curve(outcome, confidence, n_bins=10)
    counts = np.histogram(confidence, np.linspace(0, 1, 11))[0]
    expected = np.sum(counts * np.abs(share - mean)) / 1000
    assert calibration_error(confidence, outcome, n_bins=10) == pytest.approx(expected)


def test_adaptive_bins_hold_equally_many_voxels():
    rng = np.random.default_rng(3)
    confidence = rng.random(900) ** 0.1
    outcome = rng.random(900) < 0.9
    share, mean = pytest.importorskip("sklearn.calibration").calibration_curve(
        outcome, confidence, n_bins=9, strategy="quantile"
    )
    expected = np.abs(share - mean).mean()
    found = calibration_error(confidence, outcome, n_bins=9, adaptive=True)
    assert found == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("order", ["errors in one region", "shuffled"])
def test_the_adaptive_error_does_not_depend_on_the_order_of_equal_confidences(order):
    """Confidence 0.9 everywhere, and 0.9 of the voxels right: calibrated, whichever those are."""
    outcome = np.arange(1000) >= 100
    if order == "shuffled":
        outcome = np.random.default_rng(0).permutation(outcome)
    found = calibration_error(np.full(1000, 0.9), outcome, adaptive=True)
    assert found == pytest.approx(0.0, abs=1e-12)


def test_the_adaptive_error_of_tied_groups_is_that_of_their_means():
    """Groups of 60 and 40 in two bins of 50: gaps of 0.1 and, for the ten that overlap, 0.1."""
    confidence = np.repeat([0.6, 0.8], [60, 40])
    outcome = np.r_[np.arange(60) < 30, np.arange(40) < 36]
    found = calibration_error(confidence, outcome, n_bins=2, adaptive=True)
    assert found == pytest.approx((50 * 0.1 + abs(10 * 0.1 - 40 * 0.1)) / 100)


def test_outcomes_drawn_from_their_probabilities_are_calibrated():
    rng = np.random.default_rng(4)
    confidence = rng.random(200_000)
    outcome = rng.random(200_000) < confidence
    for adaptive in (False, True):
        assert calibration_error(confidence, outcome, adaptive=adaptive) < 0.01


def test_reliability_counts_of_cases_add_up_to_those_of_all():
    rng = np.random.default_rng(5)
    confidence, outcome = rng.random(100), rng.random(100) < 0.5
    parts = [reliability_counts(confidence[i::2], outcome[i::2]) for i in range(2)]
    assert sum(parts) == pytest.approx(reliability_counts(confidence, outcome))
    assert reliability_counts(np.array([0.0, 1.0]), np.array([0, 1]))[[0, -1], 0].tolist() == [1, 1]


def test_brier_and_likelihood_agree_with_scikit_learn(voxels):
    expected = sklearn_metrics.brier_score_loss(voxels.label, voxels.prob, scale_by_half=True)
    assert brier_score(voxels) == pytest.approx(expected)
    assert negative_log_likelihood(voxels) == pytest.approx(
        sklearn_metrics.log_loss(voxels.label, voxels.prob)
    )


def test_brier_of_one_class_is_the_squared_gap():
    prob = np.array([0.9, 0.2]).reshape(1, 1, 2)
    found = brier_score(flatten(prob, np.array([[1, 1]])))
    assert found == pytest.approx((0.1**2 + 0.8**2) / 2)


def test_a_sure_error_costs_the_log_of_the_floor():
    sure = flatten(np.ones((1, 1, 1), np.float32), np.zeros((1, 1), np.uint8))
    assert negative_log_likelihood(sure) == pytest.approx(-np.log(PROB_FLOOR))


def test_auroc_agrees_with_scikit_learn_with_ties(scored):
    uncertainty, errors = scored
    assert auroc(uncertainty, errors) == pytest.approx(
        sklearn_metrics.roc_auc_score(errors, uncertainty)
    )
    assert auroc(np.ones(500), errors) == 0.5


def test_auroc_without_an_error_is_undefined():
    assert np.isnan(auroc(np.arange(3.0), np.zeros(3)))


def test_risk_of_the_closed_form():
    coverage, risk = risk_coverage(np.array([0.3, 0.1, 0.2, 0.4]), np.array([1, 0, 0, 1]))
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk == pytest.approx([0, 0, 1 / 3, 1 / 2])
    area = area_under_risk_coverage(np.array([0.3, 0.1, 0.2, 0.4]), np.array([1, 0, 0, 1]))
    assert area == pytest.approx((1 / 3 + 1 / 2) / 4)


def test_ties_give_the_mean_over_their_orders(scored):
    uncertainty, errors = scored
    rng = np.random.default_rng(6)
    curves = []
    for _ in range(2000):
        order = np.lexsort([rng.random(500), uncertainty])
        curves.append(np.cumsum(errors[order]) / np.arange(1, 501))
    assert risk_coverage(uncertainty, errors)[1] == pytest.approx(np.mean(curves, 0), abs=0.02)


def test_useless_uncertainty_has_the_error_rate_as_its_area(scored):
    assert area_under_risk_coverage(np.zeros(500), scored[1]) == pytest.approx(scored[1].mean())


def test_rank_correlation_agrees_with_scipy_and_leaves_undefined_cases_out():
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 6, 30).astype(float), rng.random(30)
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    b[3] = np.nan
    kept = np.arange(30) != 3
    assert rank_correlation(a, b) == pytest.approx(stats.spearmanr(a[kept], b[kept]).statistic)
    assert np.isnan(rank_correlation(np.ones(30), b))


def test_the_band_reaches_a_margin_about_the_structure_in_its_own_image():
    label = np.zeros((2, 9, 9), np.uint8)
    label[0, 4, 4] = 1
    found = band(label, 2)
    rows, columns = np.mgrid[:9, :9]
    assert (found[0] == ((rows - 4) ** 2 + (columns - 4) ** 2 <= 4)).all()
    assert not found[1].any()
    assert (band(label, 0) == (label > 0)).all()
    with pytest.raises(ConfigError, match="margin must be 0 or more"):
        band(label, -1)


def test_a_mask_selects_voxels():
    prob = np.array([[[0.1, 0.8, 0.6]]])
    label = np.array([[0, 1, 0]])
    chosen = flatten(prob, label, np.array([[True, False, True]]))
    assert chosen.prob.tolist() == [[0.9, 0.1], [0.4, 0.6]]
    assert chosen.correct.tolist() == [True, False]
    nothing = flatten(prob, label, np.zeros((1, 3), bool))
    for score in (brier_score, negative_log_likelihood):
        assert np.isnan(score(nothing))
    assert np.isnan(calibration_error(nothing.confidence, nothing.correct))


@pytest.mark.parametrize(
    ("prob", "label", "error", "message"),
    [
        (np.full((1, 1, 2), np.nan), np.zeros((1, 2), int), NonFiniteError, "NaN or Inf"),
        (np.full((1, 1, 2), 7.0), np.zeros((1, 2), int), ValueError, "put logits through"),
        (np.full((1, 1, 2), 0.5), np.full((1, 2), 0.5), ValueError, "must hold class indices"),
        (np.full((1, 1, 2), 0.5), np.zeros((1, 3), int), ShapeError, "the label's grid"),
    ],
)
def test_bad_input_is_refused(prob, label, error, message):
    with pytest.raises(error, match=message):
        flatten(prob, label)
