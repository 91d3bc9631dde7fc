"""Architecture weights: the probability of each operation, learned with the shared weights."""

import numpy as np
import torch
from torch import Tensor, nn

from analogmed.models import Genotype
from analogmed.search.space.space import Gene, Space
from analogmed.search.supernet.latency import Latencies
from analogmed.search.supernet.path_sampling import ReducedSpace


class ArchitectureWeights(nn.Module):
    """A weight for each operation of each level; their softmax is the sampling probability.

    Networks are drawn by the Gumbel-softmax, with its largest entry in the forward pass. A
    network's loss reaches the weights through gates, factors of 1 whose gradient is that of the
    softmax's entry; only the drawn operation is computed. The expected latency reaches them
    directly.

    Args:
        space: search space of the networks.
        temperature: temperature of the softmax of a draw; lower values give gradients closer to the
            draw.

    Source: Jang, Gu, Poole 2017, arXiv:1611.01144; one drawn operation with its gate: Dong, Yang
    2019 (GDAS), arXiv:1910.04465; expected latency: Cai, Zhu, Han 2019 (ProxylessNAS),
    arXiv:1812.00332.
    """

    def __init__(self, space: Space, temperature: float = 1.0) -> None:
        super().__init__()
        self._temperature = temperature
        whole = ReducedSpace.of(space).blocks
        self._place = [{block: place for place, block in enumerate(blocks)} for blocks in whole]
        self.levels = nn.ParameterList(nn.Parameter(torch.zeros(len(names))) for names in whole)

    def draw(
        self, choices: ReducedSpace, generator: np.random.Generator
    ) -> tuple[Genotype, tuple[Tensor, ...]]:
        """Draw a network with the gates of its levels; genes other than blocks are uniform.

        Args:
            choices: options that are left.
            generator: generator of the draws.
        """
        genes: dict[str, Gene] = {
            name: values[int(generator.integers(len(values)))]
            for name, values in choices.genes.items()
        }
        gates = []
        for level, blocks in enumerate(choices.blocks):
            noise = self.levels[level].new_tensor(generator.gumbel(size=len(blocks)))
            soft = ((self._left(level, blocks) + noise) / self._temperature).softmax(0)
            drawn = int(soft.argmax())
            genes[f"block_{level}"] = blocks[drawn]
            gates.append(1 + (soft[drawn] - soft[drawn].detach()))
        genotype = choices.space.decode(genes)
        return genotype, tuple(gates[: genotype.depth])

    def expected_share(self, choices: ReducedSpace, latencies: Latencies) -> Tensor:
        """Return the expected latency of all levels, in units of the slowest path."""
        total = torch.zeros((), device=self.levels[0].device)
        for level, blocks in enumerate(choices.blocks):
            times_s = [latencies.seconds[level, block] for block in blocks]
            likely = self._left(level, blocks).softmax(0)
            total = total + likely @ likely.new_tensor(times_s) / latencies.slowest_s
        return total

    def _left(self, level: int, blocks: tuple[str, ...]) -> Tensor:
        return self.levels[level][[self._place[level][block] for block in blocks]]
