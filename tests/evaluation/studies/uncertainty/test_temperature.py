import warnings

import numpy as np
import pytest
from scipy import special

from analogmed.evaluation.studies.uncertainty import temperature
from analogmed.evaluation.studies.uncertainty.calibration import (
    Voxels,
    band,
    flatten,
    negative_log_likelihood,
)
from analogmed.evaluation.studies.uncertainty.temperature import (
    RANGE,
    fit_temperature,
    fitting_voxels,
    scale,
    thinning_step,
)
from analogmed.foundation.errors import DataError


def sharpened(temperature, n_classes, n=100_000):
    """Voxels whose true logits were divided by ``temperature`` before the network told them."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (n, n_classes))
    true = special.softmax(logits, 1)
    label = (rng.random((n, 1)) > true.cumsum(1)).sum(1).clip(max=n_classes - 1)
    return Voxels(special.softmax(logits / temperature, 1), label)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("distortion", [0.4, 1.0, 2.0])
def test_the_distortion_of_logits_is_found_again(n_classes, distortion):
    found = fit_temperature([sharpened(distortion, n_classes)])
    assert found == pytest.approx(1 / distortion, rel=0.03)


def test_scaling_lowers_the_likelihoods_loss_and_keeps_the_order():
    voxels = sharpened(0.3, 2, 5000)
    prob = voxels.prob[:, 1].reshape(1, 1, -1)
    scaled = scale(prob, fit_temperature([voxels]))
    after = flatten(scaled, voxels.label[None])
    assert negative_log_likelihood(after) < 0.9 * negative_log_likelihood(voxels)
    assert ((scaled > 0.5) == (prob > 0.5)).all()


def test_one_class_and_two_are_scaled_alike():
    prob = np.array([0.01, 0.3, 0.99]).reshape(1, 1, 3)
    both = np.concatenate([1 - prob, prob], 1)
    assert scale(prob, 2.5)[:, 0] == pytest.approx(scale(both, 2.5)[:, 1])
    assert scale(prob, 1.0) == pytest.approx(prob)


def test_cases_without_an_error_run_to_the_end_and_say_so():
    right = Voxels(np.array([[0.2, 0.8], [0.9, 0.1]]), np.array([1, 0]))
    with pytest.warns(UserWarning, match="without an error"):
        assert fit_temperature([right]) == pytest.approx(RANGE[0], rel=0.01)


def test_no_voxel_is_an_error():
    with warnings.catch_warnings(), pytest.raises(DataError, match="there are none"):
        fit_temperature([Voxels(np.empty((0, 2)), np.empty(0, int))])


def test_the_band_asks_for_its_own_temperature():
    """Sure and right far from the structure, unsure in the band although mostly right there."""
    rng = np.random.default_rng(0)
    label = np.zeros((1, 60, 60), np.uint8)
    label[0, 20:40, 20:40] = 1
    near = special.expit(np.where(label, 3.0, -3.0) + rng.normal(0, 3, label.shape))
    prob = np.where(fitted_mask(label), near, 0.1)[:, None]
    in_band, in_image = (
        fit_temperature([fitting_voxels(prob, label, region, 5)]) for region in ("band", "image")
    )
    assert in_image < in_band
    assert len(fitting_voxels(prob, label, "image", 5).label) == 3600


def fitted_mask(label):
    rows, columns = np.mgrid[:60, :60]
    return ((abs(rows - 29.5) < 15) & (abs(columns - 29.5) < 15))[None]


@pytest.mark.parametrize("region", ["image", "band"])
def test_voxels_of_each_case_are_thinned_out_before_the_next_is_read(region, monkeypatch):
    """Every n-th voxel of each case, with the n that all cases together require."""
    monkeypatch.setattr(temperature, "MOST_VOXELS", 60)
    rng = np.random.default_rng(0)
    labels = [(rng.random((2, 9, 9)) < 0.02).astype(np.uint8) for _ in range(5)]
    probs = [rng.random((2, 1, 9, 9)) for _ in labels]
    whole = [
        flatten(prob, label, band(label, 1) if region == "band" else None)
        for prob, label in zip(probs, labels, strict=True)
    ]
    step = thinning_step(labels, region, 1)
    assert step == -(-sum(len(part.label) for part in whole) // 60) > 1
    for prob, label, part in zip(probs, labels, whole, strict=True):
        kept = fitting_voxels(prob, label, region, 1, step)
        assert (kept.prob == part.prob[::step]).all() and (kept.label == part.label[::step]).all()
        assert kept.prob.base is None  # a view would keep all voxels in memory


def test_few_voxels_are_all_kept():
    assert thinning_step([], "band", 5) == thinning_step([np.zeros((1, 8))], "image", 5) == 1
