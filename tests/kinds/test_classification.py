"""Classification of whole images: targets, losses, scores, and undefined classes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as sklearn_metrics
from torch import nn

from analogmed.foundation.errors import ConfigError, DataError, NonFiniteError
from analogmed.kinds.classification import ALL, MULTICLASS, MULTILABEL
from analogmed.kinds.kind import Scoring
from analogmed.kinds.segmentation import SEGMENTATION
from analogmed.metrics.agreement import best_threshold
from analogmed.metrics.notes import APART, NO_POSITIVE
from analogmed.training.losses import distillation

IMAGES = 40
METRICS = ("auroc", "accuracy", "kappa", "sensitivity")


def drawn(kind, n_classes, seed=0):
    """Return logits (n, K) that follow the references (n, T) with noise."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(IMAGES, n_classes, generator=generator, dtype=torch.float64)
    if kind is MULTICLASS:
        label = torch.randint(n_classes, (IMAGES, 1), generator=generator)
        return noise + F.one_hot(label[:, 0], n_classes), label.numpy().astype(np.uint8)
    label = torch.randint(2, (IMAGES, n_classes), generator=generator)
    return noise + label, label.numpy().astype(np.uint8)


def rows_of(kind, logits, label, classes, metrics=METRICS):
    scorer = kind.scorer(Scoring(classes, metrics, 0.0, "px"))
    for number in range(len(label)):
        scorer.add(f"case{number}", logits[number, None], label[number, None], (1.0, 1.0))
    return scorer.scores()


def means(rows):
    found = {}
    for row in rows:
        found.setdefault((row.class_name, row.metric), []).append(row.value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def test_scores_of_independent_labels_are_those_of_each_label():
    logits, label = drawn(MULTILABEL, 2)
    found = means(rows_of(MULTILABEL, logits, label, ("a", "b")))
    decided = (logits > 0).numpy()
    for index, name in enumerate("ab"):
        reference = label[:, index]
        expected = {
            "auroc": sklearn_metrics.roc_auc_score(reference, logits[:, index]),
            "accuracy": sklearn_metrics.accuracy_score(reference, decided[:, index]),
            "kappa": sklearn_metrics.cohen_kappa_score(reference, decided[:, index]),
            "sensitivity": sklearn_metrics.recall_score(reference, decided[:, index]),
        }
        assert {metric: found[name, metric] for metric in METRICS} == pytest.approx(expected)


def test_scores_of_exclusive_classes_are_those_of_scikit_learn():
    logits, label = drawn(MULTICLASS, 3)
    found = means(rows_of(MULTICLASS, logits, label, ("a", "b", "c")))
    reference, decided = label[:, 0], logits.argmax(1).numpy()
    macro = np.mean([found[name, "auroc"] for name in "abc"])
    expected = sklearn_metrics.roc_auc_score(
        reference, logits.softmax(1), multi_class="ovr", average="macro"
    )
    assert macro == pytest.approx(expected)
    assert found[ALL, "accuracy"] == pytest.approx((reference == decided).mean())
    kappa = sklearn_metrics.cohen_kappa_score(reference, decided)
    assert found[ALL, "kappa"] == pytest.approx(kappa)
    assert ("a", "accuracy") not in found


@pytest.mark.parametrize(("kind", "classes"), [(MULTILABEL, ("a",)), (MULTICLASS, ("a", "b"))])
def test_a_failed_run_has_the_rows_of_a_run(kind, classes):
    rows = rows_of(kind, *drawn(kind, len(classes)), classes)
    of_first = [(row.class_name, row.metric) for row in rows if row.case == "case0"]
    assert of_first == kind.rows(classes, METRICS)
    assert len(rows) == IMAGES * len(of_first)


def test_a_class_without_a_positive_image_is_undefined_and_says_so():
    logits, label = drawn(MULTILABEL, 2)
    label[:, 1] = 0
    rows = rows_of(MULTILABEL, logits, label, ("a", "b"))
    for row in rows:
        undefined = row.class_name == "b" and row.metric != "accuracy"
        assert math.isnan(row.value) == undefined
        assert row.note == (NO_POSITIVE if undefined else "")


def test_several_images_of_a_case_are_one_case():
    logits, label = drawn(MULTILABEL, 1)
    scorer = MULTILABEL.scorer(Scoring(("a",), ("auroc",), 0.0, "px"))
    for number in range(0, IMAGES, 4):
        scorer.add(f"{number}", logits[number : number + 4], label[number : number + 4], (1.0,))
    values = [row.value for row in scorer.scores()]
    assert len(values) == IMAGES // 4
    assert np.mean(values) == pytest.approx(
        sklearn_metrics.roc_auc_score(label[:, 0], logits[:, 0])
    )


def test_logits_that_are_not_finite_are_refused():
    scorer = MULTILABEL.scorer(Scoring(("a",), ("auroc",), 0.0, "px"))
    with pytest.raises(NonFiniteError, match="1 NaN or Inf logits"):
        scorer.add("case", torch.tensor([[math.nan]]), np.array([[1]], np.uint8), (1.0, 1.0))


def test_losses_are_the_cross_entropies():
    for kind, n_classes in ((MULTILABEL, 2), (MULTICLASS, 3)):
        logits, label = drawn(kind, n_classes)
        target = torch.stack([kind.target(one, (0, 0), (32, 32)) for one in label]).long()
        found = kind.loss(n_classes, dice=1.0, cross_entropy=2.0)(logits, target)
        expected = (
            F.cross_entropy(logits, target[:, 0])
            if kind is MULTICLASS
            else F.binary_cross_entropy_with_logits(logits, target.double())
        )
        torch.testing.assert_close(found, 2 * expected)
        with pytest.raises(ConfigError, match=r"loss.cross_entropy: the only term for classes of"):
            kind.loss(n_classes, dice=1.0, cross_entropy=0.0)


def example(kind, n_classes):
    logits, label = drawn(kind, n_classes)
    target = torch.stack([kind.target(one, (0, 0), (32, 32)) for one in label]).long()
    shares = kind.holds(label, n_classes).mean(axis=0)
    return logits, target, shares


def loss_of(kind, logits, target, **settings):
    return kind.loss(logits.shape[1], dice=1.0, cross_entropy=1.0, **settings)(logits, target)


@pytest.mark.parametrize("kind", [MULTILABEL, MULTICLASS])
def test_the_focal_loss_weighs_well_predicted_images_less(kind):
    logits, target, _ = example(kind, 3)
    plain = loss_of(kind, logits, target)
    torch.testing.assert_close(loss_of(kind, logits, target, focal=1e-9), plain)
    reference = kind.log_probabilities(logits, 1.0)
    index = target[:, None] if kind is MULTILABEL else target
    own = reference.gather(1, index)
    expected = (-((1 - own.exp()) ** 2) * own).mean()
    torch.testing.assert_close(loss_of(kind, logits, target, focal=2.0), expected)


def test_balanced_weights_are_the_inverse_frequencies():
    logits, target, shares = example(MULTICLASS, 3)
    weight = torch.from_numpy(1 / shares)
    expected = F.cross_entropy(logits, target[:, 0], weight=weight)
    found = loss_of(MULTICLASS, logits, target, class_shares=shares)
    torch.testing.assert_close(found, expected)
    logits, target, shares = example(MULTILABEL, 3)
    weight = torch.from_numpy((1 - shares) / shares)
    expected = F.binary_cross_entropy_with_logits(logits, target.double(), pos_weight=weight)
    found = loss_of(MULTILABEL, logits, target, class_shares=shares)
    torch.testing.assert_close(found, expected)


def test_a_class_that_no_training_image_has_gets_no_weight_of_its_own():
    logits, target, _ = example(MULTILABEL, 2)
    found = loss_of(MULTILABEL, logits, target, class_shares=np.array([0.0, 1.0]))
    torch.testing.assert_close(found, loss_of(MULTILABEL, logits, target))


def test_the_focal_loss_of_masks_takes_the_place_of_the_cross_entropy():
    for n_classes in (1, 2):
        logits = torch.randn(2, SEGMENTATION.n_logits(n_classes), 8, 8)
        target = torch.randint(n_classes + 1, (2, 1, 8, 8))
        settings = {"dice": 0.5, "cross_entropy": 2.0}
        plain = SEGMENTATION.loss(n_classes, **settings)(logits, target.float())
        focal = SEGMENTATION.loss(n_classes, **settings, focal=1e-9)(logits, target.float())
        torch.testing.assert_close(focal, plain)
    with pytest.raises(ConfigError, match=r"loss.class_weights: not defined for segmentation"):
        SEGMENTATION.loss(2, **settings, class_shares=np.array([0.1, 0.2]))


@pytest.mark.parametrize(
    ("probability", "positive", "expected"),
    [
        ([0.1, 0.2, 0.3], [True, False, True], 0.05),  # all positive: 0.8
        ([0.1, 0.1], [True, False], 0.05),
        ([0.0, 0.2, 0.3], [True, False, True], 0.25),  # no threshold is below 0
        ([0.6, 0.7, 0.8], [True, False, True], 0.5),
    ],
)
def test_a_threshold_may_decide_all_images_positive(probability, positive, expected):
    assert best_threshold(np.array(probability), np.array(positive)) == pytest.approx(expected)


def test_thresholds_have_the_largest_f1():
    logits, label = drawn(MULTILABEL, 2)
    label[:, 1] = 0
    scoring = Scoring(("a", "b"), ("f1",), 0.0, "px")
    scorer = MULTILABEL.scorer(scoring)
    scorer.add("all", logits, label, ())
    first, second = scorer.thresholds()
    assert second == 0.5  # a class without a positive image
    probability = logits.sigmoid().numpy()[:, 0]
    scores = {
        level: sklearn_metrics.f1_score(label[:, 0], probability > level)
        for level in (first, *np.linspace(0.0, 1.0, 101))
    }
    assert scores[first] == max(scores.values())
    decided = MULTILABEL.decide(np.array([[0.4, 0.4], [0.6, 0.6]]), (0.3, 0.7))
    assert decided.tolist() == [[True, False], [True, False]]
    assert MULTICLASS.scorer(scoring).thresholds() == ()


@pytest.mark.parametrize("kind", [MULTILABEL, MULTICLASS])
def test_positions_have_the_form_of_references(kind):
    logits, label = drawn(kind, 3)
    prob = kind.positions(logits).numpy()
    assert (len(prob), *prob.shape[2:]) == label.shape
    for index in range(3):
        found, present = kind.of_class(prob, label, index)
        assert found == pytest.approx(kind.probabilities(logits)[:, index].numpy())
        assert present.tolist() == kind.holds(label, 3)[:, index].tolist()
    target = torch.from_numpy(label).long()
    log = kind.log_probabilities(logits, 1.0)
    own = log.gather(1, target if kind is MULTICLASS else target[:, None]).exp()
    assert kind.batch_score(logits, target) == pytest.approx(own.mean().item(), abs=1e-6)


@pytest.mark.parametrize("kind", [MULTILABEL, MULTICLASS])
def test_distillation_compares_probabilities(kind):
    logits, _ = drawn(kind, 3)
    log_probabilities = kind.log_probabilities(logits, 2.0)
    torch.testing.assert_close(
        log_probabilities.exp().sum(1), torch.ones_like(log_probabilities.sum(1))
    )
    assert distillation(logits, logits, kind=kind).item() == pytest.approx(0, abs=1e-6)
    assert distillation(logits, -logits, kind=kind).item() > 0.1


def test_distillation_of_one_label_is_that_of_one_class_of_a_mask():
    logits, _ = drawn(MULTILABEL, 1)
    torch.testing.assert_close(
        distillation(logits, 2 * logits, 2.0, kind=MULTILABEL),
        distillation(logits, 2 * logits, 2.0, kind=SEGMENTATION),
    )


def test_images_hold_their_classes():
    assert MULTICLASS.holds(np.array([[2], [0]]), 3).tolist() == [
        [False, False, True],
        [True, False, False],
    ]
    assert MULTILABEL.holds(np.array([[0, 1]]), 2).tolist() == [[False, True]]


def test_metrics_of_another_kind_are_refused():
    with pytest.raises(ConfigError, match="metrics: dice is not defined for classes of whole"):
        MULTILABEL.check_metrics(["auroc", "dice"])
    with pytest.raises(ConfigError, match="metrics: auroc is not defined for segmentation"):
        SEGMENTATION.check_metrics(["dice", "auroc"])


def test_a_network_that_segments_is_refused():
    probe = MULTILABEL.probe("mine", 1, 1, (8, 8))
    with pytest.raises(ConfigError, match=r"returns shape \(2, 1, 8, 8\).*expected \(2, 1\)"):
        probe.check(nn.Conv2d(1, 1, 1))
    probe.check(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)))


def test_scores_that_are_undefined_everywhere_are_an_error():
    with pytest.raises(DataError, match="AUROC is undefined for every class"):
        MULTILABEL.undefined_score("auroc", np.array([[1]]), (1.0, 1.0), 0.0)


def test_values_of_a_class_apart_have_a_note_unless_they_are_undefined():
    scorer = MULTICLASS.scorer(Scoring(("a", "b", "c"), ("auroc",), 0.0, "px", apart=("b", "c")))
    label = np.array([0, 1, 0, 1, 0, 1, 0, 1], np.uint8)[:, None]
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    for start in (0, 4):
        scorer.add(f"{start}", logits[start : start + 4], label[start : start + 4], (1.0,))
    notes = {score.class_name: score.note for score in scorer.scores()}
    assert notes == {"a": "", "b": APART, "c": NO_POSITIVE}
