"""Similarity of the blocks of several tasks, by their weights."""

import itertools
from collections.abc import Mapping, Sequence
from functools import lru_cache
from statistics import mean
from weakref import ReferenceType, ref

import torch
from torch import Tensor

from analogmed.models import Genotype
from analogmed.search.space.choices import Option, Options
from analogmed.search.supernet.importance import scaled_weights
from analogmed.search.supernet.operations import level_of, networks_with
from analogmed.search.supernet.weights import Weights, alive


def operation_cosines(
    tasks: Sequence[Weights],
    genes: Options,
    *,
    n: int = 32,
    seed: int = 0,
) -> dict[Option, float]:
    """Return the similarity of each block's weights between tasks, weighted by importance.

    Args:
        tasks: supernetworks of one space, or one that several tasks share.
        genes: options of each gene.
        n: number of networks with the block, over which the cosine is averaged.
        seed: seed of the draw.

    Returns:
        for each block, the mean over pairs of tasks of the cosine between the weights times the
        importance of the channels that they feed; 0 for blocks without weights.
    """
    sampled = networks_with(genes, tasks[0].space, n=n, seed=seed)
    kept = tuple(map(ref, tasks))
    return {
        (gene, option): mean(_of_level(kept, network, level_of(gene)) for network in networks)
        for (gene, option), networks in sampled.items()
        if gene.startswith("block_")
    }


@lru_cache(50_000)
def _of_level(tasks: tuple[ReferenceType[Weights], ...], network: Genotype, level: int) -> float:
    """Return the cosine of one block of one network; searches with the same weights share it.

    The references are weak, so that this cache does not keep supernetworks in memory.
    """
    of_tasks = {
        each.task: scaled_weights(each.subnet(network), level) for each in map(alive, tasks)
    }
    return mean_cosine(of_tasks)


def mean_cosine(weights: Mapping[str, Sequence[Tensor]]) -> float:
    """Return the mean cosine of one operation's weights over all pairs of tasks.

    Args:
        weights: weights of the operation for each task, layer by layer. Layers whose shape differs
            between two tasks are left out of that pair.

    Returns:
        the mean cosine, in [-1, 1]; 0 where there is no pair, or nothing to compare.
    """
    pairs = list(itertools.combinations(weights.values(), 2))
    return sum(_cosine(one, other) for one, other in pairs) / len(pairs) if pairs else 0.0


def _cosine(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    alike = [(a, b) for a, b in zip(one, other, strict=True) if a.shape == b.shape]
    if not alike:
        return 0.0
    first, second = (
        torch.cat([w.flatten().double() for w in side]) for side in zip(*alike, strict=True)
    )
    length = float(first.norm() * second.norm())
    return float(first @ second) / length if length else 0.0
