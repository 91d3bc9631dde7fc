"""Metrics of ranked probabilities, computed by scikit-learn."""

import math

import numpy as np
from scipy import stats

from analogmed.metrics.images import ClassImages, pseudo_values
from analogmed.metrics.metric import Metric


def _auroc_terms(images: ClassImages) -> np.ndarray:
    """Return the contributions of cases to the AUROC, from the placement of each image.

    The term of a positive image is A + n/n1 (V - A), and that of a negative one A + n/n0 (V - A).
    The placement V is the share of the images of the other sort that are ranked correctly relative
    to it; ties count half.

    Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44(3), for the placements.
    """
    from sklearn.metrics import roc_auc_score

    positive, probability = images.positive, images.probability
    n, n1 = len(positive), int(positive.sum())
    area = float(roc_auc_score(positive, probability))
    below = stats.rankdata(probability)  # of all images; ties have their mean rank
    for part in (positive, ~positive):
        below[part] -= stats.rankdata(probability[part])
    placement = np.where(positive, below / (n - n1), 1 - below / n1)
    terms = area + n / np.where(positive, n1, n - n1) * (placement - area)
    return images.sum_by_case(terms) * (images.n_cases / n)


def _precision_terms(images: ClassImages) -> np.ndarray:
    """Return the contributions of cases to the average precision."""
    from sklearn.metrics import average_precision_score

    def score(part: ClassImages) -> float:
        return float(average_precision_score(part.positive, part.probability))

    without = [score(images.without(case)) for case in range(images.n_cases)]
    return pseudo_values(score(images), np.array(without))


AUROC = Metric("auroc", "AUROC", rank_terms=_auroc_terms, chance=0.5, learned=0.7)
"""Probability that a positive image has a higher probability than a negative one.

Below 0.7, discrimination is poor. Source: Hosmer and Lemeshow 2000, Applied Logistic Regression."""

AVERAGE_PRECISION = Metric(
    "average_precision", "Average precision", rank_terms=_precision_terms, chance=math.nan
)
"""Mean precision over the ranks of the positive images; its chance level is the prevalence."""
