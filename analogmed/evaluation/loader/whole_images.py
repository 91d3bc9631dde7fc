"""Scores of a loader whose network classifies whole images, or marked samples of signals."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from analogmed.evaluation.loader.batches import LoadedBatch
from analogmed.evaluation.loader.scoring import ImageValue, Score
from analogmed.foundation.errors import ConfigError
from analogmed.kinds.classification import MULTICLASS, MULTILABEL, Classification
from analogmed.kinds.kind import Scoring
from analogmed.kinds.sequence import NO_CLASS, SEQUENCE
from analogmed.metrics.registry import metric as registered

_IGNORED = -100  # of torch's losses


class WholeImages:
    """Scores of classified images by a registered metric, computed from all images together.

    Args:
        batches: batches with labels (B, 1) or (B, K); of marked samples (B, 1, samples).
        logits: logits of the first images, (B, K) or, at each sample, (B, K, samples).
        metric: name of a metric of images.

    Raises:
        ConfigError: the metric is no name of a metric of images, or the labels do not fit the
            logits.
    """

    expected = "positive and negative images of at least one class, two of each"

    def __init__(self, batches: Sequence[LoadedBatch], logits: Tensor, metric: str | Score) -> None:
        n_logits = logits.shape[1]
        labels = [batch.labels.flatten(1).cpu() for batch in batches]
        self._kind: Classification = SEQUENCE
        if logits.ndim == 2:
            self._kind = _kind_of(torch.cat(labels), n_logits)
        else:
            labels = [_marked(part, n_logits) for part in labels]
        self._labels: list[np.ndarray] = [one.numpy() for part in labels for one in part.split(1)]
        if not isinstance(metric, str):
            raise ConfigError(
                "metric: expected the name of a metric of images, such as auroc, for a network "
                f"that classifies whole images, got {type(metric).__name__}"
            )
        self._kind.check_metrics([metric], setting="metric")
        first = 1 if n_logits == 1 else 0
        names = tuple(f"class {index + first}" for index in range(n_logits))
        self._scoring = Scoring(names, (metric,), 0.0, "1")

    def values(self, logits: Iterable[Tensor]) -> Iterator[ImageValue]:
        """Yield the contributions of each image to the score of each class."""
        scorer = self._kind.scorer(self._scoring)
        for number, of_image in enumerate(logits):
            scorer.add(str(number), of_image, self._labels[number], ())
        for score in scorer.scores():
            yield int(score.case), score.class_name, score.value, score.unit, score.note


def classifies(logits: Tensor, metric: str | Score) -> bool:
    """Return whether logits are classes of images, or of samples by a metric of images."""
    of_samples = logits.ndim == 3 and isinstance(metric, str) and registered(metric).is_of_images
    return logits.ndim == 2 or of_samples


def _marked(labels: Tensor, n_logits: int) -> Tensor:
    """Return the classes of samples (B, samples) with ``NO_CLASS`` where they have none.

    Raises:
        ConfigError: there is another value than a class, ``NO_CLASS`` or torch's -100.
    """
    marked = labels.masked_fill(labels == _IGNORED, NO_CLASS)
    others = marked[(marked != NO_CLASS) & ((marked < 0) | (marked >= n_logits))].unique()
    if len(others):
        raise ConfigError(
            f"loader: labels of samples have the value {others[0]:g}; expected class indices below "
            f"{n_logits}, the number of logits, and {NO_CLASS} or {_IGNORED} for samples without a "
            "class"
        )
    return marked.to(torch.uint8)


def _kind_of(labels: Tensor, n_logits: int) -> Classification:
    """Return the kind that labels (n, T) have for a number of logits.

    Raises:
        ConfigError: they do not fit.
    """
    n_labels, values = labels.shape[1], labels.unique().tolist()
    if n_labels == n_logits and set(values) <= {0, 1}:
        return MULTILABEL
    if n_labels == 1 and n_logits > 1 and all(value in range(n_logits) for value in values):
        return MULTICLASS
    shown = ", ".join(f"{value:g}" for value in values[:5]) + ", ..." * (len(values) > 5)
    raise ConfigError(
        f"loader: labels of shape (B, {n_labels}) with the values {shown} do not fit {n_logits} "
        "logits for each image; expected 0 or 1 for each logit, (B, K), or class indices, (B,) or "
        "(B, 1), below the number of logits"
    )
