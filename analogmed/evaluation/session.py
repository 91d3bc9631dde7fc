"""Rows of the results table for one network, or one read of a chip, on the test cases."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from analogmed.analog import ChipSnapshot
from analogmed.data import Case, Sample, Task
from analogmed.data.samples import naming_case
from analogmed.evaluation.settings import Experiment
from analogmed.kinds.kind import Scorer, Scoring
from analogmed.network.inference import predict_each
from analogmed.training import Checkpoint

Row = dict[str, object]
Network = Callable[[Tensor], Tensor]

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
    """Samples of cases of a task, read when they are needed and cached up to 2 GB.

    Args:
        task: task that reads the cases.
        cases: cases to read; by default the test cases.
    """

    def __init__(self, task: Task, cases: Sequence[Case] | None = None) -> None:
        self.task = task
        self._cases = task.test if cases is None else tuple(cases)
        self._kept: dict[str, Sample] = {}
        self._bytes = 0

    def __iter__(self) -> Iterator[Sample]:
        for case in self._cases:
            yield self._kept.get(case.case_id) or self._read(case)

    def __len__(self) -> int:
        return len(self._cases)

    def _read(self, case: Case) -> Sample:
        sample = self.task.read(case)
        size = sample.image.nbytes + sample.label.nbytes
        if self._bytes + size <= _CACHE_BYTES:
            self._kept[case.case_id] = sample
            self._bytes += size
        return sample


def read_cases(
    unit: Deployment,
    network: Network,
    cases: Cases,
    experiment: Experiment,
    where: Row,
    on_case: Callable[[], object],
) -> list[Row]:
    """Compute the rows of one network, or of one read of a chip, on all cases.

    Args:
        unit: deployment that the rows belong to.
        network: function from images to logits.
        cases: test samples.
        experiment: all settings.
        where: time and read of a chip; empty for the digital run.
        on_case: callback after each case.
    """
    address: Row = {
        "task": cases.task.name,
        "model": unit.checkpoint.info.model,
        "training": unit.checkpoint.info.training,
        "hardware": "digital" if unit.chip is None else experiment.hardware.preset,
        "chip": unit.chip,
        **where,
    }
    task = cases.task
    scorer = task.kind.scorer(
        Scoring(task.classes, experiment.metrics_for(task), experiment.tolerance, task.spacing_unit)
    )
    patients: dict[str, str] = {}
    for group in _groups(cases, task.kind.cases_together(experiment.batch_size)):
        patients |= {sample.case.case_id: sample.case.patient_id for sample in group}
        if isinstance(network, ChipSnapshot):
            network.restart(group[0].case.case_id)
        _add_cases(scorer, network, group, cases, experiment)
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


def _groups(samples: Iterable[Sample], size: int) -> Iterator[list[Sample]]:
    """Yield groups of consecutive samples."""
    remaining = iter(samples)
    while group := list(islice(remaining, size)):
        yield group


@torch.inference_mode()
def _add_cases(
    scorer: Scorer, network: Network, group: Sequence[Sample], cases: Cases, experiment: Experiment
) -> None:
    with naming_case(group[0].case):
        logits = predict_each(
            network,
            [torch.from_numpy(sample.image).to(experiment.device) for sample in group],
            window=cases.task.window,
            batch_size=experiment.batch_size,
        )
    for sample, of_case in zip(group, logits, strict=True):
        with naming_case(sample.case):
            scorer.add(sample.case.case_id, of_case, sample.label, sample.spacing)
