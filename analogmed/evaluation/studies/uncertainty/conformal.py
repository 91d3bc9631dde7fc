"""Conformal risk control of masks: at most a share alpha of a structure is missed, on average.

A mask is all voxels whose probability reaches a threshold. The threshold is the highest one for
which calibration units bound the expected share of missed voxels (false-negative rate, FNR) of a
further, exchangeable unit. A unit is a patient, since slices of one patient are not exchangeable
with those of others.

Source: Angelopoulos, Bates, Fisch, Lei, Schuster 2022, Conformal risk control, arXiv:2208.02814.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analogmed.foundation.errors import ConfigError, ShapeError

THRESHOLDS = np.concatenate([[0.0], special.expit(np.linspace(-16.0, 16.0, 641))])
"""Ascending; the guarantee holds for any fixed set of thresholds that holds 0."""


@dataclass(frozen=True)
class MaskCounts:
    """How many voxels reach each of ``THRESHOLDS``; counts of several images may be added.

    Attributes:
        found: voxels of the structure, shape (thresholds,).
        marked: all voxels.
        structure: voxels of the structure.
        voxels: all voxels.
    """

    found: np.ndarray
    marked: np.ndarray
    structure: int
    voxels: int

    @classmethod
    def of(cls, prob: np.ndarray, structure: np.ndarray) -> "MaskCounts":
        """Count one image.

        Args:
            prob: probability of the structure, any shape.
            structure: whether a voxel belongs to it, same shape.

        Raises:
            ShapeError: the shapes differ.
        """
        if prob.shape != structure.shape:
            raise ShapeError(f"probabilities have shape {prob.shape}, the mask {structure.shape}")
        level = np.searchsorted(THRESHOLDS, prob.ravel(), side="right") - 1
        inside = structure.ravel().astype(bool)
        return cls(_reaching(level[inside]), _reaching(level), int(inside.sum()), prob.size)

    def __add__(self, other: "MaskCounts") -> "MaskCounts":
        return MaskCounts(
            self.found + other.found,
            self.marked + other.marked,
            self.structure + other.structure,
            self.voxels + other.voxels,
        )

    @property
    def missed_share(self) -> np.ndarray:
        """False-negative rate at each threshold, ascending with it; NaN without a structure."""
        if not self.structure:
            return np.full(len(THRESHOLDS), np.nan)
        return 1.0 - self.found / self.structure


@dataclass(frozen=True)
class RiskControl:
    """A threshold that bounds the risk.

    Attributes:
        index: its place in ``THRESHOLDS``.
        threshold: voxels whose probability reaches it are marked.
        n_units: calibration units that carry a loss.
        trivial: there are too few units for this alpha, so that every voxel is marked.
    """

    index: int
    threshold: float
    n_units: int
    trivial: bool


def control_risk(losses: Sequence[np.ndarray] | np.ndarray, alpha: float) -> RiskControl:
    """The highest threshold with (n mean loss + 1) / (n + 1) <= alpha.

    Then the expected loss of a further, exchangeable unit is at most alpha.

    Args:
        losses: of each calibration unit at each threshold, in [0, 1] and not falling with the
            threshold, shape (units, thresholds); units of NaN are left out.
        alpha: accepted expected loss, in (0, 1).

    Raises:
        ConfigError: alpha outside (0, 1). ShapeError: not one loss per threshold.
        ValueError: a loss outside [0, 1], or one that falls with the threshold.
    """
    check_alpha(alpha)
    curves = np.asarray(losses, np.float64).reshape(-1, len(THRESHOLDS))
    curves = curves[~np.isnan(curves).any(1)]
    if len(curves) and (curves.min() < 0 or curves.max() > 1 or np.diff(curves).min() < -1e-12):
        raise ValueError("losses must lie in [0, 1] and not fall with the threshold")
    bound = (curves.sum(0) + 1.0) / (len(curves) + 1)
    kept = np.flatnonzero(bound <= alpha + 1e-12)
    index = int(kept[-1]) if len(kept) else 0
    return RiskControl(index, float(THRESHOLDS[index]), len(curves), len(curves) < needed(alpha))


def needed(alpha: float) -> int:
    """Calibration units below which nothing but marking every voxel keeps the promise.

    Example:
        >>> needed(0.1), needed(0.05)
        (9, 19)
    """
    check_alpha(alpha)
    return math.ceil((1.0 - alpha) / alpha - 1e-9)


def check_alpha(alpha: float) -> None:
    """Refuse a share outside (0, 1)."""
    if not 0.0 < alpha < 1.0:
        raise ConfigError(f"alpha must lie between 0 and 1, got {alpha!r}")


def _reaching(level: np.ndarray) -> np.ndarray:
    """Voxels at each level or above."""
    counts = np.bincount(level, minlength=len(THRESHOLDS))
    return counts[::-1].cumsum()[::-1]
