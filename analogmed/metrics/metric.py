"""Definition of a metric: names, functions, range of values, and values for empty structures."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from analogmed.metrics.notes import BOTH_EMPTY, MISSED, SPURIOUS

if TYPE_CHECKING:
    import numpy as np

    from analogmed.metrics.images import ClassImages
    from analogmed.metrics.structure import Structure

Bounds: TypeAlias = tuple[float, float]

SPACING = "spacing"
"""Unit of a metric in the unit of the voxel spacing."""
DIAGONAL = math.inf
"""Distance for an empty structure: the diagonal of the image."""


@dataclass(frozen=True)
class EmptyValues:
    """Values of a metric for a structure that is not in both masks, possibly ``DIAGONAL``.

    Attributes:
        missed: value if the reference contains the structure and the prediction does not.
        spurious: value if the prediction contains the structure and the reference does not.
        both: value if neither contains the structure.
    """

    missed: float = 0.0
    spurious: float = 0.0
    both: float = math.nan

    def of(self, note: str) -> float:
        """Return the value for a note."""
        return {MISSED: self.missed, SPURIOUS: self.spurious, BOTH_EMPTY: self.both}[note]


@dataclass(frozen=True)
class Metric:
    """A score of the segmentation of one structure, of the classification of images, or of both.

    Attributes:
        name: name in settings and tables.
        label: name in figures and pages.
        score: function from a structure, which is in both masks, to the value; ``None`` for a
            metric of images.
        unit: ``"1"``, or ``SPACING``.
        direction: direction of better values.
        bounds: smallest and largest possible value.
        empty: values for a structure that is not in both masks.
        counts_absent: whether the metric is always computed, and structures that the reference
            lacks count too, as for specificity.
        learned: value at which a network counts as trained; ``None`` if there is no such value.
            Relative values on a chip mean nothing for a network that is worse.
        per_image: whether separate images of a case are scored one by one and averaged.
        chance: value of a network that has learned nothing; NaN if it depends on the data.
        rank_terms: function from the images of a class to the contribution of each case, for a
            metric of ranked probabilities.
        count_score: function from confusion matrices (..., K, K) to the score, for a metric of
            decided classes.
        joint: whether exclusive classes have one score together, not one each.
    """

    name: str
    label: str
    score: Callable[["Structure"], float] | None = None
    unit: str = "1"
    direction: Literal["higher", "lower"] = "higher"
    bounds: Bounds = (0.0, 1.0)
    empty: EmptyValues = EmptyValues()
    counts_absent: bool = False
    learned: float | None = None
    per_image: bool = False
    chance: float = 0.0
    rank_terms: "Callable[[ClassImages], np.ndarray] | None" = None
    count_score: "Callable[[np.ndarray], np.ndarray] | None" = None
    joint: bool = False

    @property
    def is_of_masks(self) -> bool:
        """Whether the metric is a score of masks."""
        return self.score is not None

    @property
    def is_of_images(self) -> bool:
        """Whether the metric is a score of classified images."""
        return self.rank_terms is not None or self.count_score is not None

    def value(self, structure: "Structure") -> tuple[float, str]:
        """Return the value of a structure, and the note of empty masks."""
        if not self.per_image:
            return self._value(structure), structure.note
        images = structure.images
        if not images:
            return self.empty.both, BOTH_EMPTY
        values = [self._value(image) for image in images]
        return sum(values) / len(values), structure.note_of_images

    def unit_for(self, spacing_unit: str) -> str:
        """Return the unit of values for a given unit of the voxel spacing."""
        return spacing_unit if self.unit == SPACING else self.unit

    def for_empty(self, note: str, structure: "Structure") -> float:
        """Return the value for a note of empty masks in the image of a structure."""
        value = self.empty.of(note)
        return structure.diagonal if value == DIAGONAL else value

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values; without values, the infinite value that all reach."""
        if self.direction == "higher":
            return max(values, default=-math.inf)
        return min(values, default=math.inf)

    def reaches(self, value: float, other: float) -> bool:
        """Return whether a value is as good as another one, or better; false for NaN."""
        return value >= other if self.direction == "higher" else value <= other

    def _value(self, structure: "Structure") -> float:
        if self.counts_absent or not structure.note:
            assert self.score is not None, f"{self.name} is no metric of masks"
            return self.score(structure)
        return self.for_empty(structure.note, structure)
