"""Segmentation metrics of one case, with a defined value for empty structures.

MONAI computes the distances of surfaces. This module defines values of empty masks, for which MONAI
1.6 has no suitable rule.
A missed structure is the worst result instead of a NaN that drops out of the mean. Voxel counts are
exact, while MONAI rounds them to float32, which miscounts a small structure in a volume of more
than 2**24 voxels.

| reference | prediction | dice, jaccard, f1, nsd | precision | sensitivity | hd95 | note |
|---|---|---|---|---|---|---|
| present | present | computed | computed | computed | computed | |
| present | empty | 0 | 0 | 0 | image diagonal | missed structure |
| empty | present | 0 | 0 | NaN | image diagonal | spurious structure |
| empty | empty | NaN | NaN | NaN | NaN | both empty |

Specificity is always computed; it is NaN only where the reference fills the whole image.

For a case of several separate images, the table applies to each image for the surface metrics, and
the note refers to the whole case: ``missed structure`` means that the prediction misses the
structure in at least one image. ``spurious in some images`` means that the prediction contains it
in an image in which the reference does not, although the reference contains it in another one.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from analogmed.metrics.masks import check_same_shape, checked_spacing, checked_tolerances, class_map
from analogmed.metrics.metric import Metric
from analogmed.metrics.notes import ABSENT
from analogmed.metrics.registry import METRICS, metric
from analogmed.metrics.structure import Structure, structures


class CaseMetric(NamedTuple):
    """One metric of one class of one case.

    Attributes:
        class_index: index in the class map, 1 for the first foreground class.
        metric: name of the metric.
        value: value of the metric; NaN where it is undefined.
        unit: ``"1"``, or the unit of the spacing for ``hd95``.
        note: note of empty masks; empty text if neither is empty.
    """

    class_index: int
    metric: str
    value: float
    unit: str
    note: str


def case_metrics(
    pred: np.ndarray | torch.Tensor,
    label: np.ndarray | torch.Tensor,
    *,
    n_classes: int,
    spacing: Sequence[float],
    tolerance: float | Sequence[float],
    unit: str,
    metrics: Sequence[str] = METRICS,
) -> list[CaseMetric]:
    """Compute the metrics of every foreground class of one whole case.

    Overlap metrics pool all voxels of the case. Surface distances are computed in the dimensions
    that ``spacing`` covers. With one value per axis of ``label``, its N slices form one volume.
    With one value fewer, each of the N images is compared separately, and the mean is over the
    images where the structure is in the reference or in the prediction.

    Args:
        pred: predicted class indices, integer or bool, shape (N, *spatial).
        label: reference class indices, same shape.
        n_classes: number of foreground classes, ``len(task.classes)``; 0 is background.
        spacing: size of a voxel along the last ``len(spacing)`` axes.
        tolerance: accepted surface deviation of ``nsd``, one value or one per class.
        unit: unit of ``spacing`` and ``tolerance``, ``"mm"`` or ``"px"``.
        metrics: names of metrics.

    Returns:
        One entry per class and metric, classes first, metrics in the requested order.

    Raises:
        ShapeError: the shapes differ, the case is empty, or ``spacing`` fits no axis count.
        NonFiniteError: an input contains NaN or Inf.
        ValueError: an input does not contain class indices (but logits or probabilities), or
            contains one beyond ``n_classes``.
        ConfigError: a metric is unknown, or a spacing or tolerance is out of its range.

    Example:
        >>> label = np.zeros((1, 8, 8), dtype=np.uint8)
        >>> label[0, 2:6, 2:6] = 1
        >>> pred = np.roll(label, 1, axis=2)
        >>> for row in case_metrics(pred, label, n_classes=1, spacing=(0.5, 0.5), tolerance=0.5,
        ...                         unit="mm", metrics=("dice", "hd95", "nsd")):
        ...     print(row.metric, row.value, row.unit)
        dice 0.75 1
        hd95 0.5 mm
        nsd 1.0 1
    """
    scores = [metric(name) for name in metrics]
    pred_map, label_map = class_map(pred, "pred", n_classes), class_map(label, "label", n_classes)
    check_same_shape(pred_map.shape, label_map.shape)
    spacing = checked_spacing(spacing, label_map.ndim)
    tolerances = checked_tolerances(tolerance, n_classes)
    return [
        CaseMetric(index, score.name, *_with_unit(score, structure, unit))
        for index, structure in enumerate(
            structures(pred_map, label_map, spacing, tolerances), start=1
        )
        for score in scores
    ]


def _with_unit(score: Metric, structure: Structure, unit: str) -> tuple[float, str, str]:
    value, note = score.value(structure)
    return value, score.unit_for(unit), note


def mean_of_present(found: Iterable[CaseMetric]) -> float:
    """Return the mean of a metric over the classes that the reference contains; NaN without one."""
    values = [row.value for row in found if row.note not in ABSENT]
    return float(np.mean(values)) if values else math.nan


def mean_dice(pred: np.ndarray | torch.Tensor, label: np.ndarray, n_classes: int) -> float:
    """Return the Dice of one case, mean over the classes of its reference; NaN without one.

    Args:
        pred: predicted class indices, integer or bool, shape (N, *spatial).
        label: reference class indices, same shape.
        n_classes: number of foreground classes.

    Raises:
        ShapeError, NonFiniteError, ValueError: as for :func:`case_metrics`.
    """
    found = case_metrics(
        pred,
        label,
        n_classes=n_classes,
        spacing=(1.0,) * (label.ndim - 1),
        tolerance=0.0,
        unit="px",
        metrics=("dice",),
    )
    return mean_of_present(found)
