"""Definition of a metric: names, range of values, and values for empty structures."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from analogmed.metrics.notes import BOTH_EMPTY, MISSED, SPURIOUS

if TYPE_CHECKING:
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
    """A score of the segmentation of one structure.

    Attributes:
        name: name in settings and tables.
        label: name in figures and pages.
        score: function from a structure, which is in both masks, to the value.
        unit: ``"1"``, or ``SPACING``.
        direction: direction of better values.
        bounds: smallest and largest possible value.
        empty: values for a structure that is not in both masks.
        counts_absent: whether the metric is always computed, and structures that the reference
            lacks count too, as for specificity.
        learned: value at which a network counts as trained; ``None`` if there is no such value.
            Relative values on a chip mean nothing for a network that is worse.
        per_image: whether separate images of a case are scored one by one and averaged.
    """

    name: str
    label: str
    score: Callable[["Structure"], float]
    unit: str = "1"
    direction: Literal["higher", "lower"] = "higher"
    bounds: Bounds = (0.0, 1.0)
    empty: EmptyValues = EmptyValues()
    counts_absent: bool = False
    learned: float | None = None
    per_image: bool = False

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
            return self.score(structure)
        return self.for_empty(structure.note, structure)
