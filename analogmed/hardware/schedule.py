"""Initiation interval between consecutive slices."""

from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-9
_GRAIN = 1e-10
"""Resolution, as a share of the shortest possible interval, at which pairs of stages are equal."""
_Floats = NDArray[np.float64]


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
    gaps, spans = _distinct(_sharing(stages, resources), _GRAIN * least)
    candidates = {least}
    for span in spans.tolist():
        candidates |= {span / turns for turns in range(1, int(span / least) + 1)}
    return next(
        interval for interval in sorted(candidates) if _is_free(interval, least, gaps, spans)
    )


def _sharing(
    stages: Sequence[tuple[float, float]], resources: Sequence[frozenset[int]]
) -> Iterator[tuple[_Floats, _Floats]]:
    """Yield gaps (end to start) and spans (start to end) of stage pairs that share a resource."""
    starts, lengths = np.array(stages, dtype=np.float64).T
    users: dict[frozenset[int], list[int]] = {}
    for index, needed in enumerate(resources):
        if lengths[index] > 0:
            users.setdefault(needed, []).append(index)
    for (needed, running), (also, others) in combinations_with_replacement(users.items(), 2):
        if needed & also:
            one, other = np.meshgrid(running, others)
            different = one < other if running is others else one != other
            first = np.minimum(one, other)[different]
            second = np.maximum(one, other)[different]
            gaps = np.maximum(starts[second] - (starts[first] + lengths[first]), 0.0)
            yield gaps, starts[second] + lengths[second] - starts[first]


def _distinct(
    distances: Iterator[tuple[_Floats, _Floats]], grain: float
) -> tuple[_Floats, _Floats]:
    """Return gaps and spans without repetitions: periodic calls have few different ones."""
    gaps, spans = np.empty(0), np.empty(0)
    for more_gaps, more_spans in distances:
        gaps, spans = np.append(gaps, more_gaps), np.append(spans, more_spans)
        steps = np.rint(gaps / grain) + 1j * np.rint(spans / grain)
        order = np.argsort(spans, kind="stable")
        _, kept = np.unique(steps[order], return_index=True)
        gaps, spans = gaps[order][kept], spans[order][kept]
    return gaps, spans


def _is_free(interval: float, least: float, gaps: _Floats, spans: _Floats) -> bool:
    """Return whether slices shifted by multiples of the interval never overlap in a pair of stages.

    This holds if some shift ends before the gap does, and the next one begins after the span.
    """
    slack = _TOLERANCE * least
    shifts = np.floor((gaps + slack) / interval) + 1
    return interval >= least - slack and bool(np.all(shifts * interval >= spans - slack))
