"""Segmentation: a class for each voxel.

A reference is a map of class indices, uint8, shape (N, *spatial), with 0 for the background. One
class has one logit with a sigmoid; several have one logit each and one for the background, with a
softmax. Scores are computed for each case and class; :mod:`analogmed.metrics.case` defines those
of empty structures.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from analogmed.foundation.errors import ConfigError
from analogmed.kinds.kind import CaseScore, Kind, Scorer, Scoring
from analogmed.kinds.patch import cropped
from analogmed.metrics.metric import Metric
from analogmed.metrics.notes import BOTH_EMPTY, MISSED
from analogmed.metrics.registry import PRIMARY, metric
from analogmed.metrics.structure import Structure

if TYPE_CHECKING:
    from torch import Tensor

    from analogmed.kinds.kind import SupervisedLoss
    from analogmed.network.probe import NetworkProbe


class _Scorer(Scorer):
    """Scores of masks, computed when a case is added."""

    def __init__(self, scoring: Scoring) -> None:
        super().__init__(scoring)
        self._scores: list[CaseScore] = []

    def add(self, case: str, logits: "Tensor", label: np.ndarray, spacing: Sequence[float]) -> None:
        """Compute and keep the scores of a case."""
        from analogmed.network.inference import to_classes

        self._add_classes(case, to_classes(logits).cpu().numpy(), label, spacing)

    def add_probabilities(
        self, case: str, prob: np.ndarray, label: np.ndarray, spacing: Sequence[float]
    ) -> None:
        """Compute and keep the scores of a case."""
        self._add_classes(case, classes_of(prob), label, spacing)

    def _add_classes(
        self, case: str, classes: np.ndarray, label: np.ndarray, spacing: Sequence[float]
    ) -> None:
        from analogmed.metrics.case import case_metrics

        scoring = self.scoring
        found = case_metrics(
            classes,
            label,
            n_classes=len(scoring.classes),
            spacing=spacing,
            tolerance=scoring.tolerance,
            unit=scoring.unit,
            metrics=scoring.metrics,
        )
        self._scores += [
            CaseScore(
                case,
                scoring.classes[row.class_index - 1],
                row.metric,
                row.value,
                row.unit,
                row.note,
            )
            for row in found
        ]

    def scores(self) -> list[CaseScore]:
        """Return the scores of all cases."""
        return self._scores


def classes_of(prob: np.ndarray) -> np.ndarray:
    """Return the class indices, uint8, (N, *spatial), of (N, K, *spatial) probabilities."""
    indices = prob[:, 0] > 0.5 if prob.shape[1] == 1 else prob.argmax(1)
    return indices.astype(np.uint8)


class Segmentation(Kind):
    """A class for each voxel."""

    name = predicts = "segmentation"
    primary_metric = PRIMARY
    has_masks = True
    purpose = "segmentation"

    def n_logits(self, n_classes: int) -> int:
        """Return 1 for one class, else the number of classes and the background."""
        return 1 if n_classes == 1 else n_classes + 1

    def probe(
        self, name: str, in_channels: int, n_classes: int, window: tuple[int, ...]
    ) -> "NetworkProbe":
        """Return the requirement of logits at the size of the images."""
        from analogmed.network.probe import NetworkProbe

        return NetworkProbe(name, in_channels, self.n_logits(n_classes), window)

    def holds(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """Return whether each image has a voxel of each class."""
        spatial = tuple(range(1, label.ndim))
        classes = range(1, n_classes + 1)
        return np.stack([(label == index).any(axis=spatial) for index in classes], axis=1)

    def target(self, label: np.ndarray, corner: Sequence[int], window: tuple[int, ...]) -> "Tensor":
        """Return the mask of the patch, shape (1, *window)."""
        return cropped(label[None], corner, window)

    def loss(
        self,
        n_classes: int,
        *,
        dice: float,
        cross_entropy: float,
        focal: float = 0.0,
        class_shares: np.ndarray | None = None,
    ) -> "SupervisedLoss":
        """Return MONAI's ``DiceCELoss``: Dice over the whole batch, and cross-entropy.

        With a focal exponent, MONAI's ``FocalLoss`` takes the place of the cross-entropy. Its mean
        over classes is multiplied by their number, so that an exponent of 0 is the cross-entropy.

        Raises:
            ConfigError: classes have weights.
        """
        from monai.losses import DiceCELoss, DiceLoss, FocalLoss

        if class_shares is not None:
            raise ConfigError(
                "loss.class_weights: not defined for segmentation, whose Dice term weighs all "
                "classes equally; expected none, got balanced. Raise loss.dice."
            )
        one = self.n_logits(n_classes) == 1
        form: dict[str, Any] = {
            "sigmoid": one,
            "softmax": not one,
            "to_onehot_y": not one,
            "batch": True,
        }
        if not focal:
            return DiceCELoss(**form, lambda_dice=dice, lambda_ce=cross_entropy)
        overlap = DiceLoss(**form)
        focused = FocalLoss(gamma=focal, to_onehot_y=not one, use_softmax=not one)
        scale = cross_entropy * self.n_logits(n_classes)
        return lambda logits, target: (
            dice * overlap(logits, target) + scale * focused(logits, target)
        )

    def log_probabilities(self, logits: "Tensor", temperature: float) -> "Tensor":
        """Return those of all classes; a single logit is that against a background of 0."""
        import torch
        import torch.nn.functional as F

        if logits.shape[1] == 1:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return F.log_softmax(logits / temperature, dim=1)

    def batch_score(self, logits: "Tensor", target: "Tensor") -> float:
        """Return the mean Dice over the classes that the batch or its prediction contains."""
        import torch

        from analogmed.metrics.case import case_metrics
        from analogmed.network.inference import to_classes

        if not torch.isfinite(logits).all():
            return math.nan
        found = case_metrics(
            to_classes(logits.detach()),
            target[:, 0],
            n_classes=max(1, logits.shape[1] - 1),
            spacing=(1.0,) * (target.ndim - 2),
            tolerance=0.0,
            unit="px",
            metrics=(PRIMARY,),
        )
        scores = [row.value for row in found if row.note != BOTH_EMPTY]
        return sum(scores) / len(scores) if scores else math.nan

    def positions(self, logits: "Tensor") -> "Tensor":
        """Return the sigmoid of one logit or the softmax of several; shape (N, K, *spatial)."""
        return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)

    def of_class(
        self, prob: np.ndarray, label: np.ndarray, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability map of a class and its mask, shape (N, *spatial)."""
        return prob[:, 0 if prob.shape[1] == 1 else index + 1], label == index + 1

    def cases_together(self, batch_size: int) -> int:
        """Return 1: cases differ in size, and their results do not depend on each other."""
        return 1

    def scorer(self, scoring: Scoring) -> Scorer:
        """Return an empty scorer of masks."""
        return _Scorer(scoring)

    def supports(self, metric: Metric) -> bool:
        """Return whether a metric is a score of masks."""
        return metric.is_of_masks

    def rows(self, classes: Sequence[str], metrics: Sequence[str]) -> list[tuple[str, str]]:
        """Return class and metric of each score, classes first."""
        return [(name, each) for name in classes for each in metrics]

    def undefined_score(
        self, name: str, label: np.ndarray, spacing: Sequence[float], tolerance: float
    ) -> float:
        """Return the value of a missed structure."""
        is_volume = len(spacing) == label.ndim
        mask = (label if is_volume else label[0]) > 0
        structure = Structure(mask, mask, tuple(spacing), tolerance)
        return metric(name).for_empty(MISSED, structure)


SEGMENTATION = Segmentation()
"""The kind of tasks that name none."""
