"""Overlap metrics: shares of voxels, some of them also of images.

Source: Maier-Hein et al. 2024.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from analogmed.metrics import agreement
from analogmed.metrics.metric import EmptyValues, Metric

if TYPE_CHECKING:
    import numpy as np

    from analogmed.metrics.structure import Structure


_NO_OVERLAP = EmptyValues(missed=0.0, spurious=0.0, both=math.nan)
"""No overlap if one mask is empty; undefined if both are."""
_OF_REFERENCE = EmptyValues(spurious=math.nan)
"""Shares of the reference are undefined if the reference is empty."""


def _metric(
    name: str,
    label: str,
    share: "Callable[[np.ndarray], np.ndarray]",
    empty: EmptyValues = _NO_OVERLAP,
    *,
    of_images: bool = True,
    counts_absent: bool = False,
    learned: float | None = None,
) -> Metric:
    def score(structure: "Structure") -> float:
        import numpy as np  # not needed to list metrics

        with np.errstate(invalid="ignore"):  # a share of no voxel is NaN
            return float(share(structure.confusion))

    return Metric(
        name,
        label,
        score,
        empty=empty,
        counts_absent=counts_absent,
        learned=learned,
        count_score=share if of_images else None,
    )


DICE = _metric("dice", "Dice", agreement.f1, of_images=False, learned=0.5)
"""Below 0.5, prediction and reference overlap in less than half of their mean size."""
JACCARD = _metric("jaccard", "Jaccard", agreement.jaccard, of_images=False)
SENSITIVITY = _metric("sensitivity", "Sensitivity", agreement.sensitivity, _OF_REFERENCE)
SPECIFICITY = _metric("specificity", "Specificity", agreement.specificity, counts_absent=True)
PRECISION = _metric("precision", "Precision", agreement.precision)
RECALL = _metric("recall", "Recall", agreement.sensitivity, _OF_REFERENCE)
F1 = _metric("f1", "F1", agreement.f1)
