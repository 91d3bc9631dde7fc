"""Checks of the inputs of the metrics: class maps, one-hot masks, spacing and tolerance."""

from collections.abc import Sequence

import numpy as np
import torch

from analogmed.foundation.errors import ConfigError, NonFiniteError, ShapeError


def class_map(array: np.ndarray | torch.Tensor, name: str, n_classes: int) -> np.ndarray:
    """Return class indices 0 to ``n_classes`` as a NumPy array; raise an error for other values."""
    values = _as_numpy(array)
    if values.size == 0:
        raise ShapeError(f"{name} has no voxels (shape {values.shape})")
    if not np.issubdtype(values.dtype, np.integer) and values.dtype != np.bool_:
        _refuse_non_finite(values, name)
        raise ValueError(
            f"{name} must hold class indices (integers), but is {values.dtype}: threshold or take "
            "the argmax of logits or probabilities first"
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > n_classes:
        raise ValueError(
            f"{name} holds class {low if low < 0 else high}, expected 0 (background) to {n_classes}"
        )
    return values.astype(np.uint8 if n_classes < 256 else np.int64, copy=False)


def one_hot_pair(pred: torch.Tensor, ref: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return two one-hot masks (B, C, *spatial) of one shape as bool arrays."""
    check_same_shape(tuple(pred.shape), tuple(ref.shape))
    return _one_hot(pred, "pred"), _one_hot(ref, "ref")


def check_same_shape(pred: tuple[int, ...], ref: tuple[int, ...]) -> None:
    """Raise a ShapeError if a prediction is not on the grid of its reference."""
    if pred != ref:
        raise ShapeError(
            f"prediction has shape {pred}, but the reference has {ref}: "
            "resample or crop the prediction back to the grid of its label"
        )


def checked_spacing(spacing: Sequence[float], ndim: int) -> tuple[float, ...]:
    """Return the spacing of a map with ``ndim`` axes, for all axes or for all but the first."""
    if len(spacing) not in (ndim, ndim - 1):
        raise ShapeError(
            f"spacing has {len(spacing)} values, but the label has {ndim} axes: give {ndim} where "
            f"they form one grid, {ndim - 1} where the first axis counts separate images"
        )
    if not all(np.isfinite(step) and step > 0 for step in spacing):
        raise ConfigError(f"spacing must be positive and finite, but is {tuple(spacing)}")
    return tuple(float(step) for step in spacing)


def checked_tolerances(tolerance: float | Sequence[float], n_classes: int) -> list[float]:
    """Return one tolerance per class."""
    values = [float(value) for value in np.atleast_1d(tolerance)]
    if len(values) == 1:
        values = values * n_classes
    if len(values) != n_classes or not all(np.isfinite(v) and v >= 0 for v in values):
        raise ConfigError(
            f"tolerance must be one value, or one for each of {n_classes} classes, finite and not "
            f"negative, but is {tolerance}"
        )
    return values


def _one_hot(mask: torch.Tensor, name: str) -> np.ndarray:
    values = _as_numpy(mask)
    if values.ndim < 3 or values.size == 0:
        raise ShapeError(f"{name} must have shape (B, C, *spatial), but has {values.shape}")
    if values.dtype != np.bool_:
        _refuse_non_finite(values, name)
        if not np.isin(values, (0, 1)).all():
            raise ValueError(
                f"{name} must be one-hot (0 and 1), but ranges from {values.min()} to "
                f"{values.max()}: threshold or take the argmax of logits or probabilities first"
            )
        values = values.astype(bool)
    if values.shape[1] > 1 and values.sum(axis=1).max() > 1:
        raise ValueError(f"{name} must be one-hot, but some voxel belongs to two channels")
    return values


def _as_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    tensor = array.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _refuse_non_finite(values: np.ndarray, name: str) -> None:
    count = int(np.size(values) - np.isfinite(values).sum())
    if count:
        raise NonFiniteError(f"{name} holds {count} NaN or Inf of {values.size} values")
