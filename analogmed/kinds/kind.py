"""Definition of a kind of task.

A task refers to its kind, and everything that differs between kinds is a method of it: the shape of
a reference, the logits, the training loss, the scores of a case, the primary metric, and the value
of undefined scores. Training, evaluation and search call these methods and do not ask for the kind.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest
from analogmed.metrics.metric import Metric
from analogmed.metrics.registry import metric, metric_names

if TYPE_CHECKING:
    from torch import Tensor

    from analogmed.network.probe import NetworkProbe

    SupervisedLoss = Callable[[Tensor, Tensor], Tensor]


class CaseScore(NamedTuple):
    """Value of one metric of one class of one case.

    Attributes:
        case: identifier of the case.
        class_name: name of the class.
        metric: name of the metric.
        value: value of the metric; NaN where it is undefined.
        unit: ``"1"``, or the unit of the spacing.
        note: why a value is undefined or special; empty otherwise.
    """

    case: str
    class_name: str
    metric: str
    value: float
    unit: str
    note: str


@dataclass(frozen=True)
class Scoring:
    """Settings of the scores of a network on the cases of a task.

    Attributes:
        classes: names of the classes of the task.
        metrics: names of the metrics.
        tolerance: accepted deviation of surfaces, in the unit of the spacing.
        unit: unit of the spacing, ``"mm"`` or ``"px"``.
        thresholds: threshold of the probability of each class, for a kind that decides by them; 0.5
            by default.
        apart: classes that are scored, but in no mean over classes.
    """

    classes: tuple[str, ...]
    metrics: tuple[str, ...]
    tolerance: float
    unit: str
    thresholds: tuple[float, ...] = ()
    apart: tuple[str, ...] = ()


class Scorer(ABC):
    """Scores of one network: predictions are added case by case.

    Args:
        scoring: classes, metrics and their settings.
    """

    def __init__(self, scoring: Scoring) -> None:
        self.scoring = scoring
        self.metrics = [metric(name) for name in scoring.metrics]

    @abstractmethod
    def add(self, case: str, logits: "Tensor", label: np.ndarray, spacing: Sequence[float]) -> None:
        """Add the prediction of a case.

        Args:
            case: identifier of the case.
            logits: output of the network for the N images of the case.
            label: reference of the case, see the kind.
            spacing: size of a voxel.

        Raises:
            NonFiniteError: a logit is NaN or Inf.
        """

    @abstractmethod
    def add_probabilities(
        self, case: str, prob: np.ndarray, label: np.ndarray, spacing: Sequence[float]
    ) -> None:
        """Add the prediction of a case as probabilities.

        Args:
            case: identifier of the case.
            prob: probabilities, as :meth:`Kind.positions` returns them.
            label: reference of the case, see the kind.
            spacing: size of a voxel.
        """

    @abstractmethod
    def scores(self) -> list[CaseScore]:
        """Return the scores of all cases, in the order in which these were added."""

    def thresholds(self) -> tuple[float, ...]:
        """Return the threshold of each class with the largest F1 on these cases; by default none.

        They are those of a kind that decides each class by a threshold.
        """
        return ()


class Kind(ABC):
    """Kind of a task.

    Attributes:
        name: name of the kind.
        predicts: what a network predicts, for messages.
        primary_metric: primary metric of tasks that name none.
        has_masks: whether a reference is a mask on the grid of its image.
        purpose: purpose of the networks of a search space for such tasks.
        has_thresholds: whether each class is decided by a threshold of its probability.
    """

    name: str
    predicts: str
    primary_metric: str
    has_masks: bool
    purpose: str
    has_thresholds = False

    @abstractmethod
    def n_logits(self, n_classes: int) -> int:
        """Return the number of logits K of a network for a number of classes."""

    @abstractmethod
    def probe(
        self, name: str, in_channels: int, n_classes: int, window: tuple[int, ...]
    ) -> "NetworkProbe":
        """Return the requirements on the outputs of a network.

        Args:
            name: name of the network in messages.
            in_channels: number of channels of an image.
            n_classes: number of classes.
            window: spatial size of the images.
        """

    @abstractmethod
    def holds(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """Return whether each image of a case has each class, bool, shape (N, classes)."""

    @abstractmethod
    def target(self, label: np.ndarray, corner: Sequence[int], window: tuple[int, ...]) -> "Tensor":
        """Return the training target of a patch of one image.

        Args:
            label: reference of the image.
            corner: lowest corner of the patch in the image.
            window: size of the patch.
        """

    @abstractmethod
    def loss(
        self,
        n_classes: int,
        *,
        dice: float,
        cross_entropy: float,
        focal: float = 0.0,
        class_shares: np.ndarray | None = None,
    ) -> "SupervisedLoss":
        """Return the loss of logits (B, K, ...) and their targets, a scalar.

        Args:
            n_classes: number of classes.
            dice: weight of the overlap term, where the kind has one.
            cross_entropy: weight of the cross-entropy.
            focal: exponent of the focal loss; 0 is the plain cross-entropy.
            class_shares: share of the training images with each class, by whose inverse classes are
                weighted; by default classes have no weights.

        Raises:
            ConfigError: the kind has no loss of these settings.
        """

    @abstractmethod
    def log_probabilities(self, logits: "Tensor", temperature: float) -> "Tensor":
        """Return logarithms of probabilities at a temperature; those along axis 1 sum to 1."""

    @abstractmethod
    def batch_score(self, logits: "Tensor", target: "Tensor") -> float:
        """Return a score of a training batch, higher is better; NaN if it is undefined.

        Args:
            logits: shape (B, K, ...).
            target: targets of the batch, see :meth:`target`.
        """

    @abstractmethod
    def positions(self, logits: "Tensor") -> "Tensor":
        """Return the probabilities of what is predicted at each position of N images.

        Returns:
            shape (N, K, *positions), where a reference of the kind has the shape (N, *positions):
            with K = 1 the probability of reference 1 against 0; otherwise those of the references 0
            to K - 1, which sum to 1.
        """

    def references(self, label: np.ndarray) -> np.ndarray:
        """Return the references of a case that are scored; by default its label.

        Args:
            label: reference of the images of the case.
        """
        return label

    def scored_logits(self, logits: "Tensor", label: np.ndarray) -> "Tensor":
        """Return the logits of :meth:`references`, in their order; by default all.

        Args:
            logits: shape (N, K, ...).
            label: reference of the images.
        """
        return logits

    def images_of(self, label: np.ndarray) -> np.ndarray:
        """Return the index of the image of each of :meth:`references`, rising.

        Args:
            label: reference of the images.
        """
        return np.arange(len(label))

    @abstractmethod
    def of_class(
        self, prob: np.ndarray, label: np.ndarray, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the probability of a class, and where the reference has it.

        Args:
            prob: probabilities, as :meth:`positions` returns them.
            label: reference of the images.
            index: index of the class, from 0.

        Returns:
            probability and bool mask of one shape.
        """

    @abstractmethod
    def cases_together(self, batch_size: int) -> int:
        """Return the number of cases that are predicted in one pass.

        On a chip, the noise of a pass restarts at its first case.

        Args:
            batch_size: number of images in a forward pass.
        """

    @abstractmethod
    def scorer(self, scoring: Scoring) -> Scorer:
        """Return an empty scorer of a network."""

    @abstractmethod
    def supports(self, metric: Metric) -> bool:
        """Return whether a metric is defined for this kind."""

    @abstractmethod
    def rows(self, classes: Sequence[str], metrics: Sequence[str]) -> list[tuple[str, str]]:
        """Return class and metric of each score of a case, in the order of the scorer."""

    @abstractmethod
    def undefined_score(
        self, name: str, label: np.ndarray, spacing: Sequence[float], tolerance: float
    ) -> float:
        """Return the score of a network where a metric is undefined for all cases.

        Args:
            name: name of the metric.
            label: reference of one case.
            spacing: size of its voxels.
            tolerance: accepted deviation of surfaces.

        Raises:
            DataError: the kind has no value for this; the message names the reason.
        """

    def check_metrics(self, names: Sequence[str], *, setting: str = "metrics") -> None:
        """Raise an error for a metric that is not defined for this kind.

        Args:
            names: names of the metrics.
            setting: name of the setting in the message.

        Raises:
            ConfigError: names the metric and those of this kind.
        """
        for name in names:
            if not self.supports(metric(name)):
                known = [each for each in metric_names() if self.supports(metric(each))]
                raise ConfigError(
                    f"{setting}: {name} is not defined for {self.predicts}; {nearest(name, known)}"
                )
