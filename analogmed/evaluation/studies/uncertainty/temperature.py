"""Temperature scaling: one number that makes a network's probabilities softer or sharper.

Scaled is the logarithm of the mean probability of all passes, not the logits of each: averaging
first and scaling then is the better calibrated order (Rahaman and Thiery 2021, arXiv:2007.08792),
and asks for no pass to be kept.
"""

import math
import warnings

import numpy as np
from scipy import optimize, special

from analogmed.evaluation.studies.uncertainty.calibration import PROB_FLOOR, Voxels, band, flatten
from analogmed.foundation.errors import DataError

RANGE = (0.05, 20.0)
MOST_VOXELS = 2_000_000
"""More validation voxels than these are thinned out evenly."""


def fit_temperature(voxels: list[Voxels]) -> float:
    """The temperature with the least negative log-likelihood, found by Brent's method.

    Args:
        voxels: those of each validation case.

    Returns:
        temperature within ``RANGE``: above 1 softens, below 1 sharpens.

    Raises:
        DataError: there is no voxel.

    Source: Guo et al. 2017, arXiv:1706.04599.
    """
    total = sum(len(part.label) for part in voxels)
    if not total:
        raise DataError("temperature scaling needs labelled validation voxels, and there are none")
    step = max(1, -(-total // MOST_VOXELS))
    logs = np.concatenate([_log(part.prob[::step]) for part in voxels])
    labels = np.concatenate([part.label[::step] for part in voxels]).astype(np.int64)
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
            "are segmented without an error, or there are too few",
            stacklevel=2,
        )
    return temperature


def fitting_voxels(prob: np.ndarray, label: np.ndarray, region: str, margin: int) -> Voxels:
    """The voxels of a validation case that a temperature is fitted on.

    The two regions ask for different temperatures: over the whole image the sure background
    decides, and the best one for it may make the band about the structure worse.

    Args:
        prob: shape (N, K, *spatial).
        label: class indices, shape (N, *spatial).
        region: ``"image"``, or ``"band"`` for the reference dilated by the margin.
        margin: in voxels.
    """
    return flatten(prob, label, band(label, margin) if region == "band" else None)


def scale(prob: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities at a temperature.

    Args:
        prob: shape (N, K, *spatial); K = 1 is one class against the background.
        temperature: above 0.

    Returns:
        float32, same shape.
    """
    if prob.shape[1] == 1:
        clipped = np.clip(prob.astype(np.float64), PROB_FLOOR, 1.0 - PROB_FLOOR)
        return special.expit(special.logit(clipped) / temperature).astype(np.float32)
    return special.softmax(_log(prob) / temperature, axis=1).astype(np.float32)


def _log(prob: np.ndarray) -> np.ndarray:
    return np.log(np.clip(prob.astype(np.float64), PROB_FLOOR, 1.0 - PROB_FLOOR))
