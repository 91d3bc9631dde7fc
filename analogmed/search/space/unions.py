"""Smallest union of networks for several tasks: one set of blocks that contains them all."""

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one, require_at_least_zero
from analogmed.search.space.extents import Extent

Operation = tuple[int, str]
"""Block at a position: level, counted from the image, and name of the block."""


@dataclass(frozen=True)
class Candidates:
    """Networks that may be chosen for each of several tasks.

    Attributes:
        names: names of the networks, for instance their genotypes.
        scores: score of each network by task, higher is better; NaN where a network is no candidate
            of that task.
        sizes: operations of each network and their sizes (tiles, or parameters), as numbers or as
            :class:`analogmed.search.space.extents.Extent`.

    Raises:
        ConfigError: the attributes do not fit each other; a task has no candidate; a size is
            negative or not finite.
    """

    names: Sequence[Hashable]
    scores: Mapping[str, Sequence[float]]
    sizes: Sequence[Mapping[Operation, float | Extent]]

    def __post_init__(self) -> None:
        if not self.names or not self.scores:
            raise ConfigError("candidates: give at least one network and one task")
        for what, values in (("sizes", self.sizes), *self.scores.items()):
            if len(values) != len(self.names):
                raise ConfigError(
                    f"candidates: {len(self.names)} networks, but {len(values)} of {what}"
                )
        for task, scores in self.scores.items():
            if np.isnan(scores).all():
                raise ConfigError(f"candidates: no network has a score at task {task}")
        if not all(0 <= float(size) < math.inf for sizes in self.sizes for size in sizes.values()):
            raise ConfigError("candidates: sizes are to be finite and 0 or more")

    def best(self, task: str) -> float:
        """Return the highest score for a task."""
        return float(np.nanmax(self.scores[task]))

    def union_size(self, chosen: Iterable[int]) -> float:
        """Return the size of one block per operation that contains those of all these networks.

        For numbers it is the largest; for extents, that of the block whose layers each have the
        largest number of channels and the largest kernel.
        """
        needed: dict[Operation, float | Extent] = {}
        for number in chosen:
            for operation, size in self.sizes[number].items():
                needed[operation] = _joined(needed.get(operation), size)
        return sum(map(float, needed.values()))


@dataclass(frozen=True)
class Union:
    """A network for each task, and the operations that contain them all.

    Attributes:
        chosen: number of the network of each task, in :attr:`Candidates.names`.
        operations: operations that these networks use.
        size: size of the union.
        losses: best score of all candidates minus the score of the chosen network, by task.
    """

    chosen: Mapping[str, int]
    operations: frozenset[Operation]
    size: float
    losses: Mapping[str, float]

    @property
    def joint_loss(self) -> float:
        """Sum of the tasks' losses."""
        return sum(self.losses.values())

    @property
    def blocks_per_level(self) -> int:
        """Largest number of operations of a level."""
        return _most_blocks(self.operations)


def greedy_union(
    candidates: Candidates, *, delta: float, blocks_per_level: int | None = None
) -> Union | None:
    """Return a small union of one network per task, with a score drop of at most ``delta`` each.

    Operations are dropped from the full set one at a time: the one with the smallest sum of drops
    of the tasks' best remaining networks, and among equal ones the largest. Levels with too many
    operations come first; the procedure ends where every further drop would cost a task more than
    ``delta``. From there, and from every single network of a task, each task in turn changes to the
    network within ``delta`` that adds least to the others'; the smallest union reached is returned.
    For two tasks none is smaller.

    Args:
        candidates: networks, scores and sizes.
        delta: largest drop of each task's score below its best, 0 or more.
        blocks_per_level: largest number of operations per level; unlimited by default.

    Returns:
        the union; ``None`` if none with so few operations was found. For three tasks or more there
        may be one all the same.

    Raises:
        ConfigError: ``delta`` or ``blocks_per_level`` is out of its range.
    """
    _check(delta, blocks_per_level)
    allowed = _within(candidates, delta)
    starts = [_dropping(candidates, allowed, blocks_per_level)]
    starts += [{task: number} for task, numbers in allowed.items() for number in numbers]
    unions = [_in_turn(candidates, start, allowed, blocks_per_level) for start in starts]
    return _smallest(unions, blocks_per_level)


def relaxed_union(candidates: Candidates, *, blocks_per_level: int) -> Union | None:
    """Return each task's best network among those with a few remaining operations per level.

    Operations are dropped from the levels that have too many, as in :func:`greedy_union`.

    Args:
        candidates: networks, scores and sizes.
        blocks_per_level: largest number of operations per level.

    Returns:
        the union; ``None`` if dropping leaves a task without a network.

    Raises:
        ConfigError: ``blocks_per_level`` is out of its range.
    """
    _check(0.0, blocks_per_level)
    left = _thinned(candidates, _within(candidates, math.inf), blocks_per_level)
    if left is None:
        return None
    return _union(candidates, {task: numbers[0] for task, numbers in left.items()})


def exact_union(
    candidates: Candidates, *, delta: float, blocks_per_level: int | None = None
) -> Union | None:
    """Return the smallest union of one network per task by exhaustive search, for few candidates.

    Args:
        candidates: networks, scores and sizes.
        delta: largest drop of each task's score below its best, 0 or more.
        blocks_per_level: largest number of operations per level; unlimited by default.

    Returns:
        the union, of equal sizes the one with the least joint loss; ``None`` if no choice is within
        both bounds.

    Raises:
        ConfigError: ``delta`` or ``blocks_per_level`` is out of its range.
    """
    _check(delta, blocks_per_level)
    allowed = _within(candidates, delta)
    unions = (
        _union(candidates, dict(zip(allowed, choice, strict=True)))
        for choice in itertools.product(*allowed.values())
    )
    return _smallest(unions, blocks_per_level)


def union_front(candidates: Candidates) -> list[Union]:
    """Return the non-dominated unions from one operation per level to all, the smallest first.

    Returns:
        results of :func:`relaxed_union` that no other one beats in both size and joint loss.
    """
    most = _most_blocks(_operations(candidates, range(len(candidates.names))))
    relaxed = (relaxed_union(candidates, blocks_per_level=number) for number in range(1, most + 1))
    found = [union for union in relaxed if union is not None]
    front: list[Union] = []
    for union in sorted(found, key=lambda union: (union.size, union.joint_loss)):
        if not front or union.joint_loss < front[-1].joint_loss:
            front.append(union)
    return front


def union_table(candidates: Candidates, unions: Iterable[Union]) -> pd.DataFrame:
    """Return a table with one row per union and task.

    Returns:
        columns ``union`` (from 0), ``blocks_per_level``, ``size``, ``task``, ``network``, ``score``
        and ``loss`` (against the task's best).
    """
    return pd.DataFrame(
        {
            "union": number,
            "blocks_per_level": union.blocks_per_level,
            "size": union.size,
            "task": task,
            "network": str(candidates.names[chosen]),
            "score": candidates.scores[task][chosen],
            "loss": union.losses[task],
        }
        for number, union in enumerate(unions)
        for task, chosen in union.chosen.items()
    )


def _joined(one: float | Extent | None, other: float | Extent) -> float | Extent:
    if one is None:
        return other
    if isinstance(one, Extent) and isinstance(other, Extent):
        return one.joined(other)
    return max(float(one), float(other))


def _check(delta: float, blocks_per_level: int | None) -> None:
    require_at_least_zero("delta", delta)
    if blocks_per_level is not None:
        require_at_least_one("blocks_per_level", blocks_per_level)


def _within(candidates: Candidates, delta: float) -> "_Left":
    """Return the networks of each task with a drop of at most delta, the best first."""
    allowed = {}
    for task, scores in candidates.scores.items():
        bound = candidates.best(task) - delta - 1e-12
        numbers = [number for number, score in enumerate(scores) if score >= bound]
        allowed[task] = sorted(numbers, key=lambda number, of=scores: -of[number])  # type: ignore[misc]
    return allowed


def _operations(candidates: Candidates, numbers: Iterable[int]) -> frozenset[Operation]:
    return frozenset(operation for number in numbers for operation in candidates.sizes[number])


_Left: TypeAlias = dict[str, list[int]]  # networks available to each task, the best first


def _all(left: _Left) -> Iterable[int]:
    return itertools.chain(*left.values())


def _thinned(candidates: Candidates, left: _Left, blocks_per_level: int | None) -> _Left | None:
    """Return the networks that are left when no level has too many operations."""
    kept = _operations(candidates, _all(left))
    while blocks_per_level is not None and _most_blocks(kept) > blocks_per_level:
        levels = [level for level, _ in kept]
        crowded = [one for one in kept if levels.count(one[0]) > blocks_per_level]
        smaller = _without_one(candidates, left, crowded)
        if smaller is None:
            return None
        left, kept = smaller
    return left


def _without_one(
    candidates: Candidates, left: _Left, among: Iterable[Operation]
) -> tuple[_Left, frozenset[Operation]] | None:
    """Drop the operation with the smallest cost, among those that no task requires."""
    choices = []
    for operation in sorted(among):
        rest = {
            task: [number for number in numbers if operation not in candidates.sizes[number]]
            for task, numbers in left.items()
        }
        if all(rest.values()):
            loss = sum(_loss(candidates, task, numbers[0]) for task, numbers in rest.items())
            size = max(float(sizes.get(operation, 0.0)) for sizes in candidates.sizes)
            choices.append((loss, -size, operation, rest))
    if not choices:
        return None
    rest = min(choices, key=lambda choice: choice[:3])[-1]
    return rest, _operations(candidates, _all(rest))


def _loss(candidates: Candidates, task: str, number: int) -> float:
    return candidates.best(task) - candidates.scores[task][number]


def _most_blocks(kept: Iterable[Operation]) -> int:
    levels = [level for level, _ in kept]
    return max((levels.count(level) for level in set(levels)), default=0)


def _dropping(candidates: Candidates, left: _Left, blocks_per_level: int | None) -> dict[str, int]:
    """Return each task's best network when no further operation can be dropped."""
    thinned = _thinned(candidates, left, blocks_per_level)
    while thinned is not None:
        left = thinned
        dropped = _without_one(candidates, left, _operations(candidates, _all(left)))
        thinned = dropped[0] if dropped else None
    return {task: numbers[0] for task, numbers in left.items()}


def _in_turn(
    candidates: Candidates, start: Mapping[str, int], allowed: _Left, blocks_per_level: int | None
) -> Union:
    """Let each task choose the network that adds least to the others', until nothing changes.

    Args:
        candidates: networks, scores and sizes.
        start: networks of some tasks; the others choose first.
        allowed: networks of each task.
        blocks_per_level: largest number of operations that a level should have.
    """

    def cost(number: int, others: Sequence[int], scores: Sequence[float]) -> tuple[float, ...]:
        together = [*others, number]
        blocks = _most_blocks(_operations(candidates, together))
        too_many = 0 if blocks_per_level is None else max(0, blocks - blocks_per_level)
        return too_many, candidates.union_size(together), -scores[number]

    chosen, before = dict(start), dict[str, int]()
    missing_first = sorted(allowed, key=lambda task: task in chosen)
    while chosen != before:
        before = dict(chosen)
        for task in missing_first:
            others = [number for other, number in chosen.items() if other != task]
            costs = {
                number: cost(number, others, candidates.scores[task]) for number in allowed[task]
            }
            if task not in chosen or min(costs.values()) < costs[chosen[task]]:
                chosen[task] = min(costs, key=costs.__getitem__)
    return _union(candidates, {task: chosen[task] for task in allowed})


def _smallest(unions: Iterable[Union], blocks_per_level: int | None) -> Union | None:
    most = math.inf if blocks_per_level is None else blocks_per_level
    fitting = (union for union in unions if union.blocks_per_level <= most)
    return min(fitting, key=lambda union: (union.size, union.joint_loss), default=None)


def _union(candidates: Candidates, chosen: Mapping[str, int]) -> Union:
    return Union(
        chosen=dict(chosen),
        operations=_operations(candidates, chosen.values()),
        size=candidates.union_size(chosen.values()),
        losses={task: _loss(candidates, task, number) for task, number in chosen.items()},
    )
