"""Plan of an epoch: the slice or volume of each patch, and the order of the patches.

It is drawn from small tables for the epoch as a whole, which balances it exactly, and groups
patches so that cases that do not stay in memory are rarely read.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from analogmed.training.sampling.cache import ImageTable


@dataclass(frozen=True)
class PatchPlan:
    """Patches of an epoch in their order.

    Attributes:
        image: index of the slice or volume, shape (patches,).
        class_index: class of the voxel at the centre of the patch; 0 is a patch at any
            position. Shape (patches,).
    """

    image: np.ndarray
    class_index: np.ndarray


def balanced_subset(table: ImageTable, share: float, seed: int) -> ImageTable:
    """Return the table of a share of the images, with equal numbers of each class.

    Classes take turns in drawing one of their images, and so does the group of images without a
    class. An image is drawn once; a class without further images misses its turn.

    Args:
        table: table of the slices or volumes.
        share: share of them, in (0, 1]; 1 returns the table itself.
        seed: seed of the draw.
    """
    if share == 1:
        return table
    generator = np.random.default_rng(seed)
    groups = [*table.holds.T, ~table.holds.any(axis=1)]
    waiting = [generator.permutation(np.flatnonzero(group)).tolist() for group in groups]
    number, chosen = max(1, round(share * len(table))), set[int]()
    while len(chosen) < number:
        for images in waiting:
            while images and images[-1] in chosen:
                images.pop()
            if images and len(chosen) < number:
                chosen.add(images.pop())
    kept = sorted(chosen)
    return replace(
        table, case=table.case[kept], position=table.position[kept], holds=table.holds[kept]
    )


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

    Each is centred on foreground with a given probability. These patches cycle through the classes
    that occur, however rare they are, and through the slices or volumes that contain a class. The
    other patches cycle through all slices or volumes. The order is shuffled in each cycle.

    The cases are shuffled and divided into groups; patches of a group are mixed, and groups follow
    each other. A group that fits in memory is therefore read once, and neighbouring batches contain
    other cases in every epoch.

    Args:
        table: table of the slices or volumes.
        n_patches: number of patches to draw.
        foreground: share of patches that are centred on foreground, if there is any.
        mixed_cases: largest number of cases in a group.
        seed: seed of the draw.
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
    """Assign cases to groups in the given order; a group ends before it exceeds a limit.

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
    """Draw ``n`` members of a pool; none is repeated before all others were drawn."""
    turns = -(-n // pool.size)
    return np.concatenate([pool[:0], *(generator.permutation(pool) for _ in range(turns))])[:n]
