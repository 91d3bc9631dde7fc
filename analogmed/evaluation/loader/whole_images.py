"""Scores of a loader whose network classifies whole images."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from analogmed.evaluation.loader.batches import LoadedBatch
from analogmed.evaluation.loader.scoring import ImageValue, Score
from analogmed.foundation.errors import ConfigError
from analogmed.kinds.classification import MULTICLASS, MULTILABEL, Classification
from analogmed.kinds.kind import Scoring


class WholeImages:
    """Scores of classified images by a registered metric, computed from all images together.

    Args:
        batches: batches with labels (B, 1) or (B, K).
        n_logits: number of logits K.
        metric: name of a metric of images.

    Raises:
        ConfigError: the metric is no name of a metric of images, or the labels do not fit the
            logits.
    """

    expected = "positive and negative images of at least one class, two of each"

    def __init__(self, batches: Sequence[LoadedBatch], n_logits: int, metric: str | Score) -> None:
        labels = [batch.labels.flatten(1) for batch in batches]
        self._labels = torch.cat(labels).cpu()
        self._kind = _kind_of(self._labels, n_logits)
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
            scorer.add(str(number), of_image, self._labels[number, None].numpy(), ())
        for score in scorer.scores():
            yield int(score.case), score.class_name, score.value, score.unit, score.note


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
