"""Training objectives: loss of the kind of task at all heads, and distillation from a teacher."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analogmed.data import Task
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.kinds.kind import Kind
from analogmed.kinds.segmentation import SEGMENTATION
from analogmed.training.settings import LossConfig

Loss = Callable[[Tensor, Tensor | Sequence[Tensor], Tensor], Tensor]


def make_loss(
    task: Task,
    config: LossConfig,
    teacher: nn.Module | None = None,
    class_shares: np.ndarray | None = None,
) -> Loss:
    """Return the loss of a batch, a function of its images, the network's outputs and the labels.

    The kind of the task defines the loss of logits and labels. With deep supervision it is the mean
    over the heads, weighted by 1, 1/2, 1/4, ...: labels are resampled to the resolution of a head
    by nearest neighbour, as in nnU-Net and MONAI's ``DeepSupervisionLoss``. Distillation compares
    only the last logits. All computations are in float32.

    Args:
        task: task that determines the kind and the number of logits.
        config: weights of the terms.
        teacher: network with the same logits for distillation; it is put in evaluation mode, and
            run for each batch, without gradients.
        class_shares: share of the training images with each class, for class weights.

    Returns:
        a function of images (B, C, *window), outputs (B, K, *window) or a sequence of these whose
        first is of full resolution, and class indices (B, 1, *window); its value is a scalar. For
        a kind without masks, outputs are (B, K) and labels (B, targets).

    Raises:
        ConfigError: distillation without a teacher, or class weights that the kind of the task does
            not have; from the function: deep supervision of a
            network that returns a single output. ShapeError, from the function too: logits of
            another size than the labels.

    Source: Isensee et al. 2021, doi:10.1038/s41592-020-01008-z, for the weights of the heads;
    Hinton, Vinyals, Dean 2015, arXiv:1503.02531, for distillation.
    """
    supervised = task.kind.loss(
        len(task.classes),
        dice=config.dice,
        cross_entropy=config.cross_entropy,
        focal=config.focal,
        class_shares=class_shares if config.class_weights == "balanced" else None,
    )
    if teacher is not None:
        teacher.eval()
    elif config.distillation > 0:
        raise ConfigError(
            "loss.distillation needs a network to learn from; set init or loss.teacher"
        )

    def loss_of(images: Tensor, outputs: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        heads = _heads(outputs, deep_supervision=config.deep_supervision)
        if heads[0].shape[2:] != labels.shape[2:]:
            raise ShapeError(
                f"the network gives logits of {tuple(heads[0].shape[2:])} for patches of "
                f"{tuple(labels.shape[2:])}; a network that is trained here keeps the size"
            )
        total = deep_supervision(supervised, heads, labels)
        if config.distillation > 0 and teacher is not None:
            with torch.no_grad():
                soft = teacher(images)
            divergence = distillation(heads[0], soft, config.temperature, kind=task.kind)
            total = total + config.distillation * divergence
        return total

    return loss_of


def deep_supervision(
    loss: Callable[[Tensor, Tensor], Tensor], heads: Sequence[Tensor], labels: Tensor
) -> Tensor:
    """Return the mean of a loss over the heads of a network, with weights 1, 1/2, 1/4, ...

    Args:
        loss: function of logits and labels of the same resolution.
        heads: logits, finest first, each (B, K, *spatial).
        labels: class indices, (B, 1, *spatial) of the first head.
    """
    weights = [0.5**depth for depth in range(len(heads))]
    losses = (
        weight * loss(head.float(), _resampled(labels, tuple(head.shape[2:])))
        for weight, head in zip(weights, heads, strict=True)
    )
    return torch.stack(list(losses)).sum() / sum(weights)


def distillation(
    logits: Tensor,
    teacher_logits: Tensor,
    temperature: float = 1.0,
    *,
    kind: Kind = SEGMENTATION,
) -> Tensor:
    """Return the divergence of a network's probabilities from those of its teacher.

    It is the mean over all positions of KL(teacher || network) of their class probabilities at a
    temperature, times the temperature squared, so that gradients keep their size. One logit
    represents two classes: the divergence is then the binary cross-entropy minus the teacher's
    entropy.

    Args:
        logits: logits of the network, shape (B, K, *spatial) or (B, K).
        teacher_logits: logits of the teacher, same shape.
        temperature: softmax temperature; values above 1 soften the probabilities.
        kind: kind of the task, which defines the probabilities.

    Source: Hinton, Vinyals, Dean 2015, arXiv:1503.02531.
    """
    learned, given = (
        kind.log_probabilities(values.float(), temperature) for values in (logits, teacher_logits)
    )
    divergence = F.kl_div(learned, given, reduction="none", log_target=True).sum(1)
    return divergence.mean() * temperature**2


def _heads(outputs: Tensor | Sequence[Tensor], *, deep_supervision: bool) -> Sequence[Tensor]:
    heads = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    if not deep_supervision:
        return heads[:1]
    if len(heads) == 1:
        raise ConfigError(
            "loss.deep_supervision: the network gives a single output in training; take unetpp or "
            "dynunet with model.options.deep_supervision: true, or switch loss.deep_supervision off"
        )
    return heads


def _resampled(labels: Tensor, size: tuple[int, ...]) -> Tensor:
    if tuple(labels.shape[2:]) == size:
        return labels
    return F.interpolate(labels.float(), size=size, mode="nearest-exact").to(labels.dtype)
