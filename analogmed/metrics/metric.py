"""A metric: what it is called, which values it has, and what it is of empty structures."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from analogmed.metrics.notes import BOTH_EMPTY, MISSED, SPURIOUS
from analogmed.metrics.structure import Structure

Bounds: TypeAlias = tuple[float, float]

SPACING = "spacing"
"""Unit of a metric that is measured in the unit of the voxel spacing."""
DIAGONAL = math.inf
"""Value of a distance of an empty structure: the diagonal of the image."""


@dataclass(frozen=True)
class EmptyValues:
    """Values of a metric where a structure is not in both masks; ``DIAGONAL`` of the image.

    Attributes:
        missed: the reference contains it, the prediction does not.
        spurious: the prediction contains it, the reference does not.
        both: neither contains it.
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
        name: in settings and tables.
        label: in figures and pages.
        score: from the masks of a structure that both contain to the value.
        unit: ``"1"``, or ``SPACING``.
        direction: which values are better.
        bounds: smallest and largest possible value.
        empty: values where a structure is not in both masks.
        counts_absent: whether it is computed whatever the masks contain, and structures that the
            reference lacks count too, as for specificity.
        per_image: whether separate images of a case are scored one by one and averaged.
    """

    name: str
    label: str
    score: Callable[[Structure], float]
    unit: str = "1"
    direction: Literal["higher", "lower"] = "higher"
    bounds: Bounds = (0.0, 1.0)
    empty: EmptyValues = EmptyValues()
    counts_absent: bool = False
    per_image: bool = False

    def value(self, structure: Structure) -> tuple[float, str]:
        """Return the value of a structure, and the note of what was empty."""
        if not self.per_image:
            return self._value(structure), structure.note
        images = structure.images
        if not images:
            return self.empty.both, BOTH_EMPTY
        values = [self._value(image) for image in images]
        return sum(values) / len(values), structure.note_of_images

    def unit_for(self, spacing_unit: str) -> str:
        """Return the unit of values where the spacing of the voxels has the given unit."""
        return spacing_unit if self.unit == SPACING else self.unit

    def _value(self, structure: Structure) -> float:
        if self.counts_absent or not structure.note:
            return self.score(structure)
        value = self.empty.of(structure.note)
        return structure.diagonal if value == DIAGONAL else value
