"""Scores of classified images: values, contributions of cases, and undefined classes."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from analogmed.metrics import agreement
from analogmed.metrics.images import ClassImages, confusion, of_counts
from analogmed.metrics.notes import (
    NO_NEGATIVE,
    NO_POSITIVE,
    ONE_CASE_NEGATIVE,
    ONE_CASE_POSITIVE,
)
from analogmed.metrics.registry import METRICS, metric, metric_names

RANKED = {
    "auroc": sklearn_metrics.roc_auc_score,
    "average_precision": sklearn_metrics.average_precision_score,
}
COUNTED = {
    "accuracy": sklearn_metrics.accuracy_score,
    "f1": sklearn_metrics.f1_score,
    "kappa": sklearn_metrics.cohen_kappa_score,
    "precision": sklearn_metrics.precision_score,
    "recall": sklearn_metrics.recall_score,
    "sensitivity": sklearn_metrics.recall_score,
    "specificity": lambda ref, decided: sklearn_metrics.recall_score(~ref, ~decided),
}


def drawn(n_cases=25, per_case=1, seed=0, steps=20):
    """Return images whose probabilities have ties and are higher for positive ones."""
    generator = np.random.default_rng(seed)
    case = np.repeat(np.arange(n_cases), per_case)
    positive = generator.random(case.size) < 0.4
    noise = generator.normal(size=case.size) + generator.normal(size=n_cases)[case] / 2
    probability = np.round(steps / (1 + np.exp(-noise - positive))) / steps
    return ClassImages(positive, probability, case)


def counts_of(images):
    decided = images.probability > 0.5
    return confusion(images.positive.astype(int), decided.astype(int), images.case, 2)


@pytest.mark.parametrize("per_case", [1, 4])
@pytest.mark.parametrize("name", RANKED)
def test_contributions_to_a_ranking_have_the_score_of_scikit_learn_as_mean(name, per_case):
    images = drawn(per_case=per_case)
    terms = metric(name).rank_terms(images)
    assert terms.shape == (25,)
    assert terms.mean() == pytest.approx(RANKED[name](images.positive, images.probability))


@pytest.mark.parametrize("per_case", [1, 4])
@pytest.mark.parametrize("name", COUNTED)
def test_contributions_to_a_share_have_the_score_of_scikit_learn_as_mean(name, per_case):
    images = drawn(per_case=per_case)
    terms = of_counts(metric(name).count_score, counts_of(images))
    expected = COUNTED[name](images.positive, images.probability > 0.5)
    assert terms.mean() == pytest.approx(expected)


def test_of_constant_perfect_and_reversed_probabilities():
    positive, case = np.array([False] * 4 + [True] * 6), np.arange(10)
    perfect = np.linspace(0, 1, 10)
    auroc = metric("auroc").rank_terms
    assert auroc(ClassImages(positive, np.full(10, 0.3), case)).mean() == 0.5
    assert auroc(ClassImages(positive, perfect, case)).tolist() == [1.0] * 10
    images = drawn()
    reversed_ = ClassImages(images.positive, 1 - images.probability, images.case)
    assert auroc(reversed_).mean() == pytest.approx(1 - auroc(images).mean(), abs=1e-12)


def test_contributions_do_not_depend_on_the_order_of_the_cases():
    images = drawn(per_case=2)
    order = np.random.default_rng(1).permutation(images.case.size)
    moved = ClassImages(images.positive[order], images.probability[order], images.case[order])
    for name in RANKED:
        np.testing.assert_allclose(
            metric(name).rank_terms(moved), metric(name).rank_terms(images), atol=1e-12
        )


def test_an_area_and_its_pseudo_values_agree():
    """The closed form is close to the jackknife, which holds for any score."""
    images = drawn(60)
    area = metric("auroc").rank_terms(images)
    without = [metric("auroc").rank_terms(images.without(case)).mean() for case in range(60)]
    jackknife = 60 * area.mean() - 59 * np.array(without)
    assert np.corrcoef(area, jackknife)[0, 1] > 0.999
    assert area.std() == pytest.approx(jackknife.std(), rel=0.05)


def test_accuracy_of_a_case_is_its_contribution():
    images = drawn()
    terms = of_counts(agreement.accuracy, counts_of(images))
    assert terms.tolist() == (images.positive == (images.probability > 0.5)).tolist()


def test_kappa_of_a_known_table():
    assert agreement.kappa(np.array([[20.0, 5.0], [10.0, 15.0]])) == pytest.approx(0.4)


def test_shares_of_no_image_are_undefined():
    with np.errstate(invalid="ignore"):
        for only_negative in (np.array([[5.0, 0.0], [0.0, 0.0]]), np.array([[4.0, 1.0], [0, 0]])):
            for name in ("sensitivity", "f1", "kappa"):
                assert math.isnan(metric(name).count_score(only_negative))
        only_positive = np.array([[0.0, 0.0], [1.0, 4.0]])
        assert math.isnan(metric("specificity").count_score(only_positive))


@pytest.mark.parametrize(
    ("positive", "case", "note"),
    [
        ([0, 0, 0], [0, 1, 2], NO_POSITIVE),
        ([1, 1, 1], [0, 1, 2], NO_NEGATIVE),
        ([1, 1, 0, 0], [0, 0, 1, 2], ONE_CASE_POSITIVE),
        ([1, 1, 0, 0], [0, 1, 2, 2], ONE_CASE_NEGATIVE),
        ([1, 1, 0, 0], [0, 1, 0, 1], ""),
    ],
)
def test_undefined_classes_say_why(positive, case, note):
    images = ClassImages(np.array(positive, bool), np.zeros(len(case)), np.array(case))
    assert images.note == note


def test_each_metric_is_of_masks_or_of_images():
    of_masks = {name for name in metric_names() if metric(name).is_of_masks}
    of_images = {name for name in metric_names() if metric(name).is_of_images}
    assert of_masks == set(METRICS)
    assert of_images == {*RANKED, *COUNTED}
