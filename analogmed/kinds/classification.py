"""Classification of whole images: exclusive classes, or labels that are independent of each other.

A reference has one row per image of a case, uint8: the class index, shape (N, 1), of exclusive
classes; 0 or 1 for each class, shape (N, classes), of independent labels. A network has one logit
per class. A score such as AUROC is no mean over cases: the value of a case is its contribution,
and the mean over all cases is the score (:mod:`analogmed.metrics.images`). A class whose score is
undefined has NaN for all cases, with the reason as note.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.kinds.kind import CaseScore, Kind, Scorer, Scoring
from analogmed.metrics.agreement import best_threshold
from analogmed.metrics.images import ClassImages, confusion, of_counts
from analogmed.metrics.metric import Metric
from analogmed.metrics.notes import APART, NO_VALUE
from analogmed.metrics.registry import label_of, metric

if TYPE_CHECKING:
    from torch import Tensor

    from analogmed.kinds.kind import SupervisedLoss
    from analogmed.network.probe import NetworkProbe

ALL = "all classes"
"""Class of scores that exclusive classes have together."""


class Classification(Kind):
    """Base of the kinds that classify whole images.

    Attributes:
        exclusive: whether an image has exactly one class.
    """

    predicts = "classes of whole images or signals"
    primary_metric = "auroc"
    has_masks = False
    purpose = "classification"
    exclusive: bool

    @abstractmethod
    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return the probability of each class, shape (N, K)."""

    @abstractmethod
    def of_positions(self, prob: np.ndarray) -> np.ndarray:
        """Return the probability of each class, shape (N, K), of those of positions."""

    def of_class(
        self, prob: np.ndarray, label: np.ndarray, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of a class and the images that have it, shape (N,)."""
        probability = self.of_positions(prob)
        return probability[:, index], self.holds(label, probability.shape[1])[:, index]

    @abstractmethod
    def decide(self, probability: np.ndarray, thresholds: Sequence[float] = ()) -> np.ndarray:
        """Return whether each class is predicted, bool, shape (N, K).

        Args:
            probability: probability of each class, shape (N, K).
            thresholds: threshold of each class, where the kind has thresholds; 0.5 by default.
        """

    def n_logits(self, n_classes: int) -> int:
        """Return the number of classes."""
        return n_classes

    def probe(
        self, name: str, in_channels: int, n_classes: int, window: tuple[int, ...]
    ) -> "NetworkProbe":
        """Return the requirement of one logit per class for each image."""
        from analogmed.network.probe import NetworkProbe

        meaning = "one logit per class for each image (a network that classifies whole images)"
        return NetworkProbe(name, in_channels, n_classes, window, logits_size=(), meaning=meaning)

    def target(self, label: np.ndarray, corner: Sequence[int], window: tuple[int, ...]) -> "Tensor":
        """Return the reference of the whole image."""
        import torch

        return torch.from_numpy(label.copy())

    def batch_score(self, logits: "Tensor", target: "Tensor") -> float:
        """Return the mean probability of the reference, since a batch may lack classes."""
        import torch

        log = self.log_probabilities(logits.detach().float(), 1.0)
        index = target.long() if log.ndim == target.ndim else target.long()[:, None]
        own = log.gather(1, index).exp()
        return float(own.mean()) if torch.isfinite(own).all() else math.nan

    def cases_together(self, batch_size: int) -> int:
        """Return the size of a batch: the images of all cases have one size."""
        return batch_size

    def scorer(self, scoring: Scoring) -> Scorer:
        """Return an empty scorer, which computes all scores at the end."""
        return _Scorer(scoring, self)

    def supports(self, metric: Metric) -> bool:
        """Return whether a metric is a score of classified images."""
        return metric.is_of_images

    def rows(self, classes: Sequence[str], metrics: Sequence[str]) -> list[tuple[str, str]]:
        """Return class and metric of each score; joint scores of exclusive classes are last."""
        joint = [name for name in metrics if self.exclusive and metric(name).joint]
        own = [(each, name) for each in classes for name in metrics if name not in joint]
        return own + [(ALL, name) for name in joint]

    def undefined_score(
        self, name: str, label: np.ndarray, spacing: Sequence[float], tolerance: float
    ) -> float:
        """Raise an error: without a defined class there is no score.

        Raises:
            DataError: names the metric.
        """
        raise DataError(
            f"{label_of(name)} is undefined for every class of the validation cases; expected "
            "positive and negative images of at least one class, in two cases each. Use more "
            "validation patients."
        )

    def _check_weight(self, cross_entropy: float) -> None:
        if cross_entropy == 0:
            raise ConfigError(
                f"loss.cross_entropy: the only term for {self.predicts}; expected a weight above "
                "0, got 0. Set loss.cross_entropy 1."
            )


class Multilabel(Classification):
    """Labels that an image has or lacks independently; one label is binary classification."""

    name = "multilabel"
    exclusive = False
    has_thresholds = True

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return the sigmoid of each logit."""
        return logits.sigmoid()

    def positions(self, logits: "Tensor") -> "Tensor":
        """Return the sigmoid of each logit, shape (N, 1, labels): a position is a label."""
        return self.probabilities(logits)[:, None]

    def of_positions(self, prob: np.ndarray) -> np.ndarray:
        """Return those of the labels."""
        return prob[:, 0]

    def decide(self, probability: np.ndarray, thresholds: Sequence[float] = ()) -> np.ndarray:
        """Return whether each probability is above its threshold."""
        return probability > np.array(thresholds or 0.5)

    def holds(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """Return whether each image has each label."""
        return label > 0

    def loss(
        self,
        n_classes: int,
        *,
        dice: float,
        cross_entropy: float,
        focal: float = 0.0,
        class_shares: np.ndarray | None = None,
    ) -> "SupervisedLoss":
        """Return the binary cross-entropy, a mean over labels; ``dice`` has no effect.

        A positive image of a label weighs as much more as there are more negative ones.

        Source: Lin et al. 2017, arXiv:1708.02002, for the focal loss.
        """
        import torch
        import torch.nn.functional as F
        from monai.losses.focal_loss import sigmoid_focal_loss

        self._check_weight(cross_entropy)
        if not focal and class_shares is None:
            return lambda logits, target: (
                cross_entropy * F.binary_cross_entropy_with_logits(logits, target.to(logits.dtype))
            )
        shares = np.full(n_classes, 0.5) if class_shares is None else _defined_shares(class_shares)
        positive = torch.from_numpy((1 - shares) / shares)

        def loss(logits: "Tensor", target: "Tensor") -> "Tensor":
            labels = target.to(logits.dtype)
            weights = torch.where(target > 0, positive.to(logits), 1.0)
            found: Tensor = (weights * sigmoid_focal_loss(logits, labels, focal)).mean()
            return cross_entropy * found

        return loss

    def log_probabilities(self, logits: "Tensor", temperature: float) -> "Tensor":
        """Return those of absence and presence, shape (B, 2, K)."""
        import torch
        import torch.nn.functional as F

        scaled = logits / temperature
        return torch.stack([F.logsigmoid(-scaled), F.logsigmoid(scaled)], dim=1)


class Multiclass(Classification):
    """Exclusive classes: each image has exactly one."""

    name = "multiclass"
    exclusive = True

    def probabilities(self, logits: "Tensor") -> "Tensor":
        """Return the softmax of the logits."""
        return logits.softmax(dim=1)

    def positions(self, logits: "Tensor") -> "Tensor":
        """Return the softmax of the logits, shape (N, classes, 1): an image is one position."""
        return self.probabilities(logits)[..., None]

    def of_positions(self, prob: np.ndarray) -> np.ndarray:
        """Return those of the classes."""
        return prob[..., 0]

    def decide(self, probability: np.ndarray, thresholds: Sequence[float] = ()) -> np.ndarray:
        """Return whether each class is the most probable one."""
        return np.eye(probability.shape[1], dtype=bool)[probability.argmax(axis=1)]

    def holds(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """Return whether each image has each class."""
        return label == np.arange(n_classes)

    def loss(
        self,
        n_classes: int,
        *,
        dice: float,
        cross_entropy: float,
        focal: float = 0.0,
        class_shares: np.ndarray | None = None,
    ) -> "SupervisedLoss":
        """Return the cross-entropy; ``dice`` has no effect.

        Weights of classes are relative to the sum of the weights of a batch.

        Source: Lin et al. 2017, arXiv:1708.02002, for the focal loss.
        """
        import torch
        import torch.nn.functional as F
        from monai.losses.focal_loss import softmax_focal_loss

        self._check_weight(cross_entropy)
        if not focal and class_shares is None:
            return lambda logits, target: cross_entropy * F.cross_entropy(logits, target[:, 0])
        shares = np.ones(n_classes) if class_shares is None else _defined_shares(class_shares)
        weight = torch.from_numpy(1 / shares)

        def loss(logits: "Tensor", target: "Tensor") -> "Tensor":
            index = target[:, 0]
            one_hot = F.one_hot(index, logits.shape[1]).to(logits.dtype)
            weights = weight.to(logits)[index]
            each = softmax_focal_loss(logits, one_hot, focal).sum(1)
            return cross_entropy * (weights * each).sum() / weights.sum()

        return loss

    def log_probabilities(self, logits: "Tensor", temperature: float) -> "Tensor":
        """Return those of the classes, shape (B, K)."""
        import torch.nn.functional as F

        return F.log_softmax(logits / temperature, dim=1)


def _defined_shares(shares: np.ndarray) -> np.ndarray:
    """Return the shares of classes; a class of no image or of all counts as half of them."""
    return np.where((shares > 0) & (shares < 1), shares, 0.5)


class _Scorer(Scorer):
    """Scores of classified images, computed from all of them together."""

    def __init__(self, scoring: Scoring, kind: Classification) -> None:
        super().__init__(scoring)
        self._kind = kind
        self._cases: list[str] = []
        self._probabilities: list[np.ndarray] = []
        self._references: list[np.ndarray] = []

    def add(self, case: str, logits: "Tensor", label: np.ndarray, spacing: Sequence[float]) -> None:
        """Keep probabilities and reference of a case."""
        from analogmed.network.inference import require_finite

        require_finite(logits)
        scored = self._kind.scored_logits(logits, label).double()
        probability = self._kind.probabilities(scored).cpu().numpy()
        self._add(case, probability, self._kind.references(label))

    def add_probabilities(
        self, case: str, prob: np.ndarray, label: np.ndarray, spacing: Sequence[float]
    ) -> None:
        """Keep probabilities and reference of a case."""
        self._add(case, self._kind.of_positions(prob), label)

    def _add(self, case: str, probability: np.ndarray, label: np.ndarray) -> None:
        self._cases.append(case)
        self._probabilities.append(probability)
        self._references.append(self._kind.holds(label, len(self.scoring.classes)))

    def thresholds(self) -> tuple[float, ...]:
        """Return the threshold of each class with the largest F1, if the kind has thresholds."""
        if not self._kind.has_thresholds:
            return ()
        probability, reference = map(np.concatenate, (self._probabilities, self._references))
        return tuple(map(best_threshold, probability.T, reference.T))

    def scores(self) -> list[CaseScore]:
        """Return the contribution of each case to each score."""
        classes = self.scoring.classes
        lengths = [len(part) for part in self._references]
        case = np.repeat(np.arange(len(lengths)), lengths)
        probability = np.concatenate(self._probabilities)
        reference = np.concatenate(self._references)
        decided = self._kind.decide(probability, self.scoring.thresholds)
        terms: list[tuple[str, Metric, np.ndarray, str]] = []
        for name, metric_name in self._kind.rows(classes, self.scoring.metrics):
            score = metric(metric_name)
            if name == ALL:
                counts = confusion(
                    reference.argmax(axis=1), decided.argmax(axis=1), case, len(classes)
                )
                terms.append((name, score, *_defined(score, counts, "")))
                continue
            index = classes.index(name)
            images = ClassImages(reference[:, index], probability[:, index], case)
            terms.append((name, score, *_terms(score, images, decided[:, index])))
        apart = self.scoring.apart
        return [
            CaseScore(
                case_id,
                name,
                score.name,
                float(values[number]),
                score.unit,
                note or (APART if name in apart else ""),
            )
            for number, case_id in enumerate(self._cases)
            for name, score, values, note in terms
        ]


def _terms(score: Metric, images: ClassImages, decided: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the contributions of cases to the score of one class, and a note if undefined."""
    if score.rank_terms is None:
        counts = confusion(images.positive.astype(int), decided.astype(int), images.case, 2)
        return _defined(score, counts, images.note)
    if images.note:
        return np.full(images.n_cases, np.nan), images.note
    return score.rank_terms(images), ""


def _defined(score: Metric, counts: np.ndarray, note: str) -> tuple[np.ndarray, str]:
    """Return contributions to a score of counts; all are NaN, with a note, if any is undefined."""
    assert score.count_score is not None
    values = of_counts(score.count_score, counts)
    if np.isfinite(values).all():
        return values, ""
    return np.full(len(values), np.nan), note or NO_VALUE


MULTILABEL, MULTICLASS = Multilabel(), Multiclass()
