"""How good a network is while it is trained: digitally, or on chips after a day."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from analogmed.analog import Chip
from analogmed.analog.traverse import evaluating
from analogmed.config import DAY_S
from analogmed.data import Sample
from analogmed.inference import predict_logits, to_classes
from analogmed.seeds import derive_seed
from analogmed.training.sample_cache import SampleCache
from analogmed.training.setup import Setup

Network = Callable[[Tensor], Tensor]


class Validation:
    """Mean Dice over validation cases and classes.

    Args:
        run: a hardware-aware one is validated on its chips.
    """

    def __init__(self, run: Setup) -> None:
        self._run = run
        self._samples = SampleCache(
            run.task.read,
            run.task.validation,
            n_classes=len(run.task.classes),
            limit_bytes=run.config.loading.cache_bytes,
        )

    def __call__(self, model: nn.Module) -> float:
        """Score of a network; of an analog one the mean over chips, a day after programming."""
        with evaluating(model), torch.no_grad():
            networks = [model] if self._run.config.training == "digital" else self._chips(model)
            cases = range(len(self._run.task.validation))
            scores = [
                score for case in cases for score in self._scores(networks, self._samples[case])
            ]
        defined = [score for score in scores if math.isfinite(score)]
        return sum(defined) / len(defined) if defined else 0.0

    def _chips(self, model: nn.Module) -> list[Network]:
        config = self._run.config
        numbers = range(config.validation_chips)
        seeds = [derive_seed(config.seed, "validation", number) for number in numbers]
        return [Chip(model, seed=seed).at(DAY_S) for seed in seeds]

    def _scores(self, networks: Sequence[Network], sample: Sample) -> Iterator[float]:
        """Dice of each network and class; NaN where there is nothing, and nothing was found."""
        task = self._run.task
        images = torch.from_numpy(sample.image).to(self._run.device)
        for network in networks:
            logits = predict_logits(
                network, images, window=task.window, batch_size=self._run.config.batch_size
            )
            predicted, label = to_classes(logits).cpu().numpy(), sample.label
            for index in range(1, len(task.classes) + 1):
                size = int((predicted == index).sum() + (label == index).sum())
                both = int(((predicted == index) & (label == index)).sum())
                yield 2 * both / size if size else math.nan
