"""Is a probability right: calibration errors, proper scores, and whether uncertainty finds errors.

All functions take the voxels of one case, or of several put together, as flat arrays; ``flatten``
makes these from maps. Most voxels of an image are easy background, on which any network is sure and
right: over the whole image they decide the calibration error alone. Each figure is therefore given
over the image and over a band, the reference dilated by a margin, as Mehrtash et al. 2020
(arXiv:1911.13273) take a box with a margin about the structure. The band comes from the reference,
not from a prediction, so that all networks are compared on the same voxels; structures invented
outside of it count over the image only.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage, stats

from analogmed.evaluation.studies.uncertainty.maps import check_probabilities
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.metrics.masks import class_map

PROB_FLOOR = float(np.finfo(np.float32).eps)
"""Before a logarithm, probabilities are clipped to [1.19e-7, 1 - 1.19e-7]: NLL of 15.9 at most."""


@dataclass(frozen=True)
class Voxels:
    """Voxels of maps, in a row.

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
    """Voxels of a probability map and its label.

    Args:
        prob: shape (N, K, *spatial); K = 1 is one class against the background.
        label: class indices, shape (N, *spatial).
        mask: voxels to take, same shape as the label; all by default.

    Raises:
        NonFiniteError, ValueError: no probabilities, or no class indices.
        ShapeError: the shapes do not belong together.
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
    """The foreground of a label and all voxels within a margin of it.

    Args:
        label: class indices, shape (N, *spatial); the N images do not reach into each other.
        margin: Euclidean distance in voxels, 0 or more.

    Returns:
        bool, same shape; empty where an image has no foreground.
    """
    if margin < 0:
        raise ConfigError(f"margin must be 0 or more voxels, got {margin}")
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
    """Expected calibration error: mean gap between confidence and share of outcomes, over bins.

    Args:
        confidence: predicted probability, shape (V,).
        outcome: whether it came so, shape (V,).
        n_bins: number of bins.
        adaptive: bins of equally many voxels in place of bins of equal width. Voxels of equal
            confidence have no order: each has their mean outcome, in whatever bin it is.

    Returns:
        error in [0, 1]; NaN without a voxel.

    Source: Guo et al. 2017, arXiv:1706.04599; adaptive: Nguyen and O'Connor 2015,
    arXiv:1508.05154, with the absolute gap.
    """
    if n_bins < 1:
        raise ConfigError(f"n_bins must be 1 or more, got {n_bins}")
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
    """What a reliability diagram is drawn from; counts of several cases may be added.

    Returns:
        float64, shape (bins, 3): voxels, sum of confidences, number of outcomes in each of
        ``n_bins`` bins of equal width over [0, 1], each open below and closed above.
    """
    inner = np.linspace(0.0, 1.0, n_bins + 1)[1:-1]
    index = np.searchsorted(inner, confidence, side="left")
    columns = (None, confidence, np.asarray(outcome, np.float64))
    counts = [np.bincount(index, weights=column, minlength=n_bins) for column in columns]
    return np.stack(counts, 1).astype(np.float64)


def pooled_calibration_error(counts: np.ndarray) -> float:
    """Expected calibration error of reliability counts, shape (bins, 3)."""
    total = counts[:, 0].sum()
    return float(np.abs(counts[:, 1] - counts[:, 2]).sum() / total) if total else float("nan")


def brier_score(voxels: Voxels) -> float:
    """Mean over voxels of half the squared distance between probabilities and label.

    Half, so that for two classes it is (p - y)**2 (Brier 1950; scikit-learn's ``scale_by_half``).
    """
    squares = (voxels.prob**2).sum(1) - 2.0 * _of_label(voxels) + 1.0
    return float(0.5 * squares.mean()) if len(squares) else float("nan")


def negative_log_likelihood(voxels: Voxels) -> float:
    """Mean over voxels of -ln of the label's probability, clipped at ``PROB_FLOOR``, in nats."""
    prob = np.clip(_of_label(voxels), PROB_FLOOR, 1.0 - PROB_FLOOR)
    return float(-np.log(prob).mean()) if len(prob) else float("nan")


def risk_coverage(uncertainty: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean error of the k least uncertain of V, for k from 1 to V.

    Equal uncertainties have no order: the curve is the mean over all orders of them.

    Args:
        uncertainty: shape (V,).
        errors: loss of each, shape (V,): 0 or 1 for voxels, for instance 1 - Dice for cases.

    Returns:
        coverage k/V and risk, each shape (V,).

    Source: Geifman and El-Yaniv 2017, arXiv:1705.08500.
    """
    order = np.argsort(uncertainty, kind="stable")
    ordered = _averaged_over_ties(
        np.asarray(uncertainty)[order], np.asarray(errors, np.float64)[order]
    )
    rank = np.arange(1, len(ordered) + 1)
    return rank / len(ordered), np.cumsum(ordered) / rank


def _averaged_over_ties(ordered: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the values, replaced by their mean where what they are ordered by is equal."""
    starts = np.flatnonzero(np.r_[True, np.diff(ordered) != 0])
    if len(starts) == len(ordered):
        return values
    sizes = np.diff(np.r_[starts, len(ordered)])
    return np.repeat(np.add.reduceat(values.astype(np.float64), starts) / sizes, sizes)


def area_under_risk_coverage(uncertainty: np.ndarray, errors: np.ndarray) -> float:
    """AURC: mean of the risk over all coverages k/V; less is better. NaN without a voxel.

    Source: Geifman, Uziel, El-Yaniv 2019, arXiv:1805.08206.
    """
    if not len(errors):
        return float("nan")
    return float(risk_coverage(uncertainty, errors)[1].mean())


def auroc(uncertainty: np.ndarray, errors: np.ndarray) -> float:
    """Probability that a wrong voxel is more uncertain than a right one; ties count half.

    Returns:
        area in [0, 1]; NaN where all voxels, or none, are wrong.
    """
    wrong = np.asarray(errors, bool)
    n_wrong, n_right = int(wrong.sum()), int((~wrong).sum())
    if not n_wrong or not n_right:
        return float("nan")
    ranks = stats.rankdata(uncertainty)
    return float((ranks[wrong].sum() - n_wrong * (n_wrong + 1) / 2) / (n_wrong * n_right))


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of the defined pairs; NaN for fewer than three, or a constant."""
    defined = np.isfinite(first) & np.isfinite(second)
    if defined.sum() < 3:
        return float("nan")
    a, b = stats.rankdata(first[defined]), stats.rankdata(second[defined])
    a, b = a - a.mean(), b - b.mean()
    scale = np.sqrt((a**2).sum() * (b**2).sum())
    return float((a * b).sum() / scale) if scale > 0 else float("nan")


def _of_label(voxels: Voxels) -> np.ndarray:
    return np.take_along_axis(voxels.prob, voxels.label[:, None].astype(np.int64), 1)[:, 0]
