"""One structure of one case: the masks of a class, and values computed from them once."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from analogmed.metrics.notes import BOTH_EMPTY, MISSED, SPURIOUS, SPURIOUS_IN_SOME


class Counts(NamedTuple):
    """Exact numbers of voxels, which float32 would round."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class Structure:
    """A class in the prediction and in the reference.

    Args:
        pred: mask of the prediction, bool.
        ref: mask of the reference, bool, same shape.
        spacing: size of a voxel along the last ``len(spacing)`` axes; with one value fewer than the
            masks have axes, the first axis is that of separate images.
        tolerance: accepted deviation of surfaces, in the unit of ``spacing``.

    Attributes:
        shared: cache of values that several metrics use, by name.
    """

    def __init__(
        self, pred: np.ndarray, ref: np.ndarray, spacing: tuple[float, ...], tolerance: float
    ) -> None:
        self.pred, self.ref = pred, ref
        self.shared: dict[str, Any] = {}
        self.spacing, self.tolerance = spacing, tolerance

    @cached_property
    def counts(self) -> Counts:
        """Numbers of voxels of the whole case."""
        pred, ref = self.pred, self.ref
        true_positive = int(np.count_nonzero(pred & ref))
        false_positive = int(np.count_nonzero(pred)) - true_positive
        false_negative = int(np.count_nonzero(ref)) - true_positive
        true_negative = ref.size - true_positive - false_positive - false_negative
        return Counts(true_positive, false_positive, true_negative, false_negative)

    @cached_property
    def confusion(self) -> np.ndarray:
        """Numbers of voxels by reference and prediction, float64, shape (2, 2), negatives first."""
        found = self.counts
        rows = (
            (found.true_negative, found.false_positive),
            (found.false_negative, found.true_positive),
        )
        return np.array(rows, dtype=np.float64)

    @cached_property
    def note(self) -> str:
        """Note of the empty masks; empty text if neither is empty."""
        counts = self.counts
        in_pred = counts.true_positive + counts.false_positive > 0
        in_ref = counts.true_positive + counts.false_negative > 0
        if in_pred and in_ref:
            return ""
        if in_ref:
            return MISSED
        return SPURIOUS if in_pred else BOTH_EMPTY

    @cached_property
    def images(self) -> list["Structure"]:
        """Separate images of the case with a non-empty mask; the structure itself for a volume."""
        pairs = zip(self.pred, self.ref, strict=True)
        if len(self.spacing) == self.ref.ndim:
            pairs = zip([self.pred], [self.ref], strict=True)
        images = [Structure(pred, ref, self.spacing, self.tolerance) for pred, ref in pairs]
        return [image for image in images if image.note != BOTH_EMPTY]

    @cached_property
    def note_of_images(self) -> str:
        """Note of the case from those of its images; only a whole case is spurious."""
        notes = [image.note for image in self.images]
        if not self.ref.any():
            return SPURIOUS if notes else BOTH_EMPTY
        if MISSED in notes:
            return MISSED
        return SPURIOUS_IN_SOME if SPURIOUS in notes else ""

    @property
    def diagonal(self) -> float:
        """Diagonal of the image in the unit of the spacing."""
        return float(np.linalg.norm(np.multiply(self.ref.shape, self.spacing)))


def structures(
    pred: np.ndarray,
    ref: np.ndarray,
    spacing: tuple[float, ...],
    tolerances: Sequence[float],
) -> list[Structure]:
    """Return the structure of each foreground class of class maps."""
    return [
        Structure(pred == index, ref == index, spacing, tolerance)
        for index, tolerance in enumerate(tolerances, start=1)
    ]
