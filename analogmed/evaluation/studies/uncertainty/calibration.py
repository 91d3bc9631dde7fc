"""Calibration errors, proper scores and error detection of predicted probabilities.

All functions process the voxels of one case, or of several cases together, as flat arrays;
``flatten`` makes these from maps. Most voxels of an image are easy background, where every network
is confident and correct. They dominate the calibration error over the whole image. Each metric is
therefore computed over the image and over a boundary band, the reference dilated by a margin;
Mehrtash et al. 2020 (arXiv:1911.13273) use a box with a margin around the structure. The band
depends on the reference, not on a prediction, so that all networks are compared on the same voxels.
Spurious structures outside the band count over the image only.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

from analogmed.evaluation.studies.uncertainty.maps import check_probabilities
from analogmed.foundation.errors import ShapeError
from analogmed.foundation.settings.checks import require_at_least_one, require_at_least_zero
from analogmed.metrics.masks import class_map

PROB_FLOOR = float(np.finfo(np.float32).eps)
"""Before a logarithm, probabilities are clipped to [1.19e-7, 1 - 1.19e-7]; NLL is at most 15.9."""


@dataclass(frozen=True)
class Voxels:
    """Voxels of maps as flat arrays.

    Attributes:
        prob: probability of each class, background first, float64, shape (V, K); K is 2 or more.
        label: class index, shape (V,).
    """

    prob: np.ndarray
    label: np.ndarray

    @property
    def confidence(self) -> np.ndarray:
        """Probability of the most probable class, shape (V,)."""
        return self.prob.max(1)

    @property
    def correct(self) -> np.ndarray:
        """Whether the most probable class is the label's, bool, shape (V,)."""
        return self.prob.argmax(1) == self.label


def flatten(prob: np.ndarray, label: np.ndarray, mask: np.ndarray | None = None) -> Voxels:
    """Return the voxels of a probability map and its label.

    Args:
        prob: probabilities, shape (N, K, *spatial); K = 1 is one class against the background.
        label: class indices, shape (N, *spatial).
        mask: selected voxels, same shape as the label; all by default.

    Raises:
        NonFiniteError, ValueError: the values are not probabilities, or not class indices.
        ShapeError: the shapes do not match.
    """
    check_probabilities(prob)
    label = class_map(label, "the label", max(prob.shape[1] - 1, 1))
    if (prob.shape[0], *prob.shape[2:]) != label.shape:
        raise ShapeError(f"probabilities {prob.shape} do not lie on the label's grid {label.shape}")
    if mask is not None and mask.shape != label.shape:
        raise ShapeError(f"the mask has shape {mask.shape}, the label {label.shape}")
    chosen = np.ones(label.shape, bool) if mask is None else mask
    columns = np.moveaxis(prob, 1, -1)[chosen].astype(np.float64)
    if columns.shape[1] == 1:
        columns = np.concatenate([1.0 - columns, columns], 1)
    return Voxels(columns, label[chosen])


def band(label: np.ndarray, margin: int) -> np.ndarray:
    """Return the foreground of a label and all voxels within a margin of it.

    Args:
        label: class indices, shape (N, *spatial); the N images are processed separately.
        margin: Euclidean distance in voxels, 0 or more.

    Returns:
        Mask, bool, same shape; empty where an image has no foreground.
    """
    require_at_least_zero("margin", margin)
    near = [
        ndimage.distance_transform_edt(image == 0) <= margin
        if image.any()
        else np.zeros(image.shape, bool)
        for image in label
    ]
    return np.stack(near)


def calibration_error(
    confidence: np.ndarray, outcome: np.ndarray, *, n_bins: int = 15, adaptive: bool = False
) -> float:
    """Compute the expected calibration error: mean gap of confidence and outcome rate over bins.

    Args:
        confidence: predicted probability, shape (V,).
        outcome: whether the predicted event occurred, shape (V,).
        n_bins: number of bins.
        adaptive: whether bins have equal numbers of voxels instead of equal widths. Voxels of equal
            confidence have no order: each gets their mean outcome, regardless of its bin.

    Returns:
        Error in [0, 1]; NaN without a voxel.

    Source: Guo et al. 2017, arXiv:1706.04599; adaptive: Nguyen and O'Connor 2015,
    arXiv:1508.05154, with the absolute gap.
    """
    require_at_least_one("n_bins", n_bins)
    if not len(confidence):
        return float("nan")
    if not adaptive:
        return pooled_calibration_error(reliability_counts(confidence, outcome, n_bins=n_bins))
    order = np.argsort(confidence, kind="stable")
    ordered = confidence[order]
    outcomes = _averaged_over_ties(ordered, np.asarray(outcome)[order])
    parts = min(n_bins, len(order))
    gaps = [
        abs(of_bin.sum() - came.sum())
        for of_bin, came in zip(
            np.array_split(ordered, parts), np.array_split(outcomes, parts), strict=True
        )
    ]
    return float(np.sum(gaps) / len(order))


def reliability_counts(
    confidence: np.ndarray, outcome: np.ndarray, *, n_bins: int = 15
) -> np.ndarray:
    """Compute the counts of a reliability diagram; counts of several cases can be added.

    Returns:
        Counts, float64, shape (bins, 3): voxels, sum of confidences, number of outcomes in each of
        ``n_bins`` bins of equal width over [0, 1], each open below and closed above.
    """
    inner = np.linspace(0.0, 1.0, n_bins + 1)[1:-1]
    index = np.searchsorted(inner, confidence, side="left")
    columns = (None, confidence, np.asarray(outcome, np.float64))
    counts = [np.bincount(index, weights=column, minlength=n_bins) for column in columns]
    return np.stack(counts, 1).astype(np.float64)


def pooled_calibration_error(counts: np.ndarray) -> float:
    """Compute the expected calibration error of reliability counts, shape (bins, 3)."""
    total = counts[:, 0].sum()
    return float(np.abs(counts[:, 1] - counts[:, 2]).sum() / total) if total else float("nan")


def brier_score(voxels: Voxels) -> float:
    """Compute the mean over voxels of half the squared distance of probabilities and label.

    With the factor 1/2, it is (p - y)**2 for two classes (Brier 1950; scikit-learn's
    ``scale_by_half``).
    """
    squares = (voxels.prob**2).sum(1) - 2.0 * _of_label(voxels) + 1.0
    return float(0.5 * squares.mean()) if len(squares) else float("nan")


def negative_log_likelihood(voxels: Voxels) -> float:
    """Compute the mean of -ln of the label's probability, clipped at ``PROB_FLOOR``, in nats."""
    prob = np.clip(_of_label(voxels), PROB_FLOOR, 1.0 - PROB_FLOOR)
    return float(-np.log(prob).mean()) if len(prob) else float("nan")


def risk_coverage(uncertainty: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean error of the k least uncertain of V items, for k from 1 to V.

    Items of equal uncertainty have no order: the curve is the mean over all their orders.

    Args:
        uncertainty: uncertainty of each item, shape (V,).
        errors: loss of each item, shape (V,): 0 or 1 for voxels, for instance 1 - Dice for cases.

    Returns:
        Coverage k/V and risk, each of shape (V,).

    Source: Geifman and El-Yaniv 2017, arXiv:1705.08500.
    """
    order = np.argsort(uncertainty, kind="stable")
    ordered = _averaged_over_ties(
        np.asarray(uncertainty)[order], np.asarray(errors, np.float64)[order]
    )
    rank = np.arange(1, len(ordered) + 1)
    return rank / len(ordered), np.cumsum(ordered) / rank


def _averaged_over_ties(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the values, averaged over items whose sort keys are equal."""
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    if len(starts) == len(ordered):
        return values
    sizes = np.diff(np.r_[starts, len(ordered)])
    return np.repeat(np.add.reduceat(values.astype(np.float64), starts) / sizes, sizes)


def area_under_risk_coverage(uncertainty: np.ndarray, errors: np.ndarray) -> float:
    """Compute the AURC, the mean risk over all coverages k/V; lower is better. NaN if empty.

    Source: Geifman, Uziel, El-Yaniv 2019, arXiv:1805.08206.
    """
    if not len(errors):
        return float("nan")
    return float(risk_coverage(uncertainty, errors)[1].mean())


def auroc(uncertainty: np.ndarray, errors: np.ndarray) -> float:
    """Compute the probability that a wrong voxel is more uncertain than a correct one.

    Ties count half.

    Returns:
        Area in [0, 1]; NaN if all voxels, or none, are wrong.
    """
    wrong = np.asarray(errors, bool)
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        return float("nan")
    ranks = stats.rankdata(uncertainty)
    return float((ranks[wrong].sum() - n_wrong * (n_wrong + 1) / 2) / (n_wrong * n_right))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Compute Spearman's rank correlation of the defined pairs.

    NaN for fewer than three pairs, or constant values.
    """
    defined = np.isfinite(first) & np.isfinite(second)
    if defined.sum() < 3:
        return float("nan")
    a, b = stats.rankdata(first[defined]), stats.rankdata(second[defined])
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def _of_label(voxels: Voxels) -> np.ndarray:
    return np.take_along_axis(voxels.prob, voxels.label[:, None].astype(np.int64), 1)[:, 0]
