"""The plan of an epoch: from which slice or volume each of its patches comes, and in which order.

It is drawn from small tables for the epoch as a whole, which balances it exactly, and groups it so
that cases which do not stay in memory are read seldom.
"""

from dataclasses import dataclass

import numpy as np

from analogmed.training.sample_cache import ImageTable


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
    table: ImageTable, n_patches: int, *, foreground: float, mixed_cases: int, seed: int
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
        mixed_cases: cases in a group.
        seed: of the draw.
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
    group = generator.permutation(1 + table.case.max()) // mixed_cases
    order = np.lexsort((generator.random(n_patches), group[table.case[image]]))
    return PatchPlan(image[order], class_index[order])


def _in_turns(pool: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    """Draw ``n`` members of a pool; none comes again before all others came."""
    turns = -(-n // pool.size)
    return np.concatenate([pool[:0], *(generator.permutation(pool) for _ in range(turns))])[:n]
