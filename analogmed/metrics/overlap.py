"""Overlap metrics: shares of voxels, some of them also of images.

Source: Maier-Hein et al. 2024; those of masks are computed by monai.metrics.
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
    monai_name: str,
    empty: EmptyValues = _NO_OVERLAP,
    *,
    counts_absent: bool = False,
    learned: float | None = None,
    count_score: "Callable[[np.ndarray], np.ndarray] | None" = None,
) -> Metric:
    def score(structure: "Structure") -> float:
        import torch
        from monai.metrics import compute_confusion_matrix_metric

        matrix = torch.tensor([structure.counts], dtype=torch.float64)
        return float(compute_confusion_matrix_metric(monai_name, matrix).item())

    return Metric(
        name,
        label,
        score,
        empty=empty,
        counts_absent=counts_absent,
        learned=learned,
        count_score=count_score,
    )


DICE = _metric("dice", "Dice", "f1 score", learned=0.5)
"""Below 0.5, prediction and reference overlap in less than half of their mean size."""
JACCARD = _metric("jaccard", "Jaccard", "threat score")
SENSITIVITY = _metric(
    "sensitivity", "Sensitivity", "sensitivity", _OF_REFERENCE, count_score=agreement.sensitivity
)
SPECIFICITY = _metric(
    "specificity",
    "Specificity",
    "specificity",
    counts_absent=True,
    count_score=agreement.specificity,
)
PRECISION = _metric("precision", "Precision", "precision", count_score=agreement.precision)
RECALL = _metric("recall", "Recall", "recall", _OF_REFERENCE, count_score=agreement.sensitivity)
F1 = _metric("f1", "F1", "f1 score", count_score=agreement.f1)
