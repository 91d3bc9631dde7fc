"""Rows of the results table for one network, or one read of a chip, on the test cases."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from analogmed.data import Case, Sample, Task
from analogmed.data.samples import naming_case
from analogmed.evaluation.passes import Pass, predict_cases
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.process import free_bytes
from analogmed.kinds.kind import Scorer, Scoring
from analogmed.training import Checkpoint

Row = dict[str, object]

_CACHE_BYTES = 2 * 2**30


@dataclass(frozen=True)
class Deployment:
    """A network that is run digitally or on one chip.

    Attributes:
        checkpoint: trained network.
        chip: number of the chip; ``None`` for the digital run.
    """

    checkpoint: Checkpoint
    chip: int | None


class Cases:
    """Samples of cases of a task, read when they are needed and cached as far as memory allows.

    The cache takes at most 2 GB, and at most a quarter of the memory that the process may use.

    Args:
        task: task that reads the cases.
        cases: cases to read; by default the test cases.
    """

    def __init__(self, task: Task, cases: Sequence[Case] | None = None) -> None:
        self.task = task
        self._cases = task.test if cases is None else tuple(cases)
        self._kept: dict[str, Sample] = {}
        self._bytes = 0
        free = free_bytes()
        self._limit = _CACHE_BYTES if free is None else min(_CACHE_BYTES, free // 4)

    def __iter__(self) -> Iterator[Sample]:
        for case in self._cases:
            yield self._kept.get(case.case_id) or self._read(case)

    def __len__(self) -> int:
        return len(self._cases)

    def _read(self, case: Case) -> Sample:
        sample = self.task.read(case)
        size = sample.image.nbytes + sample.label.nbytes
        if self._bytes + size <= self._limit:
            self._kept[case.case_id] = sample
            self._bytes += size
        return sample


def read_cases(
    unit: Deployment,
    one: Pass,
    cases: Cases,
    experiment: Experiment,
    on_case: Callable[[], object],
) -> list[Row]:
    """Compute the rows of one pass on all cases; those of a chip have its time and read.

    Args:
        unit: deployment that the rows belong to.
        one: pass through its network.
        cases: test samples.
        experiment: all settings.
        on_case: callback after each case.
    """
    address: Row = {
        "task": cases.task.name,
        "model": unit.checkpoint.info.model,
        "training": unit.checkpoint.info.training,
        "hardware": "digital" if unit.chip is None else experiment.hardware.preset,
        "chip": unit.chip,
        **({} if unit.chip is None else {"time_s": one.time_s, "read": one.read}),
    }
    task = cases.task
    scorer = task.kind.scorer(
        Scoring(
            task.classes,
            experiment.metrics_for(task),
            experiment.tolerance,
            task.spacing_unit,
            unit.checkpoint.info.thresholds,
            task.apart,
        )
    )
    patients: dict[str, str] = {}
    for group in groups(cases, task.kind.cases_together(experiment.images_per_pass)):
        patients |= {sample.case.case_id: sample.case.patient_id for sample in group}
        _add_cases(scorer, one, group, task, experiment)
        for _ in group:
            on_case()
    return [
        address
        | {
            "case": score.case,
            "patient": patients[score.case],
            "class": score.class_name,
            "metric": score.metric,
            "value": score.value,
            "unit": score.unit,
            "note": score.note,
        }
        for score in scorer.scores()
    ]


def groups(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Yield groups of consecutive samples."""
    remaining = iter(samples)
    while group := list(islice(remaining, size)):
        yield group


@torch.inference_mode()
def _add_cases(
    scorer: Scorer, one: Pass, group: Sequence[Sample], task: Task, experiment: Experiment
) -> None:
    logits = predict_cases(one, group, task, experiment)
    for sample, of_case in zip(group, logits, strict=True):
        with naming_case(sample.case):
            scorer.add(sample.case.case_id, of_case, sample.label, sample.spacing)
