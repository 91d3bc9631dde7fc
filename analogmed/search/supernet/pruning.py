"""Progressive pruning: removal of the operations with the lowest score per latency."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from analogmed.models import Genotype
from analogmed.search.supernet.latency import Latencies
from analogmed.search.supernet.path_sampling import ReducedSpace
from analogmed.search.supernet.settings import PruningConfig


@dataclass(frozen=True)
class PrunedOperation:
    """A pruned operation; a row of ``pruning.csv``.

    Attributes:
        epoch: epoch after which it was pruned.
        level: level, counted from the image.
        block: name of the block.
        dice: running average of the score on a batch of the networks that used it: Dice, or the
            probability of the reference class of classified images.
        latency_s: latency in its score, in s.
    """

    epoch: int
    level: int
    block: str
    dice: float
    latency_s: float


class Pruning:
    """Running averages of the operations' scores, and removal of the worst operations.

    Args:
        choices: initial choices.
        config: settings of the pruning.
        latencies: latencies of the operations; required if the settings enable pruning.

    Attributes:
        choices: remaining choices.
        dropped: pruned operations, in order.
    """

    def __init__(
        self, choices: ReducedSpace, config: PruningConfig, latencies: Latencies | None
    ) -> None:
        self.choices = choices
        self.dropped: list[PrunedOperation] = []
        self._config, self._latencies = config, latencies
        self._average: dict[tuple[int, str], float] = {}

    def observe(self, genotype: Genotype, dice: float) -> None:
        """Update the averages with the score of a network on a batch; NaN is ignored."""
        if not math.isfinite(dice):
            return
        for level, gene in enumerate(genotype.levels[: genotype.depth]):
            before = self._average.get((level, gene.block), dice)
            share = 1 - self._config.decay
            self._average[level, gene.block] = before + share * (dice - before)

    def score(self, level: int, block: str) -> float:
        """Return the average score per second of an operation; NaN before it was used."""
        average = self._average.get((level, block), math.nan)
        return average / self._seconds(level, block)

    def after_epoch(self, epoch: int) -> list[PrunedOperation]:
        """Prune one operation of each level, if it is time.

        Args:
            epoch: number of the completed epoch, from 1.

        Returns:
            the pruned operations. Operations that were not used yet stay.
        """
        since = epoch - self._config.warm_up
        if not self._config.every or since <= 0 or since % self._config.every:
            return []
        left: list[PrunedOperation] = []
        for level, blocks in enumerate(self.choices.blocks):
            used = [block for block in blocks if (level, block) in self._average]
            if len(blocks) <= self._config.keep or not used:
                continue
            worst = min(used, key=lambda block: self.score(level, block))
            self.choices = self.choices.without(level, worst)
            dice, time_s = self._average[level, worst], self._seconds(level, worst)
            left.append(PrunedOperation(epoch, level, worst, dice, time_s))
        self.dropped += left
        return left

    def state_dict(self) -> dict[str, Any]:
        """Return everything that later prunings depend on."""
        averages = [[level, block, dice] for (level, block), dice in self._average.items()]
        return {
            "blocks": [list(blocks) for blocks in self.choices.blocks],
            "averages": averages,
            "dropped": [vars(each) for each in self.dropped],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        self.choices = choices_of(self.choices, state["blocks"])
        self._average = {(level, block): dice for level, block, dice in state["averages"]}
        self.dropped = [PrunedOperation(**each) for each in state["dropped"]]

    def _seconds(self, level: int, block: str) -> float:
        assert self._latencies is not None, "pruning needs latencies"
        return self._latencies.floored(level, block)


def choices_of(whole: ReducedSpace, blocks: Iterable[Iterable[str]]) -> ReducedSpace:
    """Return the choices of a space after pruning, from the blocks of each level."""
    return ReducedSpace(whole.space, tuple(tuple(level) for level in blocks))
