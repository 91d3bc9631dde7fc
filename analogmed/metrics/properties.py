"""Possible values of the quantities in the tables: metrics and measures of uncertainty.

They are the bounds for every call of ``two_way_bootstrap``.
"""

import math

from analogmed.metrics.metric import Bounds
from analogmed.metrics.registry import is_metric, metric

_SHARE = (0.0, 1.0)
_NOT_NEGATIVE = (0.0, math.inf)
_UNKNOWN = (-math.inf, math.inf)
_RANKED_BY = ("entropy", "variance", "mutual_information")
_BOUNDS: dict[str, Bounds] = {
    **dict.fromkeys(("ece", "ece_band", "ece_pooled", "ace", "brier"), _SHARE),
    **dict.fromkeys(("nll", "nll_band", "entropy_per_foreground"), _NOT_NEGATIVE),
    **{f"{kind}_{measure}": _SHARE for kind in ("auroc", "aurc") for measure in _RANKED_BY},
    **{f"mean_{m}": _NOT_NEGATIVE for m in (*_RANKED_BY, "expected_entropy", "read_variance")},
    "mean_chip_variance": (-1.0, 1.0),  # unbiased, so that a small one can be negative
    "dice_correlation": (-1.0, 1.0),
    "dice_correlation_per_foreground": (-1.0, 1.0),
    "fnr": _SHARE,
    "marked_share": _SHARE,
    "volume_ratio": _NOT_NEGATIVE,
}


def bounds_of(name: str) -> Bounds:
    """Return the smallest and the largest possible mean of a metric; infinite where unknown.

    Example:
        >>> bounds_of("dice"), bounds_of("hd95")
        ((0.0, 1.0), (0.0, inf))
    """
    if name in _BOUNDS:
        return _BOUNDS[name]
    return metric(name).bounds if is_metric(name) else _UNKNOWN


def is_lower_better(name: str, given: bool | None = None) -> bool:
    """Return whether lower values of a metric are better; false for an unknown name.

    Args:
        name: name of the metric.
        given: the answer for a metric of the user; by default, as the metric declares.

    Example:
        >>> is_lower_better("dice"), is_lower_better("hd95")
        (False, True)
    """
    if given is not None:
        return given
    return is_metric(name) and metric(name).direction == "lower"


def chance_of(name: str) -> float:
    """Return the value of a metric for a network that has learned nothing; 0 for an unknown name.

    Example:
        >>> chance_of("dice"), chance_of("auroc")
        (0.0, 0.5)
    """
    return metric(name).chance if is_metric(name) else 0.0


def is_of_masks(name: str) -> bool:
    """Return whether a metric is a score of masks; true for an unknown name."""
    return not is_metric(name) or metric(name).is_of_masks


def input_word(name: str) -> str:
    """Return the word for one input of a network whose primary metric is this one.

    Example:
        >>> input_word("dice"), input_word("auroc")
        ('slice', 'input')
    """
    return "slice" if is_of_masks(name) else "input"


def difference_bounds(name: str) -> Bounds:
    """Return the smallest and the largest possible difference between two means of a metric.

    Example:
        >>> difference_bounds("dice")
        (-1.0, 1.0)
    """
    low, high = bounds_of(name)
    return low - high, high - low
