"""Classified images of one class or several, and contributions of cases to a score of all of them.

A score such as AUROC is no mean over cases. Its contributions are: one term for each case, whose
mean is the score, and whose spread over cases yields its standard error. Means over chips,
bootstrap intervals, paired differences and tests then apply as to any other metric.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from analogmed.metrics.notes import (
    NO_NEGATIVE,
    NO_POSITIVE,
    ONE_CASE_NEGATIVE,
    ONE_CASE_POSITIVE,
)

DECIMALS = 12
"""Decimals of a contribution."""


@dataclass(frozen=True)
class ClassImages:
    """Predictions and references of one class in n images.

    Attributes:
        positive: whether an image has the class, bool, shape (n,).
        probability: predicted probability of the class, shape (n,).
        case: index of the case of each image, from 0 without gaps, shape (n,).
    """

    positive: np.ndarray
    probability: np.ndarray
    case: np.ndarray

    @property
    def n_cases(self) -> int:
        """Number of cases."""
        return int(self.case.max()) + 1

    @property
    def note(self) -> str:
        """Why scores of the class are undefined; empty if they are defined.

        With positive (or negative) images in a single case, a score has no value without this case,
        and therefore no interval.
        """
        notes = {True: (NO_POSITIVE, ONE_CASE_POSITIVE), False: (NO_NEGATIVE, ONE_CASE_NEGATIVE)}
        for positive, (none, one) in notes.items():
            cases = np.unique(self.case[self.positive == positive])
            if len(cases) < 2:
                return one if len(cases) else none
        return ""

    def without(self, case: int) -> "ClassImages":
        """Return the images of all other cases."""
        kept = self.case != case
        others = self.case[kept]
        return ClassImages(
            self.positive[kept], self.probability[kept], others - (others > case).astype(int)
        )

    def sum_by_case(self, values: np.ndarray) -> np.ndarray:
        """Return the sum of a value over the images of each case, shape (cases,)."""
        return np.bincount(self.case, weights=values, minlength=self.n_cases)


def confusion(
    reference: np.ndarray, decided: np.ndarray, case: np.ndarray, n_classes: int
) -> np.ndarray:
    """Count the images of each case by their reference and their decided class.

    Args:
        reference: class index of each image, shape (n,).
        decided: decided class index, same shape.
        case: index of the case of each image, from 0 without gaps.
        n_classes: number of classes K.

    Returns:
        float64 counts, shape (cases, K, K): reference by decision.
    """
    counts = np.zeros((int(case.max()) + 1, n_classes, n_classes))
    np.add.at(counts, (case, reference, decided), 1.0)
    return counts


def pseudo_values(whole: float, without: np.ndarray) -> np.ndarray:
    """Return contributions of cases from the scores without each of them.

    They are the pseudo-values of the jackknife, shifted so that their mean is the score. Rounding
    gives equal predictions equal values.

    Args:
        whole: score of all P cases.
        without: score without each case, shape (P,).

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 11.
    """
    n = len(without)
    values = n * whole - (n - 1) * without
    return np.round(values + (whole - values.mean()), DECIMALS)


def of_counts(score: Callable[[np.ndarray], np.ndarray], counts: np.ndarray) -> np.ndarray:
    """Return the contributions of cases to a score of confusion matrices.

    Args:
        score: function from counts (..., K, K) to the score, shape (...).
        counts: counts of each case, shape (cases, K, K).
    """
    total = counts.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return pseudo_values(float(score(total)), score(total - counts))
