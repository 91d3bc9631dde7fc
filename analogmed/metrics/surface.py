"""Surface metrics: distances between the surfaces of two masks; computed by monai.metrics."""

import math

import numpy as np

from analogmed.metrics.metric import DIAGONAL, SPACING, EmptyValues, Metric
from analogmed.metrics.structure import Structure


def _hd95(structure: Structure) -> float:
    return float(max(np.percentile(each, 95) for each in structure.surface_distances))


def _nsd(structure: Structure) -> float:
    return float(np.mean(np.concatenate(structure.surface_distances) <= structure.tolerance))


HD95 = Metric(
    "hd95",
    "HD95",
    _hd95,
    unit=SPACING,
    direction="lower",
    bounds=(0.0, math.inf),
    empty=EmptyValues(missed=DIAGONAL, spurious=DIAGONAL),
    per_image=True,
)
"""95th percentile of the distances between two surfaces, the larger of both directions.

Source: Huttenlocher et al. 1993."""

NSD = Metric("nsd", "NSD", _nsd, per_image=True)
"""Share of the two surfaces that lie within a tolerance of each other.

Source: Nikolov et al. 2018, arXiv:1809.04430, on boundary voxels."""
