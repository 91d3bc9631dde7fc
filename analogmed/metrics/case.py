"""Segmentation metrics of one case, with a stated value for empty structures.

MONAI computes them; what is added here is the policy where MONAI is silent or wrong for the
purpose (measured with MONAI 1.6): a missed structure is the worst result instead of a NaN that
drops out of the mean, and voxel counts are exact where MONAI rounds them to float32, which
miscounts a small structure in a volume of more than 2**24 voxels.

| reference | prediction | dice, jaccard, f1, nsd | precision | sensitivity | hd95 | note |
|---|---|---|---|---|---|---|
| present | present | computed | computed | computed | computed | |
| present | empty | 0 | 0 | 0 | image diagonal | missed structure |
| empty | present | 0 | 0 | NaN | image diagonal | spurious structure |
| empty | empty | NaN | NaN | NaN | NaN | both empty |

Specificity is always computed; it is NaN only where the reference fills the whole image.

Of a case of several separate images, the table applies to each image for the surface metrics, and
the note is that of the case: the note ``missed structure`` means that the prediction misses it in
at least one image, and ``spurious in some images`` that the prediction contains it in an image
where the reference does not, although the reference contains it in another one.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from monai.metrics import compute_confusion_matrix_metric, get_mask_edges, get_surface_distance

from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.foundation.text import nearest
from analogmed.metrics.masks import (
    check_same_shape,
    checked_spacing,
    checked_tolerances,
    class_map,
    one_hot_pair,
)

MISSED = "missed structure"
SPURIOUS = "spurious structure"
SPURIOUS_IN_SOME = "spurious in some images"
BOTH_EMPTY = "both empty"
ABSENT = (SPURIOUS, BOTH_EMPTY)
"""Notes of structures that the reference of the whole case does not have."""
RESULT_NOTES = ("", MISSED, SPURIOUS_IN_SOME, *ABSENT)
"""All notes of computed values; any other note is that of an error."""
SMALLER_BATCH = re.compile(r"(?:^|; )out of memory, batch_size \d+$")
"""End of a note of a value that was computed with a smaller batch than the one requested."""

OVERLAP_METRICS = {
    "dice": "f1 score",
    "jaccard": "threat score",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision": "precision",
    "recall": "recall",
    "f1": "f1 score",
}
SURFACE_METRICS = ("hd95", "nsd")
METRICS = (*OVERLAP_METRICS, *SURFACE_METRICS)
DISTANCES = ("hd95",)
"""Metrics in the unit of the spacing; all others have the unit ``"1"``."""


class CaseMetric(NamedTuple):
    """One metric of one class of one case.

    Attributes:
        class_index: index in the class map, 1 for the first foreground class.
        metric: one of ``METRICS``.
        value: its value; NaN where it is undefined.
        unit: ``"1"``, or the unit of the spacing for ``hd95``.
        note: empty, or which side of the comparison was empty.
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
    """Metrics of every foreground class of one whole case.

    Overlap metrics pool all voxels of the case. Surface distances live in the dimension that
    ``spacing`` covers: with one value per axis of ``label`` its N slices form one volume; with
    one value less, each of the N images is compared by itself and the mean is taken over the
    images where the structure is in the reference or in the prediction.

    Args:
        pred: predicted class indices, integer or bool, shape (N, *spatial).
        label: reference class indices, same shape.
        n_classes: number of foreground classes, ``len(task.classes)``; 0 is background.
        spacing: size of a voxel along the last ``len(spacing)`` axes.
        tolerance: accepted surface deviation of ``nsd``, one value or one per class.
        unit: unit of ``spacing`` and ``tolerance``, ``"mm"`` or ``"px"``.
        metrics: names out of ``METRICS``.

    Returns:
        One entry per class and metric, classes first, metrics in the order asked for.

    Raises:
        ShapeError: the shapes differ, the case is empty, or ``spacing`` fits no axis count.
        NonFiniteError: an input holds NaN or Inf.
        ValueError: an input holds no class indices (logits, probabilities), or one beyond
            ``n_classes``.
        ConfigError: an unknown metric; a spacing or tolerance out of its range.

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
    _check_metric_names(metrics)
    pred_map, label_map = class_map(pred, "pred", n_classes), class_map(label, "label", n_classes)
    check_same_shape(pred_map.shape, label_map.shape)
    spacing = checked_spacing(spacing, label_map.ndim)
    tolerances = checked_tolerances(tolerance, n_classes)
    return [
        row
        for index in range(1, n_classes + 1)
        for row in _class_metrics(
            index,
            pred_map == index,
            label_map == index,
            spacing,
            tolerances[index - 1],
            unit,
            metrics,
        )
    ]


def unit_of(metric: str, spacing_unit: str) -> str:
    """Return the unit of a metric where the spacing of the voxels has the given unit."""
    return spacing_unit if metric in DISTANCES else "1"


def note_with_batch(note: str, batch_size: int) -> str:
    """Mark the note of a value that was computed with a smaller batch after memory ran out.

    Example:
        >>> note_with_batch("", 4), note_with_batch("missed structure", 4)
        ('out of memory, batch_size 4', 'missed structure; out of memory, batch_size 4')
    """
    return "; ".join(part for part in (note, f"out of memory, batch_size {batch_size}") if part)


def overlap(pred: torch.Tensor, ref: torch.Tensor, *, metric: str) -> torch.Tensor:
    """An overlap metric of one-hot masks, per image and channel.

    Args:
        pred: one-hot prediction, bool (or 0 and 1), shape (B, C, *spatial); a channel for the
            background is optional and is treated as any other.
        ref: reference, same shape.
        metric: ``dice``, ``jaccard``, ``sensitivity``, ``specificity``, ``precision``,
            ``recall`` or ``f1``.

    Returns:
        float64 tensor (B, C) in [0, 1]; for empty masks see the table at the top of this module.

    Raises:
        ShapeError: the shapes differ.
        NonFiniteError: an input holds NaN or Inf.
        ValueError: an input is not one-hot.
        ConfigError: an unknown metric.

    Source: Maier-Hein et al. 2024, Metrics reloaded; computed by monai.metrics.

    Example:
        >>> ref = torch.tensor([[[[1, 1, 0, 0]]]], dtype=torch.bool)
        >>> pred = torch.tensor([[[[0, 1, 1, 0]]]], dtype=torch.bool)
        >>> overlap(pred, ref, metric="dice").item()
        0.5
    """
    if metric not in OVERLAP_METRICS:
        raise ConfigError(f"unknown overlap metric '{metric}': {nearest(metric, OVERLAP_METRICS)}")
    pred_masks, ref_masks = one_hot_pair(pred, ref)
    values = [
        _overlap_value(metric, _confusion_counts(pred_masks[index], ref_masks[index]))
        for index in np.ndindex(pred_masks.shape[:2])
    ]
    return torch.tensor(values, dtype=torch.float64).reshape(pred_masks.shape[:2])


def hausdorff95(pred: torch.Tensor, ref: torch.Tensor, *, spacing: Sequence[float]) -> torch.Tensor:
    """95th percentile of the distances between two surfaces, the larger of both directions.

    Args:
        pred: one-hot prediction, bool (or 0 and 1), shape (B, C, *spatial).
        ref: reference, same shape.
        spacing: voxel size, one value per spatial axis.

    Returns:
        float64 tensor (B, C) in the unit of ``spacing``: the image diagonal where one mask is
        empty, NaN where both are.

    Raises:
        ShapeError: the shapes differ, or ``spacing`` does not have one value per spatial axis.
        NonFiniteError: an input holds NaN or Inf.
        ValueError: an input is not one-hot.

    Source: Huttenlocher et al. 1993; computed by monai.metrics.

    Example:
        >>> ref = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> ref[..., 2:4, 2:4] = True
        >>> hausdorff95(ref.roll(3, dims=-1), ref, spacing=(1.0, 2.0)).item()
        6.0
    """
    return _surface_metric("hd95", pred, ref, spacing, tolerance=0.0)


def surface_dice(
    pred: torch.Tensor,
    ref: torch.Tensor,
    *,
    spacing: Sequence[float],
    tolerance: float | Sequence[float],
) -> torch.Tensor:
    """Share of the two surfaces that lie within a tolerance of each other (NSD).

    Args:
        pred: one-hot prediction, bool (or 0 and 1), shape (B, C, *spatial).
        ref: reference, same shape.
        spacing: voxel size, one value per spatial axis.
        tolerance: accepted deviation in the unit of ``spacing``, one value or one per channel.

    Returns:
        float64 tensor (B, C) in [0, 1]: 0 where one mask is empty, NaN where both are.

    Raises:
        ShapeError: the shapes differ, or ``spacing`` does not have one value per spatial axis.
        NonFiniteError: an input holds NaN or Inf.
        ValueError: an input is not one-hot.

    Source: Nikolov et al. 2018, arXiv:1809.04430, on boundary voxels; computed by monai.metrics.

    Example:
        >>> ref = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> ref[..., 2:6, 2:6] = True
        >>> surface_dice(ref.roll(1, dims=-1), ref, spacing=(1.0, 1.0), tolerance=1.0).item()
        1.0
    """
    return _surface_metric("nsd", pred, ref, spacing, tolerance)


def _class_metrics(
    index: int,
    pred: np.ndarray,
    ref: np.ndarray,
    spacing: tuple[float, ...],
    tolerance: float,
    unit: str,
    metrics: Sequence[str],
) -> Iterator[CaseMetric]:
    counts = _confusion_counts(pred, ref)
    note = _note(*_presence(counts))
    surface: dict[str, tuple[float, str]] = {}
    if any(metric in SURFACE_METRICS for metric in metrics):
        surface = _surface_values(pred, ref, spacing, tolerance)
    for metric in metrics:
        if metric in SURFACE_METRICS:
            value, of_metric = surface[metric]
        else:
            value, of_metric = _overlap_value(metric, counts), note
        yield CaseMetric(index, metric, value, unit_of(metric, unit), of_metric)


def _confusion_counts(pred: np.ndarray, ref: np.ndarray) -> tuple[int, int, int, int]:
    """True positives, false positives, true negatives, false negatives."""
    true_positive = int(np.count_nonzero(pred & ref))
    false_positive = int(np.count_nonzero(pred)) - true_positive
    false_negative = int(np.count_nonzero(ref)) - true_positive
    true_negative = ref.size - true_positive - false_positive - false_negative
    return true_positive, false_positive, true_negative, false_negative


def _presence(counts: tuple[int, int, int, int]) -> tuple[bool, bool]:
    true_positive, false_positive, _, false_negative = counts
    return true_positive + false_positive > 0, true_positive + false_negative > 0


def _note(in_pred: bool, in_ref: bool) -> str:
    if in_pred and in_ref:
        return ""
    if in_ref:
        return MISSED
    return SPURIOUS if in_pred else BOTH_EMPTY


def _overlap_value(metric: str, counts: tuple[int, int, int, int]) -> float:
    if metric == "precision" and _note(*_presence(counts)) == MISSED:
        return 0.0
    matrix = torch.tensor([counts], dtype=torch.float64)
    return compute_confusion_matrix_metric(OVERLAP_METRICS[metric], matrix).item()


def _surface_values(
    pred: np.ndarray, ref: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> dict[str, tuple[float, str]]:
    """Return the value and the note of each surface metric of masks (N, *spatial)."""
    if len(spacing) == ref.ndim:
        pred, ref = pred[None], ref[None]
    notes = [_note(bool(p.any()), bool(r.any())) for p, r in zip(pred, ref, strict=True)]
    present = [i for i, note in enumerate(notes) if note != BOTH_EMPTY]
    if not present:
        return dict.fromkeys(SURFACE_METRICS, (float("nan"), BOTH_EMPTY))
    pairs = [_hd95_and_nsd(pred[i], ref[i], notes[i], spacing, tolerance) for i in present]
    hd95, nsd = np.mean(pairs, axis=0)
    note = _note_of_case([notes[i] for i in present], in_ref=bool(ref.any()))
    return {"hd95": (float(hd95), note), "nsd": (float(nsd), note)}


def _note_of_case(notes: Sequence[str], *, in_ref: bool) -> str:
    """Return the note of a case from the notes of its images; only the whole case is spurious."""
    if not in_ref:
        return SPURIOUS
    if MISSED in notes:
        return MISSED
    return SPURIOUS_IN_SOME if SPURIOUS in notes else ""


def _hd95_and_nsd(
    pred: np.ndarray, ref: np.ndarray, note: str, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    if note:
        return float(np.linalg.norm(np.multiply(ref.shape, spacing))), 0.0
    box = _bounding_box(pred | ref)
    pred_edge, ref_edge = get_mask_edges(pred[box], ref[box], crop=False)
    to_ref = get_surface_distance(pred_edge, ref_edge, spacing=spacing)
    to_pred = get_surface_distance(ref_edge, pred_edge, spacing=spacing)
    hd95 = max(np.percentile(to_ref, 95), np.percentile(to_pred, 95))
    return float(hd95), float(np.mean(np.concatenate([to_ref, to_pred]) <= tolerance))


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box around a mask; outside of it is background, so no surface changes."""
    axes = range(mask.ndim)
    spans = [
        np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis)))
        for axis in axes
    ]
    return tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)


def _surface_metric(
    metric: str,
    pred: torch.Tensor,
    ref: torch.Tensor,
    spacing: Sequence[float],
    tolerance: float | Sequence[float],
) -> torch.Tensor:
    pred_masks, ref_masks = one_hot_pair(pred, ref)
    n_images, n_channels = pred_masks.shape[:2]
    if len(spacing) != pred_masks.ndim - 2:
        raise ShapeError(
            f"spacing has {len(spacing)} values, but the masks have {pred_masks.ndim - 2} spatial "
            f"axes (shape {pred_masks.shape}): give one value per spatial axis"
        )
    spacing = checked_spacing(spacing, pred_masks.ndim - 1)
    tolerances = checked_tolerances(tolerance, n_channels)
    values = [
        _surface_values(pred_masks[b, c][None], ref_masks[b, c][None], spacing, tolerances[c])
        for b in range(n_images)
        for c in range(n_channels)
    ]
    flat = torch.tensor([value[metric][0] for value in values], dtype=torch.float64)
    return flat.reshape(n_images, n_channels)


def _check_metric_names(metrics: Sequence[str]) -> None:
    for metric in metrics:
        if metric not in METRICS:
            raise ConfigError(f"unknown metric '{metric}': {nearest(metric, METRICS)}")
