"""Surrogates of AnalogNAS: boosted trees that predict the metrics of an untrained network."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xgboost

MARGIN = 0.1
"""Margin by which the better network of a pair should lead in the ranking."""

_TREES = 110
_BOOSTER: Mapping[str, Any] = {
    "eta": 0.05,
    "max_depth": 6,
    "subsample": 0.75,
    "colsample_bytree": 0.9,
    "nthread": 1,  # with several, sums would depend on their order
    "verbosity": 0,
}


class Surrogate:
    """Predictor of a network's rank and metrics from its features.

    Args:
        features: features of evaluated networks, shape (n, features).
        score: score of each network, higher is better; the ranking learns only the order.
        metrics: measured values by name, each of shape (n,), NaN where unknown.
        seed: seed of the draws of rows and columns for each tree.

    Source: Benmeziane et al. 2023, arXiv:2305.10459 (AnalogNAS): pairwise ranking with a hinge of
    margin 0.1 for the score, squared error for the rest.
    """

    def __init__(
        self,
        features: np.ndarray,
        score: np.ndarray,
        metrics: Mapping[str, np.ndarray],
        seed: int,
    ) -> None:
        booster = {**_BOOSTER, "seed": seed % 2**31}
        self._ranking = xgboost.train(
            {**booster, "base_score": 0.0, "disable_default_eval_metric": 1},
            xgboost.DMatrix(features, score),
            _TREES,
            obj=_pairwise_objective,
        )
        self._regressions = {
            name: xgboost.train(
                {**booster, "objective": "reg:squarederror"},
                xgboost.DMatrix(features[~np.isnan(values)], values[~np.isnan(values)]),
                _TREES,
            )
            for name, values in metrics.items()
        }
        self._line = _line(self.rank(features), score)

    def rank(self, features: np.ndarray) -> np.ndarray:
        """Return unitless ranks; higher values predict higher scores."""
        return _predict(self._ranking, features)

    def score(self, features: np.ndarray) -> np.ndarray:
        """Return the ranking in the unit of the score, by a linear fit to the measured scores."""
        slope, intercept = self._line
        return slope * self.rank(features) + intercept

    def metric(self, name: str, features: np.ndarray) -> np.ndarray:
        """Return predicted values of a metric, shape (n,)."""
        return _predict(self._regressions[name], features)


def pairwise_hinge(
    predicted: np.ndarray, score: np.ndarray, margin: float = MARGIN
) -> tuple[float, np.ndarray]:
    """Return the hinge loss of all pairs, and its gradient.

    It is the mean of ``max(0, margin - (predicted_i - predicted_j))`` over the pairs in which i has
    the higher score, times n / 2, so that the gradient of one network does not shrink with n.

    Args:
        predicted: predicted ranks of the networks, shape (n,).
        score: measured scores, shape (n,); pairs of equal scores do not count.
        margin: margin by which the better network should lead.

    Returns:
        loss, and its derivative by each prediction, shape (n,).

    Source: Benmeziane et al. 2023, arXiv:2305.10459.
    """
    better = score[:, None] > score[None, :]
    lead = predicted[:, None] - predicted[None, :]
    short = better & (lead < margin)
    share = len(score) / 2 / max(int(better.sum()), 1)
    loss = float((margin - lead)[short].sum() * share)
    gradient = (short.sum(axis=0) - short.sum(axis=1)) * share
    return loss, gradient


def _pairwise_objective(
    predicted: np.ndarray, data: xgboost.DMatrix
) -> tuple[np.ndarray, np.ndarray]:
    """Return the gradient, and ones in place of the second derivative.

    The second derivative is 0 almost everywhere. A leaf then uses the mean gradient of its networks
    as its step, as in gradient boosting of first order.
    """
    _, gradient = pairwise_hinge(predicted, data.get_label())
    return gradient, np.ones_like(gradient)


def _line(rank: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept of the least-squares line; slope 0 where all ranks are equal."""
    spread = rank - rank.mean()
    slope = float(spread @ (score - score.mean()) / max(spread @ spread, 1e-12))
    return slope, float(score.mean() - slope * rank.mean())


def _predict(booster: xgboost.Booster, features: np.ndarray) -> np.ndarray:
    predicted: np.ndarray = booster.inplace_predict(features)
    return predicted.astype(np.float64)
