"""Surface metrics: distances between the surfaces of two masks; computed by monai.metrics."""

import math

import numpy as np

from analogmed.metrics.metric import DIAGONAL, SPACING, EmptyValues, Metric
from analogmed.metrics.structure import Structure


def _distances(structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Return the surface distances from the prediction to the reference, and vice versa.

    They are computed within the smallest box around both masks.
    """
    if "surface_distances" not in structure.shared:
        from monai.metrics import get_mask_edges, get_surface_distance

        box = _bounding_box(structure.pred | structure.ref)
        pred, ref = get_mask_edges(structure.pred[box], structure.ref[box], crop=False)
        structure.shared["surface_distances"] = tuple(
            np.asarray(get_surface_distance(one, other, spacing=structure.spacing))
            for one, other in ((pred, ref), (ref, pred))
        )
    first, second = structure.shared["surface_distances"]
    return first, second


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Return the smallest box around a mask; only background is outside, so surfaces are kept."""
    axes = range(mask.ndim)
    spans = [
        np.flatnonzero(mask.any(axis=tuple(other for other in axes if other != axis)))
        for axis in axes
    ]
    return tuple(slice(int(span[0]), int(span[-1]) + 1) for span in spans)


def _hd95(structure: Structure) -> float:
    return float(max(np.percentile(each, 95) for each in _distances(structure)))


def _nsd(structure: Structure) -> float:
    return float(np.mean(np.concatenate(_distances(structure)) <= structure.tolerance))


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
"""Share of both surfaces that is within a tolerance of the other one.

Source: Nikolov et al. 2018, arXiv:1809.04430, on boundary voxels."""
