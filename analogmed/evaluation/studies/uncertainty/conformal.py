"""Conformal risk control of masks: at most a share alpha of a structure is missed, on average.

A mask contains all voxels whose probability is at least a threshold. The threshold is the highest
one for which the calibration units bound the expected share of missed voxels (false-negative rate,
FNR) of a further, exchangeable unit. A unit is a patient, since slices of one patient are not
exchangeable with those of others.

Source: Angelopoulos, Bates, Fisch, Lei, Schuster 2022, Conformal risk control, arXiv:2208.02814.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analogmed.foundation.errors import ShapeError
from analogmed.foundation.settings.checks import require_number

THRESHOLDS = np.concatenate([[0.0], special.expit(np.linspace(-16.0, 16.0, 641))])
"""Ascending thresholds; the guarantee is valid for any fixed set that contains 0."""


@dataclass(frozen=True)
class MaskCounts:
    """Numbers of voxels at or above each threshold; counts of several images can be added.

    Attributes:
        found: number of structure voxels at or above each of ``THRESHOLDS``, shape (thresholds,).
        marked: number of all voxels at or above each threshold, same shape.
        structure: number of voxels of the structure.
        voxels: number of all voxels.
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
            structure: mask of the structure, same shape.

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
        """False-negative rate at each threshold, ascending; NaN without a structure."""
        if not self.structure:
            return np.full(len(THRESHOLDS), np.nan)
        return 1.0 - self.found / self.structure


@dataclass(frozen=True)
class RiskControl:
    """A threshold that bounds the risk.

    Attributes:
        index: index in ``THRESHOLDS``.
        threshold: lowest probability of marked voxels.
        n_units: number of calibration units with a loss.
        trivial: whether there are too few units for this alpha, so that every voxel is marked.
    """

    index: int
    threshold: float
    n_units: int
    trivial: bool


def control_risk(losses: Sequence[np.ndarray] | np.ndarray, alpha: float) -> RiskControl:
    """Return the highest threshold with (n mean loss + 1) / (n + 1) <= alpha.

    It bounds the expected loss of a further, exchangeable unit by alpha.

    Args:
        losses: loss of each calibration unit at each threshold, in [0, 1] and not decreasing with
            the threshold, shape (units, thresholds); units of NaN are excluded.
        alpha: accepted expected loss, in (0, 1).

    Raises:
        ConfigError: alpha is outside (0, 1). ShapeError: there is not one loss per threshold.
        ValueError: a loss is outside [0, 1], or decreases with the threshold.
    """
    require_number("alpha", alpha, above=0, below=1)
    curves, defined = _checked(losses)
    return _control(curves.sum(0), int(defined.sum()), alpha)


def control_risk_without_each(
    losses: Sequence[np.ndarray] | np.ndarray,
    further: Sequence[np.ndarray] | np.ndarray,
    alpha: float,
) -> list[RiskControl]:
    """Return the threshold of :func:`control_risk` for each unit, calibrated on all others.

    The losses are summed once, so that the work is proportional to the number of units.

    Args:
        losses: losses of the units that are left out one at a time, as in :func:`control_risk`.
        further: losses of the units that calibrate every threshold, in the same form.
        alpha: accepted expected loss, in (0, 1).

    Raises:
        ConfigError, ShapeError, ValueError: as in :func:`control_risk`.
    """
    require_number("alpha", alpha, above=0, below=1)
    (own, defined), (others, of_others) = _checked(losses), _checked(further)
    total, n_units = own.sum(0) + others.sum(0), int(defined.sum() + of_others.sum())
    return [
        _control(total - curve, n_units - int(is_unit), alpha)
        for curve, is_unit in zip(own, defined, strict=True)
    ]


def _checked(losses: Sequence[np.ndarray] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses, 0 for units of NaN, and whether each unit is defined."""
    curves = np.asarray(losses, np.float64).reshape(-1, len(THRESHOLDS))
    defined = np.asarray(~np.isnan(curves).any(axis=1))
    curves = np.where(defined[:, None], curves, 0.0)
    if len(curves) and (curves.min() < 0 or curves.max() > 1 or np.diff(curves).min() < -1e-12):
        raise ValueError("losses must lie in [0, 1] and not fall with the threshold")
    return curves, defined


def _control(total: np.ndarray, n_units: int, alpha: float) -> RiskControl:
    """Return the threshold by the summed losses of the calibration units, shape (thresholds,)."""
    bound = (total + 1.0) / (n_units + 1)
    kept = np.flatnonzero(bound <= alpha + 1e-12)
    index = int(kept[-1]) if len(kept) else 0
    return RiskControl(index, float(THRESHOLDS[index]), n_units, n_units < needed(alpha))


def needed(alpha: float) -> int:
    """Return the minimum number of calibration units for a mask that does not mark every voxel.

    Example:
        >>> needed(0.1), needed(0.05)
        (9, 19)
    """
    require_number("alpha", alpha, above=0, below=1)
    return math.ceil((1.0 - alpha) / alpha - 1e-9)


def _reaching(level: np.ndarray) -> np.ndarray:
    """Count the voxels at each level or above."""
    counts = np.bincount(level, minlength=len(THRESHOLDS))
    return counts[::-1].cumsum()[::-1]
