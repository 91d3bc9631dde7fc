"""Validation scores during training: digitally, or on chips after one day."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from analogmed.analog import Chip
from analogmed.data import Case, Task
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.time_constants import DAY_S
from analogmed.kinds.kind import Scorer, Scoring
from analogmed.network.inference import predict_each
from analogmed.network.walk import evaluating
from analogmed.training.preparation import Setup
from analogmed.training.sampling.cache import SampleCache

Network = Callable[[Tensor], Tensor]


_TOLERANCE = 2.0
"""Accepted deviation of surfaces for ``nsd``, in the unit of the spacing, as in an evaluation."""


class MeanScore:
    """Mean of a task's primary metric over cases and classes, of one network or of several.

    Args:
        task: task with window, classes, reader and primary metric.
        cases: cases to predict.
        limit_bytes: largest size of the samples kept in memory, in bytes.
        batch_size: images, or windows of a large image, in one pass.
        device: device of the computation.
    """

    def __init__(
        self,
        task: Task,
        cases: tuple[Case, ...],
        *,
        limit_bytes: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self._scoring = Scoring(
            task.classes, (task.primary_metric,), _TOLERANCE, task.spacing_unit, apart=task.apart
        )
        self._task, self._cases = task, range(len(cases))
        self._batch_size, self._device = batch_size, device
        self._samples = SampleCache(
            task.read,
            cases,
            n_classes=len(task.classes),
            limit_bytes=limit_bytes,
            kind=task.kind,
        )

    def __call__(self, networks: Sequence[Network]) -> float:
        """Return the mean over networks; without a defined value, that of the kind of the task."""
        scorers, order = self._scored(networks)
        found = (score for scorer in scorers for score in scorer.scores())
        scores = [score for score in found if score.class_name not in self._task.apart]
        scores.sort(key=lambda score: order[score.case])  # sums are in the order of the cases
        defined = [score.value for score in scores if not math.isnan(score.value)]
        return sum(defined) / len(defined) if defined else self._undefined()

    def thresholds(self, network: Network) -> tuple[float, ...]:
        """Return the threshold of each class with the largest F1; empty if the kind has none."""
        if not self._task.kind.has_thresholds:
            return ()
        (scorer,), _ = self._scored([network])
        return scorer.thresholds()

    def _scored(self, networks: Sequence[Network]) -> tuple[list[Scorer], dict[str, int]]:
        """Return scorers of networks with all cases, and the position of each case."""
        scorers = [self._task.kind.scorer(self._scoring) for _ in networks]
        order: dict[str, int] = {}
        step = self._task.kind.cases_together(self._batch_size)
        for start in self._cases[::step]:
            samples = [self._samples[number] for number in self._cases[start : start + step]]
            order |= {sample.case.case_id: start for sample in samples}
            images = [torch.from_numpy(sample.image).to(self._device) for sample in samples]
            for network, scorer in zip(networks, scorers, strict=True):
                logits = predict_each(
                    network, images, window=self._task.window, batch_size=self._batch_size
                )
                for sample, of_case in zip(samples, logits, strict=True):
                    scorer.add(sample.case.case_id, of_case, sample.label, sample.spacing)
        return scorers, order

    def _undefined(self) -> float:
        sample = self._samples[0]
        name = self._task.primary_metric
        return self._task.kind.undefined_score(name, sample.label, sample.spacing, _TOLERANCE)


class Validation:
    """Mean of the task's primary metric over validation cases and classes.

    Args:
        run: training run; a hardware-aware run is validated on its chips.
    """

    def __init__(self, run: Setup) -> None:
        self._run = run
        self._mean_score = MeanScore(
            run.task,
            run.task.validation,
            limit_bytes=run.config.loading.cache_bytes,
            batch_size=run.config.batch_size,
            device=run.device,
        )

    def __call__(self, model: nn.Module) -> float:
        """Return the score of a network; for an analog one, the mean over chips after one day."""
        if self._run.config.training == "digital":
            return self.digitally(model)
        return self.over_time(model, [DAY_S])[DAY_S]

    def over_time(self, model: nn.Module, times_s: Iterable[float]) -> dict[float, float]:
        """Return the mean score of an analog network's chips for each time after programming."""
        with evaluating(model), torch.no_grad():
            chips = self._chips(model)
            return {time_s: self._mean_score([c.at(time_s) for c in chips]) for time_s in times_s}

    def digitally(self, model: nn.Module) -> float:
        """Return the score of a network that is not on tiles."""
        with evaluating(model), torch.no_grad():
            return self._mean_score([model])

    def thresholds(self, network: nn.Module) -> tuple[float, ...]:
        """Return the threshold of each class of a network that is not on tiles, if it has any."""
        with evaluating(network), torch.no_grad():
            return self._mean_score.thresholds(network)

    def _chips(self, model: nn.Module) -> list[Chip]:
        config = self._run.config
        numbers = range(config.validation_chips)
        seeds = [derive_seed(config.seed, "validation", number) for number in numbers]
        return [Chip(model, seed=seed) for seed in seeds]
