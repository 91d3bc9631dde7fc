"""Metrics of one-hot masks, per image and channel, for comparison with other libraries."""

from collections.abc import Sequence

import numpy as np
import torch

from analogmed.foundation.errors import ShapeError
from analogmed.metrics.masks import checked_spacing, checked_tolerances, one_hot_pair
from analogmed.metrics.registry import metric as metric_of
from analogmed.metrics.structure import Structure


def overlap(pred: torch.Tensor, ref: torch.Tensor, *, metric: str) -> torch.Tensor:
    """Compute an overlap metric of one-hot masks, per image and channel.

    Args:
        pred: one-hot prediction, bool (or 0 and 1), shape (B, C, *spatial); a channel for the
            background is optional and is treated as any other.
        ref: reference, same shape.
        metric: ``dice``, ``jaccard``, ``sensitivity``, ``specificity``, ``precision``,
            ``recall`` or ``f1``.

    Returns:
        float64 tensor (B, C) in [0, 1]; for empty masks see :mod:`analogmed.metrics.case`.

    Raises:
        ShapeError: the shapes differ.
        NonFiniteError: an input contains NaN or Inf.
        ValueError: an input is not one-hot.
        ConfigError: the metric is unknown.

    Source: Maier-Hein et al. 2024, Metrics reloaded.

    Example:
        >>> ref = torch.tensor([[[[1, 1, 0, 0]]]], dtype=torch.bool)
        >>> pred = torch.tensor([[[[0, 1, 1, 0]]]], dtype=torch.bool)
        >>> overlap(pred, ref, metric="dice").item()
        0.5
    """
    return _by_image(metric, pred, ref, (1.0,) * (pred.ndim - 2), 0.0)


def hausdorff95(pred: torch.Tensor, ref: torch.Tensor, *, spacing: Sequence[float]) -> torch.Tensor:
    """Compute the 95th percentile of surface distances, the larger of both directions.

    Args:
        pred: one-hot prediction, bool (or 0 and 1), shape (B, C, *spatial).
        ref: reference, same shape.
        spacing: voxel size, one value per spatial axis.

    Returns:
        float64 tensor (B, C) in the unit of ``spacing``: the image diagonal where one mask is
        empty, NaN where both are.

    Raises:
        ShapeError: the shapes differ, or ``spacing`` does not have one value per spatial axis.
        NonFiniteError: an input contains NaN or Inf.
        ValueError: an input is not one-hot.

    Source: Huttenlocher et al. 1993; computed by monai.metrics.

    Example:
        >>> ref = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> ref[..., 2:4, 2:4] = True
        >>> hausdorff95(ref.roll(3, dims=-1), ref, spacing=(1.0, 2.0)).item()
        6.0
    """
    return _by_image("hd95", pred, ref, spacing, 0.0)


def surface_dice(
    pred: torch.Tensor,
    ref: torch.Tensor,
    *,
    spacing: Sequence[float],
    tolerance: float | Sequence[float],
) -> torch.Tensor:
    """Compute the share of both surfaces that is within a tolerance of the other one (NSD).

    Args:
        pred: one-hot prediction, bool (or 0 and 1), shape (B, C, *spatial).
        ref: reference, same shape.
        spacing: voxel size, one value per spatial axis.
        tolerance: accepted deviation in the unit of ``spacing``, one value or one per channel.

    Returns:
        float64 tensor (B, C) in [0, 1]: 0 where one mask is empty, NaN where both are.

    Raises:
        ShapeError: the shapes differ, or ``spacing`` does not have one value per spatial axis.
        NonFiniteError: an input contains NaN or Inf.
        ValueError: an input is not one-hot.

    Source: Nikolov et al. 2018, arXiv:1809.04430, on boundary voxels; computed by monai.metrics.

    Example:
        >>> ref = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
        >>> ref[..., 2:6, 2:6] = True
        >>> surface_dice(ref.roll(1, dims=-1), ref, spacing=(1.0, 1.0), tolerance=1.0).item()
        1.0
    """
    return _by_image("nsd", pred, ref, spacing, tolerance)


def _by_image(
    name: str,
    pred: torch.Tensor,
    ref: torch.Tensor,
    spacing: Sequence[float],
    tolerance: float | Sequence[float],
) -> torch.Tensor:
    metric = metric_of(name)
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
        metric.value(Structure(pred_masks[b, c], ref_masks[b, c], spacing, tolerances[c]))[0]
        for b, c in np.ndindex(n_images, n_channels)
    ]
    return torch.tensor(values, dtype=torch.float64).reshape(n_images, n_channels)
