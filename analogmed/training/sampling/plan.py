"""The plan of an epoch: from which slice or volume each of its patches comes, and in which order.

It is drawn from small tables for the epoch as a whole, which balances it exactly, and groups it so
that cases which do not stay in memory are read seldom.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from analogmed.training.sampling.cache import ImageTable


@dataclass(frozen=True)
class PatchPlan:
    """Patches of an epoch in their order.

    Attributes:
        image: index of the slice or volume, shape (patches,).
        class_index: class that a voxel at the centre of the patch has; 0 is a patch that lies
            anywhere. Shape (patches,).
    """

    image: np.ndarray
    class_index: np.ndarray


def plan_epoch(
    table: ImageTable,
    n_patches: int,
    *,
    foreground: float,
    mixed_cases: int,
    seed: int,
    mixed_bytes: float = math.inf,
) -> PatchPlan:
    """Draw the patches of an epoch.

    Each is centred on foreground with a given probability. The classes that occur take turns
    there, however rare they are, and so do the slices or volumes that hold a class. For patches
    that lie anywhere, all slices or volumes take turns. What takes turns is shuffled anew in each
    turn.

    The cases are shuffled and dealt in groups; patches of a group are mixed, and groups follow
    each other. A group that fits in memory is therefore read once, and neighbouring batches hold
    other cases in every epoch.

    Args:
        table: the slices or volumes.
        n_patches: patches to draw.
        foreground: share that is centred on foreground, if there is any.
        mixed_cases: largest number of cases in a group.
        seed: of the draw.
        mixed_bytes: largest size of a group of several cases, in bytes.
    """
    generator = np.random.default_rng(seed)
    classes = 1 + np.flatnonzero(table.holds.any(axis=0))
    class_index = np.zeros(n_patches, dtype=np.int64)
    if classes.size:
        centred = np.flatnonzero(generator.random(n_patches) < foreground)
        class_index[centred] = _in_turns(classes, centred.size, generator)
    image = np.empty(n_patches, dtype=np.int64)
    for index in (0, *classes.tolist()):
        drawn = np.flatnonzero(class_index == index)
        holding = np.flatnonzero(table.holds[:, index - 1]) if index else np.arange(len(table))
        image[drawn] = _in_turns(holding, drawn.size, generator)
    turn = generator.permutation(1 + table.case.max())
    group = _groups(turn, table.sizes, mixed_cases, mixed_bytes)
    order = np.lexsort((generator.random(n_patches), group[table.case[image]]))
    return PatchPlan(image[order], class_index[order])


def count_reads(cases: Iterable[int], sizes: np.ndarray, limit_bytes: float) -> int:
    """Count the reads of a sequence of cases, with a cache that is empty at the start.

    The least recently used case leaves the cache first, as in ``SampleCache``.

    Args:
        cases: index of the case of each patch, in the order of the patches.
        sizes: bytes of the sample of each case.
        limit_bytes: size of the cache.
    """
    cached: OrderedDict[int, None] = OrderedDict()
    used = reads = 0
    for case in cases:
        if case in cached:
            cached.move_to_end(case)
            continue
        reads += 1
        while cached and used + sizes[case] > limit_bytes:
            used -= int(sizes[cached.popitem(last=False)[0]])
        cached[case] = None
        used += int(sizes[case])
    return reads


def _groups(
    turn: np.ndarray, sizes: np.ndarray, mixed_cases: int, mixed_bytes: float
) -> np.ndarray:
    """Deal cases to groups in their turn; a group ends before it is too large.

    Returns:
        group of each case.
    """
    group = np.empty_like(turn)
    number = cases = used = 0
    for case in np.argsort(turn).tolist():
        if cases == mixed_cases or (cases and used + sizes[case] > mixed_bytes):
            number, cases, used = number + 1, 0, 0
        group[case] = number
        cases, used = cases + 1, used + int(sizes[case])
    return group


def _in_turns(pool: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Draw ``n`` members of a pool; none comes again before all others came."""
    turns = -(-n // pool.size)
    return np.concatenate([pool[:0], *(generator.permutation(pool) for _ in range(turns))])[:n]
