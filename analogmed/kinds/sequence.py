"""Sequence labelling: exclusive classes at marked places of a signal, such as those of heartbeats.

A reference has a class index at each marked sample and ``NO_CLASS`` at all others, uint8, shape
(N, samples). A network has one logit per class at each sample; those at marked samples count. Their
scores are those of :mod:`analogmed.kinds.classification`, where a marked sample is an image.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from analogmed.kinds.classification import Multiclass
from analogmed.kinds.patch import cropped

if TYPE_CHECKING:
    from torch import Tensor

    from analogmed.kinds.kind import SupervisedLoss
    from analogmed.network.probe import NetworkProbe

NO_CLASS = 255
"""Reference of samples without a class."""


class SequenceLabelling(Multiclass):
    """Exclusive classes at marked samples of a signal."""

    name = "sequence"
    predicts = "classes within signals"
    purpose = "sequence labelling"

    def probe(
        self, name: str, in_channels: int, n_classes: int, window: tuple[int, ...]
    ) -> "NetworkProbe":
        """Return the requirement of one logit per class at each sample."""
        from analogmed.network.probe import NetworkProbe

        meaning = (
            "one logit per class at each sample (sequence labelling; networks for signals have the "
            "option every_step for it)"
        )
        return NetworkProbe(name, in_channels, n_classes, window, meaning=meaning)

    def target(self, label: np.ndarray, corner: Sequence[int], window: tuple[int, ...]) -> "Tensor":
        """Return the classes of the patch, shape (1, *window)."""
        return cropped(label[None], corner, window, fill=NO_CLASS)

    def holds(self, label: np.ndarray, n_classes: int) -> np.ndarray:
        """Return whether each signal, or each marked sample, has each class."""
        return np.asarray((label[..., None] == np.arange(n_classes)).any(axis=1))

    def references(self, label: np.ndarray) -> np.ndarray:
        """Return the class indices of the marked samples, shape (n, 1)."""
        return label[label != NO_CLASS][:, None]

    def scored_logits(self, logits: "Tensor", label: np.ndarray) -> "Tensor":
        """Return the logits at the marked samples, shape (n, classes)."""
        import torch

        marked = torch.from_numpy(label != NO_CLASS).to(logits.device)
        return logits.movedim(1, -1)[marked]

    def images_of(self, label: np.ndarray) -> np.ndarray:
        """Return the signal of each marked sample."""
        return np.nonzero(label != NO_CLASS)[0]

    def loss(
        self,
        n_classes: int,
        *,
        dice: float,
        cross_entropy: float,
        focal: float = 0.0,
        class_shares: np.ndarray | None = None,
    ) -> "SupervisedLoss":
        """Return that of exclusive classes at the marked samples; 0 for a batch without any."""
        of_marked = super().loss(
            n_classes,
            dice=dice,
            cross_entropy=cross_entropy,
            focal=focal,
            class_shares=class_shares,
        )

        def loss(logits: "Tensor", target: "Tensor") -> "Tensor":
            marked = target[:, 0] != NO_CLASS
            if not marked.any():
                return logits.sum() * 0
            return of_marked(logits.movedim(1, -1)[marked], target[:, 0][marked][:, None])

        return loss

    def batch_score(self, logits: "Tensor", target: "Tensor") -> float:
        """Return the mean probability of the reference at the marked samples."""
        marked = target[:, 0] != NO_CLASS
        return super().batch_score(logits.movedim(1, -1)[marked], target[:, 0][marked][:, None])


SEQUENCE = SequenceLabelling()
