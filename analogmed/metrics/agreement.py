"""Metrics of decided classes, from confusion matrices: reference by decision.

Functions take counts of images, or of the voxels of a mask, of shape (..., K, K). Those of one
class have K = 2, with the negatives first. A share of nothing is NaN.
"""

from typing import TYPE_CHECKING

from analogmed.metrics.metric import Metric

if TYPE_CHECKING:
    import numpy as np


def sensitivity(counts: "np.ndarray") -> "np.ndarray":
    """Return the share of the positives that are decided positive."""
    return counts[..., 1, 1] / counts[..., 1, :].sum(axis=-1)


def specificity(counts: "np.ndarray") -> "np.ndarray":
    """Return the share of the negatives that are decided negative."""
    return counts[..., 0, 0] / counts[..., 0, :].sum(axis=-1)


def precision(counts: "np.ndarray") -> "np.ndarray":
    """Return the share of what is decided positive that is positive; 0 if nothing is."""
    return counts[..., 1, 1] / counts[..., :, 1].sum(axis=-1).clip(1.0)


def f1(counts: "np.ndarray") -> "np.ndarray":
    """Return the harmonic mean of sensitivity and precision; NaN without positives."""
    import numpy as np  # not needed to list metrics

    positive = counts[..., 1, :].sum(axis=-1)
    shares = 2 * counts[..., 1, 1] / (positive + counts[..., :, 1].sum(axis=-1))
    return np.where(positive > 0, shares, np.nan)


def jaccard(counts: "np.ndarray") -> "np.ndarray":
    """Return the share of what is positive, or decided positive, that is both."""
    return counts[..., 1, 1] / (counts[..., 1, :].sum(axis=-1) + counts[..., 0, 1])


def best_threshold(probability: "np.ndarray", positive: "np.ndarray") -> float:
    """Return the threshold of the largest F1, midway between two probabilities.

    A threshold midway between 0 and the lowest probability decides all images positive. Of several
    thresholds, it is the one closest to 0.5.

    Args:
        probability: probability of the class, shape (n,).
        positive: whether an image has the class, bool, shape (n,).

    Returns:
        Threshold, above which an image is decided positive; 0.5 without a positive or a negative
        image.
    """
    import numpy as np  # not needed to list metrics

    if positive.all() or not positive.any():
        return 0.5
    levels, group = np.unique(probability, return_inverse=True)
    decided = np.bincount(group)[::-1].cumsum()[::-1]  # at or above each level
    hits = np.bincount(group, weights=positive)[::-1].cumsum()[::-1]
    bounds = np.unique([0.0, *levels])  # a probability of 0 is above no threshold
    between = (bounds[1:] + bounds[:-1]) / 2
    candidates = np.append(between, 0.5)
    first = len(levels) - len(between)
    places = np.append(np.arange(first, len(levels)), np.searchsorted(levels, 0.5, side="right"))
    decided, hits = (np.append(counts, 0)[places] for counts in (decided, hits))
    scores = 2 * hits / (positive.sum() + decided)
    best = candidates[scores == scores.max()]
    return float(best[np.abs(best - 0.5).argmin()])


def accuracy(counts: "np.ndarray") -> "np.ndarray":
    """Return the share of the images whose decided class is that of the reference."""
    return _agreement(counts) / counts.sum(axis=(-2, -1))


def kappa(counts: "np.ndarray") -> "np.ndarray":
    """Return the agreement beyond chance, relative to the largest possible one.

    It is NaN if all images have one class.
    """
    import numpy as np  # not needed to list metrics

    total = counts.sum(axis=(-2, -1))
    by_chance = (counts.sum(axis=-1) * counts.sum(axis=-2)).sum(axis=-1) / total**2
    beyond = (_agreement(counts) / total - by_chance) / (1 - by_chance)
    return np.where((counts.sum(axis=-1) > 0).sum(axis=-1) > 1, beyond, np.nan)


def _agreement(counts: "np.ndarray") -> "np.ndarray":
    return counts.trace(axis1=-2, axis2=-1)


ACCURACY = Metric("accuracy", "Accuracy", count_score=accuracy, joint=True)
KAPPA = Metric("kappa", "Cohen's kappa", count_score=kappa, joint=True, bounds=(-1.0, 1.0))
"""Agreement beyond chance. Source: Cohen 1960, Educational and Psychological Measurement 20(1)."""
