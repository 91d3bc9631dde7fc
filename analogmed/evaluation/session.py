"""Rows of the results table for one network, or one read of a chip, on the test cases."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analogmed.analog import ChipSnapshot
from analogmed.data import Case, Sample, Task
from analogmed.evaluation.settings import Experiment
from analogmed.foundation.errors import AnalogmedError
from analogmed.metrics.case import case_metrics
from analogmed.network.inference import predict_logits, to_classes
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
    rows = []
    for sample in cases:
        address_of_case = address | {
            "case": sample.case.case_id,
            "patient": sample.case.patient_id,
        }
        if isinstance(network, ChipSnapshot):
            network.restart(sample.case.case_id)
        rows += [address_of_case | row for row in _case_rows(network, sample, cases, experiment)]
        on_case()
    return rows


@torch.inference_mode()
def _case_rows(network: Network, sample: Sample, cases: Cases, experiment: Experiment) -> list[Row]:
    task = cases.task
    images = torch.from_numpy(sample.image).to(experiment.device)
    try:
        logits = predict_logits(
            network, images, window=task.window, batch_size=experiment.batch_size
        )
        found = case_metrics(
            to_classes(logits).cpu(),
            sample.label,
            n_classes=len(task.classes),
            spacing=sample.spacing,
            tolerance=experiment.tolerance,
            unit=task.spacing_unit,
            metrics=experiment.metrics_for(task),
        )
    except AnalogmedError as error:
        raise type(error)(f"case {sample.case.case_id}: {error}") from error
    return [
        {
            "class": task.classes[row.class_index - 1],
            "metric": row.metric,
            "value": row.value,
            "unit": row.unit,
            "note": row.note,
        }
        for row in found
    ]
