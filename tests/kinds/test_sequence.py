"""Sequence labelling: classes at marked samples, their loss and scores."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.kinds.classification import MULTICLASS
from analogmed.kinds.kind import Scoring
from analogmed.kinds.sequence import NO_CLASS, SEQUENCE
from analogmed.training.losses import distillation

SIGNALS, CLASSES, SAMPLES = 12, 3, 40
METRICS = ("auroc", "accuracy", "kappa", "sensitivity")
SCORING = Scoring(("a", "b", "c"), METRICS, 0.0, "px")


@pytest.fixture
def drawn():
    """Logits (signals, classes, samples) that follow classes at a fifth of the samples."""
    rng = np.random.default_rng(0)
    label = np.full((SIGNALS, SAMPLES), NO_CLASS, dtype=np.uint8)
    marked = rng.random(label.shape) < 0.2
    label[marked] = rng.integers(CLASSES, size=marked.sum())
    logits = rng.normal(size=(SIGNALS, CLASSES, SAMPLES))
    logits += (label[:, None] == np.arange(CLASSES)[:, None]) * 1.0
    return torch.from_numpy(logits), label


def marks(logits, label):
    """The marked samples of all signals as separate images."""
    places = list(zip(*np.nonzero(label != NO_CLASS), strict=True))
    return (
        torch.stack([logits[signal, :, sample] for signal, sample in places]),
        np.array([[label[place]] for place in places]),
    )


def test_scores_are_those_of_the_marked_samples_as_images_whatever_else_is_predicted(drawn):
    logits, label = drawn
    flat, classes = marks(logits, label)
    signal = SEQUENCE.images_of(label)
    own, images = SEQUENCE.scorer(SCORING), MULTICLASS.scorer(SCORING)
    for case in range(3):
        part = slice(4 * case, 4 * case + 4)
        own.add(f"case{case}", logits[part], label[part], (0.01,))
        of_case = (signal >= part.start) & (signal < part.stop)
        images.add(f"case{case}", flat[of_case], classes[of_case], (0.01,))
    assert own.scores() == images.scores()
    other = torch.where(torch.from_numpy(label == NO_CLASS)[:, None], 100.0, logits)
    assert torch.equal(SEQUENCE.scored_logits(other, label), flat)
    assert np.array_equal(SEQUENCE.references(label), classes)
    assert len(signal) == len(classes)
    assert (np.diff(signal) >= 0).all()


def test_a_signal_has_the_classes_of_its_marks(drawn):
    _, label = drawn
    expected = [[bool((row == index).any()) for index in range(CLASSES)] for row in label]
    assert SEQUENCE.holds(label, CLASSES).tolist() == expected
    classes = SEQUENCE.references(label)
    assert (SEQUENCE.holds(classes, CLASSES) == MULTICLASS.holds(classes, CLASSES)).all()


@pytest.mark.parametrize(
    "options", [{}, {"focal": 2.0}, {"class_shares": np.array([0.5, 0.3, 0.9])}]
)
def test_the_loss_is_that_of_the_marked_samples(drawn, options):
    logits, label = drawn
    target = torch.from_numpy(label)[:, None].long()
    flat, classes = marks(logits, label)
    loss = SEQUENCE.loss(CLASSES, dice=1.0, cross_entropy=0.7, **options)
    expected = MULTICLASS.loss(CLASSES, dice=1.0, cross_entropy=0.7, **options)
    found = expected(flat, torch.from_numpy(classes).long())
    torch.testing.assert_close(loss(logits, target), found)
    assert SEQUENCE.batch_score(logits, target) == pytest.approx(
        MULTICLASS.batch_score(flat, torch.from_numpy(classes))
    )


def test_a_batch_without_marks_has_no_loss_and_no_gradient(drawn):
    logits = drawn[0].requires_grad_()
    target = torch.full((SIGNALS, 1, SAMPLES), NO_CLASS)
    loss = SEQUENCE.loss(CLASSES, dice=1.0, cross_entropy=1.0)(logits, target)
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
    with pytest.raises(ConfigError, match=r"only term for classes within signals"):
        SEQUENCE.loss(CLASSES, dice=1.0, cross_entropy=0.0)


def test_a_target_is_a_part_of_the_signal_without_classes_beyond_its_end(drawn):
    label = drawn[1][0]
    assert SEQUENCE.target(label, [5], (10,)).tolist() == [label[5:15].tolist()]
    padded = SEQUENCE.target(label, [0], (SAMPLES + 4,))[0]
    assert padded[2:-2].tolist() == label.tolist()
    assert padded[[0, 1, -2, -1]].tolist() == [NO_CLASS] * 4


def test_distillation_compares_the_classes_of_all_samples(drawn):
    logits = drawn[0].float()
    other = torch.randn(logits.shape)
    expected = F.kl_div(
        F.log_softmax(logits, 1), F.log_softmax(other, 1), reduction="none", log_target=True
    )
    found = distillation(logits, other, kind=SEQUENCE)
    torch.testing.assert_close(found, expected.sum(1).mean())


def test_a_network_for_whole_signals_is_refused_with_the_option_that_it_lacks():
    probe = SEQUENCE.probe("net", 2, CLASSES, (SAMPLES,))
    probe.check(nn.Conv1d(2, CLASSES, 1))
    whole = nn.Sequential(nn.Conv1d(2, CLASSES, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(ConfigError, match=r"at each sample \(sequence labelling.*every_step"):
        probe.check(whole)
    with pytest.raises(ConfigError, match="dice is not defined for classes within signals"):
        SEQUENCE.check_metrics(["dice"])
