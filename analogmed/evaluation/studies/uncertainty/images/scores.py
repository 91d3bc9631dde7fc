"""Metrics of the uncertainty of classified images: scores of all images together.

A position is a label of an image, or an image with exclusive classes. Calibration errors and error
detection need many of them. They are therefore computed over the positions of all cases, not case
by case as for masks. The region of a row is ``image`` for all positions, or the name of a class.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from analogmed.data import Case, Sample, Task
from analogmed.evaluation.studies.uncertainty.calibration import (
    Voxels,
    brier_score,
    flatten,
    negative_log_likelihood,
    risk_coverage,
)
from analogmed.evaluation.studies.uncertainty.maps import UncertaintyMaps
from analogmed.evaluation.studies.uncertainty.scores import (
    COVERAGES,
    PARTS,
    Address,
    Scores,
    measures_of,
)
from analogmed.foundation.errors import ConfigError
from analogmed.kinds.kind import CaseScore, Scoring
from analogmed.metrics.images import ClassImages
from analogmed.metrics.notes import APART
from analogmed.metrics.ranking import AUROC
from analogmed.tables.uncertainty import REGIONS


@dataclass
class _Cases:
    """Predictions of the cases of an address.

    Attributes:
        cases: the cases, in order.
        probabilities: mean probabilities of each case, shape (N, K, *positions).
        labels: reference of each case.
        wrong: whether each position of each case is predicted wrongly.
        measures: uncertainty of each position of each case, by measure.
        thresholds: threshold of the probability of each class, as in ``Scoring``.
    """

    cases: list[Case] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)
    wrong: list[np.ndarray] = field(default_factory=list)
    measures: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    thresholds: tuple[float, ...] = ()


@dataclass
class ImageScores(Scores):
    """Metrics of classified images; :meth:`finish` adds those of all cases together."""

    pending: dict[Address, _Cases] = field(default_factory=lambda: defaultdict(_Cases))

    def add(
        self,
        address: Address,
        sample: Sample,
        maps: UncertaintyMaps,
        task: Task,
        thresholds: Sequence[float] = (),
    ) -> None:
        """Add the maps of one case; all cases of an address have the same thresholds."""
        positions = flatten(maps.mean, sample.label)
        values = _proper_scores(positions)
        kept = self.pending[address]
        kept.thresholds = tuple(thresholds)
        for name, whole in measures_of(maps).items():
            values[f"mean_{name}"] = float(whole.mean(dtype=np.float64))
            if name not in PARTS:
                self._count(address, "image", name, whole.ravel())
                kept.measures[name].append(whole.ravel())
        self._rely(address, "image", sample.case, positions.confidence, positions.correct)
        self._write(address, sample.case, "image", values)
        for index, name in enumerate(task.classes):
            prob, present = task.kind.of_class(maps.mean, sample.label, index)
            of_class = Voxels(np.stack([1.0 - prob, prob], axis=1), present.astype(np.uint8))
            self._rely(address, name, sample.case, prob, present)
            self._write(address, sample.case, name, _proper_scores(of_class))
        kept.cases.append(sample.case)
        kept.probabilities.append(maps.mean)
        kept.labels.append(sample.label)
        kept.wrong.append(~positions.correct)

    def finish(self, task: Task) -> None:
        """Add contributions to the primary metric and to error detection, and the risk curves."""
        for address, kept in self.pending.items():
            lengths = [len(part) for part in kept.wrong]
            wrong, case = np.concatenate(kept.wrong), np.repeat(np.arange(len(lengths)), lengths)
            detected = {}
            for name, parts in kept.measures.items():
                images = ClassImages(wrong, np.concatenate(parts), case)
                detected[f"auroc_{name}"] = _rank_terms(images)
            for number, one in enumerate(kept.cases):
                values = {name: float(terms[number]) for name, terms in detected.items()}
                self._write(address, one, "image", values)
            self._add_primary(address, kept, task)
            uncertainty = np.concatenate(kept.measures["entropy"])
            curve = np.interp(COVERAGES, *risk_coverage(uncertainty, wrong))
            self.risks[address, "image"].append(curve)
        self.pending.clear()

    def _add_primary(self, address: Address, kept: _Cases, task: Task) -> None:
        """Add the contributions of cases to the primary metric, of each class and their mean."""
        found = primary_scores(task, kept.cases, kept.probabilities, kept.labels, kept.thresholds)
        for one, of_case in zip(kept.cases, found, strict=True):
            self._write(address, one, "image", {task.primary_metric: mean_of_classes(of_case)})
            for score in of_case:
                self._write(address, one, score.class_name, {score.metric: score.value})


def primary_scores(
    task: Task,
    cases: list[Case],
    probabilities: list[np.ndarray],
    labels: list[np.ndarray],
    thresholds: tuple[float, ...],
) -> list[list[CaseScore]]:
    """Return the contributions of each case to the primary metric of a task, of each class.

    Args:
        task: task with its primary metric.
        cases: cases, in order.
        probabilities: probabilities of each case, shape (N, K, *positions).
        labels: reference of each case.
        thresholds: threshold of the probability of each class, as in ``Scoring``.
    """
    metrics = (task.primary_metric,)
    scoring = Scoring(task.classes, metrics, 0.0, task.spacing_unit, thresholds, task.apart)
    scorer = task.kind.scorer(scoring)
    for case, prob, label in zip(cases, probabilities, labels, strict=True):
        scorer.add_probabilities(case.case_id, prob, label, ())
    of_case: dict[str, list[CaseScore]] = {case.case_id: [] for case in cases}
    for score in scorer.scores():
        of_case[score.case].append(score)
    return list(of_case.values())


def mean_of_classes(scores: list[CaseScore]) -> float:
    """Return the mean over the classes whose score is defined; NaN without one.

    Classes that a task scores on their own are left out.
    """
    kept = [score.value for score in scores if score.note != APART]
    values = [value for value in kept if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


def check_class_names(task: Task) -> None:
    """Raise ConfigError if a class of images has the name of another region of the tables."""
    taken = [] if task.kind.has_masks else [name for name in task.classes if name in REGIONS]
    if taken:
        raise ConfigError(
            f"classes of task {task.name}: {' and '.join(REGIONS)} are regions of the tables of "
            f"uncertainty; expected other names of classes, got {', '.join(taken)}. Rename the "
            "class in the task."
        )


def scores_of(task: Task) -> type[Scores]:
    """Return the class of the scores for the kind of a task."""
    return Scores if task.kind.has_masks else ImageScores


def _proper_scores(positions: Voxels) -> dict[str, float]:
    return {"brier": brier_score(positions), "nll": negative_log_likelihood(positions)}


def _rank_terms(images: ClassImages) -> np.ndarray:
    """Return the contributions of cases to the AUROC; NaN if it is undefined."""
    if images.note:
        return np.full(images.n_cases, np.nan)
    assert AUROC.rank_terms is not None
    return AUROC.rank_terms(images)
