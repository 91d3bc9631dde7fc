"""Initiation interval between consecutive slices."""

from collections.abc import Iterator, Sequence
from itertools import combinations, product

_TOLERANCE = 1e-9


def smallest_interval(
    stages: Sequence[tuple[float, float]], resources: Sequence[frozenset[int]]
) -> float:
    """Return the smallest initiation interval at which slices never compete for a resource.

    Every slice passes through its stages without waiting. If no two stages share a resource, the
    interval is the longest stage. If stages share one (a layer called twice, tiles shared by
    packing, one digital processor), it is at least the sum over the stages of a resource, more if
    they conflict.

    Args:
        stages: start and duration of consecutive stages of one slice; a duration may be 0.
        resources: resources that each stage uses exclusively while it runs.

    Returns:
        interval in the unit of ``stages``.
    """
    busy: dict[int, float] = {}
    for (_, length), needed in zip(stages, resources, strict=True):
        for resource in needed:
            busy[resource] = busy.get(resource, 0.0) + length
    least = max(busy.values())
    pairs = list(_sharing(stages, resources))
    candidates = {least}
    for _, span in pairs:
        candidates |= {span / turns for turns in range(1, int(span / least) + 1)}
    return next(interval for interval in sorted(candidates) if _is_free(interval, least, pairs))


def _sharing(
    stages: Sequence[tuple[float, float]], resources: Sequence[frozenset[int]]
) -> Iterator[tuple[float, float]]:
    """Yield gap (end to start) and span (start to end) of stage pairs that share a resource."""
    users: dict[frozenset[int], list[tuple[float, float]]] = {}
    for (start, length), needed in zip(stages, resources, strict=True):
        if length > 0:
            users.setdefault(needed, []).append((start, length))
    for running in users.values():
        yield from map(_distance, combinations(running, 2))
    for (needed, running), (also, others) in combinations(users.items(), 2):
        if needed & also:
            yield from map(_distance, map(sorted, product(running, others)))


def _distance(pair: Sequence[tuple[float, float]]) -> tuple[float, float]:
    (start, length), (later, later_length) = pair
    return max(later - (start + length), 0.0), later + later_length - start


def _is_free(interval: float, least: float, pairs: Sequence[tuple[float, float]]) -> bool:
    """Return whether slices shifted by multiples of the interval never overlap in a pair of stages.

    This holds if some shift ends before the gap does, and the next one begins after the span.
    """
    slack = _TOLERANCE * least
    return interval >= least - slack and all(
        (int((gap + slack) / interval) + 1) * interval >= span - slack for gap, span in pairs
    )
