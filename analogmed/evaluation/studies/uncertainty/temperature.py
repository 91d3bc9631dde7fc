"""Temperature scaling: recalibration of a network's probabilities with one scalar.

The logarithm of the mean probability of all passes is scaled, not the logits of each pass. This
order is better calibrated (Rahaman and Thiery 2021, arXiv:2007.08792), and single passes need not
be stored.
"""

import math
import warnings
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import optimize, special

from analogmed.data import Task
from analogmed.evaluation.studies.uncertainty.calibration import PROB_FLOOR, Voxels, band, flatten
from analogmed.evaluation.studies.uncertainty.settings import (
    MitigationConfig,
    UncertaintyConfig,
)
from analogmed.foundation.errors import DataError

RANGE = (0.05, 20.0)
MOST_VOXELS = 2_000_000
"""Maximum number of validation voxels; more are thinned out evenly, case by case."""


def fit_temperature(voxels: list[Voxels]) -> float:
    """Fit the temperature with the lowest negative log-likelihood by Brent's method.

    Args:
        voxels: voxels of each validation case, as :func:`fitting_voxels` returns them.

    Returns:
        Temperature within ``RANGE``: above 1 softens, below 1 sharpens.

    Raises:
        DataError: there is no voxel.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    if not sum(len(part.label) for part in voxels):
        raise DataError("temperature scaling needs labelled validation voxels, and there are none")
    logs = np.concatenate([_log(part.prob) for part in voxels])
    labels = np.concatenate([part.label for part in voxels]).astype(np.int64)
    own = np.take_along_axis(logs, labels[:, None], 1)[:, 0]

    def loss(log_temperature: float) -> float:
        sharpness = math.exp(-log_temperature)
        return float(np.mean(special.logsumexp(sharpness * logs, axis=1) - sharpness * own))

    low, high = map(math.log, RANGE)
    found = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded")
    temperature = math.exp(found.x)
    if min(found.x - low, high - found.x) < 1e-3:
        warnings.warn(
            f"the temperature ran to the end of its range, {temperature:.3g}: the validation cases "
            "are predicted without an error, or there are too few",
            stacklevel=2,
        )
    return temperature


def fitting_region(config: UncertaintyConfig | MitigationConfig, task: Task) -> tuple[str, int]:
    """Return region and margin for :func:`fitting_voxels`; only masks have a band around them."""
    return (config.temperature_region if task.kind.has_masks else "image"), config.margin


def thinning_step(labels: Iterable[np.ndarray], region: str, margin: int) -> int:
    """Return n where every n-th voxel of all cases together is at most ``MOST_VOXELS``.

    Args:
        labels: class indices of each validation case, shape (N, *spatial).
        region, margin: as in :func:`fitting_voxels`.
    """
    masks = ((label, _mask(label, region, margin)) for label in labels)
    total = sum(label.size if mask is None else int(mask.sum()) for label, mask in masks)
    return max(1, -(-total // MOST_VOXELS))


def fitting_voxels(
    prob: np.ndarray, label: np.ndarray, region: str, margin: int, step: int = 1
) -> Voxels:
    """Return the voxels of a validation case for fitting a temperature.

    The two regions require different temperatures. Over the whole image the confident background
    dominates, and the best temperature for it can worsen the band around the structure.

    Args:
        prob: probabilities, shape (N, K, *spatial).
        label: class indices, shape (N, *spatial).
        region: ``"image"``, or ``"band"`` for the reference dilated by the margin.
        margin: margin of the band in voxels.
        step: distance between the voxels that are returned, see :func:`thinning_step`.
    """
    voxels = flatten(prob, label, _mask(label, region, margin))
    return Voxels(voxels.prob[::step].copy(), voxels.label[::step].copy())


def _mask(label: np.ndarray, region: str, margin: int) -> np.ndarray | None:
    return band(label, margin) if region == "band" else None


def scale(prob: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities at a temperature.

    Args:
        prob: probabilities, shape (N, K, *spatial); K = 1 is one class against the background.
        temperature: temperature above 0.

    Returns:
        Probabilities, float32, same shape.
    """
    if prob.shape[1] == 1:
        clipped = np.clip(prob.astype(np.float64), PROB_FLOOR, 1.0 - PROB_FLOOR)
        return special.expit(special.logit(clipped) / temperature).astype(np.float32)
    return special.softmax(_log(prob) / temperature, axis=1).astype(np.float32)


def scale_thresholds(thresholds: Sequence[float], temperature: float) -> tuple[float, ...]:
    """Return the thresholds that decide probabilities at a temperature as before."""
    return tuple(scale(np.array(thresholds)[:, None], temperature)[:, 0].tolist())


def _log(prob: np.ndarray) -> np.ndarray:
    return np.log(np.clip(prob.astype(np.float64), PROB_FLOOR, 1.0 - PROB_FLOOR))
