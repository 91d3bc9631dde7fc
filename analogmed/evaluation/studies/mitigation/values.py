"""Values of one read of a chip: score and calibration of each test case."""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from analogmed.data import Case, Sample, Task
from analogmed.evaluation.studies.uncertainty.calibration import (
    band,
    brier_score,
    calibration_error,
    flatten,
    negative_log_likelihood,
)
from analogmed.evaluation.studies.uncertainty.images.scores import mean_of_classes, primary_scores
from analogmed.kinds.segmentation import classes_of
from analogmed.metrics.case import mean_dice

METRICS = ("dice", "ece", "nll", "ece_band", "nll_band")
"""Metrics of masks."""


class Values(Protocol):
    """Values of the test cases of one read."""

    def add(self, sample: Sample, prob: np.ndarray) -> None:
        """Add the probabilities of a case, shape (N, K, *positions)."""

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield case, patient, metric and value, case by case."""


def values_of(task: Task, margin: int, thresholds: tuple[float, ...]) -> Values:
    """Return empty values for the kind of a task.

    Args:
        task: task of the test cases.
        margin: margin of the band of masks, in voxels.
        thresholds: threshold of the probability of each class of images, as in ``Scoring``.
    """
    return _OfMasks(task, margin) if task.kind.has_masks else _OfImages(task, thresholds)


class _OfMasks:
    def __init__(self, task: Task, margin: int) -> None:
        self._task, self._margin = task, margin
        self._rows: list[dict[str, Any]] = []

    def add(self, sample: Sample, prob: np.ndarray) -> None:
        whole = flatten(prob, sample.label)
        near = flatten(prob, sample.label, band(sample.label, self._margin))
        values = (
            mean_dice(classes_of(prob), sample.label, len(self._task.classes)),
            calibration_error(whole.confidence, whole.correct),
            negative_log_likelihood(whole),
            calibration_error(near.confidence, near.correct),
            negative_log_likelihood(near),
        )
        self._rows += _rows_of(sample.case, dict(zip(METRICS, values, strict=True)))

    def rows(self) -> Iterator[dict[str, Any]]:
        yield from self._rows


class _OfImages:
    """Contributions to the primary metric, Brier score and likelihood of classified images."""

    def __init__(self, task: Task, thresholds: tuple[float, ...]) -> None:
        self._task, self._thresholds = task, thresholds
        self._cases: list[Case] = []
        self._probabilities: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []

    def add(self, sample: Sample, prob: np.ndarray) -> None:
        self._cases.append(sample.case)
        self._probabilities.append(prob)
        self._labels.append(sample.label)

    def rows(self) -> Iterator[dict[str, Any]]:
        of_cases = self._cases, self._probabilities, self._labels
        found = primary_scores(self._task, *of_cases, self._thresholds)
        for case, prob, label, scores in zip(*of_cases, found, strict=True):
            positions = flatten(prob, label)
            values = {
                self._task.primary_metric: mean_of_classes(scores),
                "brier": brier_score(positions),
                "nll": negative_log_likelihood(positions),
            }
            yield from _rows_of(case, values)


def _rows_of(case: Case, values: dict[str, float]) -> list[dict[str, Any]]:
    where = {"case": case.case_id, "patient": case.patient_id}
    return [where | {"metric": metric, "value": value} for metric, value in values.items()]
