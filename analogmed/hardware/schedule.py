"""How soon a slice can follow the one before it."""

from collections.abc import Iterator, Sequence
from itertools import combinations

_TOLERANCE = 1e-9


def smallest_interval(
    stages: Sequence[tuple[float, float]], resources: Sequence[frozenset[int]]
) -> float:
    """The smallest initiation interval at which no two slices need one resource at one time.

    Every slice goes through its stages without waiting. Where no two stages share a resource that
    is the longest stage; where they do (a layer called twice, tiles shared by packing, one digital
    processor), it is at least the sum over the stages of a resource, and more if they clash.

    Args:
        stages: start and length of each in one slice, one after the other; a length may be 0.
        resources: what each stage needs alone while it runs.

    Returns:
        the interval, in the unit of ``stages``.
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
    """Gap and span of each pair of stages that share a resource: end to start, start to end."""
    running = [
        (start, length, needed)
        for (start, length), needed in zip(stages, resources, strict=True)
        if length > 0
    ]
    for (start, length, needed), (later, later_length, also) in combinations(running, 2):
        if needed & also:
            yield max(later - (start + length), 0.0), later + later_length - start


def _is_free(interval: float, least: float, pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether slices shifted by multiples of the interval never meet in a pair of stages.

    They do not if some shift ends before the gap does, and the next one begins after the span.
    """
    slack = _TOLERANCE * least
    return interval >= least - slack and all(
        (int((gap + slack) / interval) + 1) * interval >= span - slack for gap, span in pairs
    )
