"""Robustness of a network that classifies whole images, from a loader."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

import analogmed as am
from analogmed.foundation.errors import ConfigError

IMAGES = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
BRIGHT = (IMAGES.mean((1, 2, 3)) > IMAGES.mean()).long()


def on_tiles(n_logits):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, n_logits)
    ).eval()
    return network, am.calibrate(am.convert(network, "pcm"), [IMAGES])


@pytest.mark.parametrize(
    ("n_logits", "labels"),
    [(1, BRIGHT), (2, torch.stack([BRIGHT, 1 - BRIGHT], 1).float()), (2, BRIGHT)],
    ids=["binary", "multilabel", "multiclass"],
)
def test_scores_are_those_of_all_images_together(n_logits, labels):
    network, analog = on_tiles(n_logits)
    loader = [(IMAGES[:8], labels[:8]), (IMAGES[8:], labels[8:])]
    result = am.robustness(analog, loader, metric="auroc", times=["t0"], chips=2)
    digital = result.values[result.values["hardware"] == "digital"]
    with torch.no_grad():
        logits = network(IMAGES)
    is_index = labels.ndim == 1 and n_logits > 1
    score = logits.softmax(1) if is_index else logits
    positive = labels[:, None] == torch.arange(n_logits) if is_index else labels.reshape(12, -1)
    expected = [roc_auc_score(positive[:, k], score[:, k]) for k in range(n_logits)]
    found = digital.groupby("class")["value"].mean()
    assert found.to_list() == pytest.approx(expected)
    assert result.table.loc["digital", "auroc"] == pytest.approx(np.mean(expected))
    assert result.notes == []


SIGNALS = torch.rand(12, 2, 16, generator=torch.Generator().manual_seed(1))
RISING = (SIGNALS.mean((1, 2)) > SIGNALS.mean()).long()


@pytest.mark.parametrize(
    ("n_logits", "labels", "metric"),
    [
        (1, RISING[:, None], "auroc"),
        (2, RISING[:, None], "auroc"),
        (2, torch.stack([RISING, 1 - RISING], 1), "auroc"),
        (2, SIGNALS[:, 0].round().long(), "dice"),
    ],
    ids=["binary", "multiclass", "multilabel", "positions"],
)
def test_labels_of_signals_with_two_axes_are_read_as_the_logits_need(n_logits, labels, metric):
    torch.manual_seed(0)
    layers = [nn.Conv1d(2, n_logits, 3, padding=1)]
    if metric == "auroc":
        layers += [nn.AdaptiveAvgPool1d(1), nn.Flatten()]
    analog = am.calibrate(am.convert(nn.Sequential(*layers).eval(), "pcm"), [SIGNALS])
    result = am.robustness(analog, [(SIGNALS, labels)], metric=metric, times=["t0"], chips=2)
    assert np.isfinite(result.table.loc["digital", metric])


MARKED = torch.full((12, 16), -100)  # two classes at some samples of each signal
MARKED[:, 3], MARKED[:, 9] = RISING, SIGNALS[:, 0, 9].round().long()
MARKED[5:, 9] = 255
AT_EACH_SAMPLE = nn.Sequential(nn.Conv1d(2, 3, 3, padding=1)).eval()


def test_marked_samples_of_signals_have_the_score_of_all_of_them_together():
    analog = am.calibrate(am.convert(AT_EACH_SAMPLE, "pcm"), [SIGNALS])
    loader = [(SIGNALS[:7], MARKED[:7]), (SIGNALS[7:], MARKED[7:])]
    result = am.robustness(analog, loader, metric="auroc", times=["t0"], chips=2)
    with torch.no_grad():
        prob = AT_EACH_SAMPLE(SIGNALS).softmax(1).movedim(1, 2)
    marked = (MARKED >= 0) & (MARKED < 255)
    expected = [roc_auc_score(MARKED[marked] == k, prob[marked][:, k]) for k in range(2)]
    assert int(marked.sum()) == 17
    assert result.table.loc["digital", "auroc"] == pytest.approx(np.mean(expected))
    assert "class 2: no positive case, and so in no mean" in result.notes


def test_a_marked_sample_of_no_class_is_refused():
    analog = am.calibrate(am.convert(AT_EACH_SAMPLE, "pcm"), [SIGNALS])
    with pytest.raises(ConfigError, match=r"have the value 7; expected class indices below 3, the"):
        am.robustness(
            analog, [(SIGNALS, MARKED.where(MARKED != 1, 7))], metric="auroc", times=["t0"], chips=2
        )


def test_an_undefined_class_is_named():
    _, analog = on_tiles(2)
    labels = torch.stack([BRIGHT, torch.zeros_like(BRIGHT)], 1)
    result = am.robustness(analog, [(IMAGES, labels)], metric="auroc", times=["t0"], chips=2)
    assert result.notes == ["class 1: no positive case, and so in no mean"]


@pytest.mark.parametrize(
    ("labels", "metric", "message"),
    [
        (BRIGHT, "dice", "metric: dice is not defined for classes of whole"),
        (BRIGHT, roc_auc_score, "metric: expected the name of a metric of images, such as auroc"),
        (BRIGHT + 5, "auroc", r"labels of shape \(B, 1\) with the values 5, 6 do not fit 2 logits"),
        (0 * BRIGHT, "auroc", "auroc is undefined for all 12 images; expected positive and neg"),
    ],
)
def test_what_does_not_fit_is_refused(labels, metric, message):
    _, analog = on_tiles(2)
    with pytest.raises(ConfigError, match=message):
        am.robustness(analog, [(IMAGES, labels)], metric=metric, times=["t0"], chips=2)
