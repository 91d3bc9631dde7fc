"""Overlap metrics: shares of voxels. Source: Maier-Hein et al. 2024; computed by monai.metrics."""

import math
from typing import TYPE_CHECKING

from analogmed.metrics.metric import EmptyValues, Metric

if TYPE_CHECKING:
    from analogmed.metrics.structure import Structure


def _metric(
    name: str,
    label: str,
    monai_name: str,
    empty: EmptyValues = EmptyValues(),  # noqa: B008, which is frozen
    *,
    counts_absent: bool = False,
    learned: float | None = None,
) -> Metric:
    def score(structure: "Structure") -> float:
        import torch
        from monai.metrics import compute_confusion_matrix_metric

        matrix = torch.tensor([structure.counts], dtype=torch.float64)
        return float(compute_confusion_matrix_metric(monai_name, matrix).item())

    return Metric(name, label, score, empty=empty, counts_absent=counts_absent, learned=learned)


_OF_REFERENCE = EmptyValues(spurious=math.nan)  # undefined shares of an empty reference

DICE = _metric("dice", "Dice", "f1 score", learned=0.5)
"""Below 0.5, prediction and reference overlap in less than half of their mean size."""
JACCARD = _metric("jaccard", "Jaccard", "threat score")
SENSITIVITY = _metric("sensitivity", "Sensitivity", "sensitivity", _OF_REFERENCE)
SPECIFICITY = _metric("specificity", "Specificity", "specificity", counts_absent=True)
PRECISION = _metric("precision", "Precision", "precision")
RECALL = _metric("recall", "Recall", "recall", _OF_REFERENCE)
F1 = _metric("f1", "F1", "f1 score")
