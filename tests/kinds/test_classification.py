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
from analogmed.metrics.notes import NO_POSITIVE
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
        with pytest.raises(ConfigError, match=r"loss.cross_entropy: the only term of multi"):
            kind.loss(n_classes, dice=1.0, cross_entropy=0.0)


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
    with pytest.raises(ConfigError, match="metrics: dice is not defined for multilabel"):
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
