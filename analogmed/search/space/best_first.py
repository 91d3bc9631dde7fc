"""Enumeration of the networks of a space from the best to the worst, by scores of options."""

import heapq
from collections.abc import Iterator, Mapping, Sequence

from analogmed.models import Genotype
from analogmed.models.genotype import BLOCKS
from analogmed.search.space.choices import Option, Options
from analogmed.search.space.space import Gene, Genes, Space

_Part = tuple[float, Genes]  # contribution of some genes to the sum, and their options


def best_first_networks(
    space: Space, options: Options, scores: Mapping[Option, float]
) -> Iterator[Genotype]:
    """Yield networks by the sum over their genes of the score deficit to the gene's best option.

    Only relevant genes count: not those of levels that a network does not have, nor the kernel of a
    block without one. Networks are generated one by one, so that the first of a large space need
    little time.

    Args:
        space: search space of the networks.
        options: options of each gene.
        scores: scores of options; genes without any do not affect the order.

    Yields:
        every network once; of equal ones first that of the earlier options.
    """
    losses = _losses(options, scores)
    streams = [_of_depth(space, options, losses, depth) for depth in options["depth"]]
    first = {name: values[0] for name, values in options.items()}
    seen = set()
    for _, genes in heapq.merge(*streams, key=lambda found: found[0]):
        genotype = space.decode(first | genes)
        if genotype not in seen:
            seen.add(genotype)
            yield genotype


def _losses(options: Options, scores: Mapping[Option, float]) -> dict[Option, float]:
    """Return how much each option is worse than the best of its gene."""
    losses: dict[Option, float] = {}
    for gene, values in options.items():
        known = [scores[gene, value] for value in values if (gene, value) in scores]
        best = max(known, default=0.0)
        losses |= {(gene, value): best - scores.get((gene, value), best) for value in values}
    return losses


def _of_depth(
    space: Space, options: Options, losses: Mapping[Option, float], depth: Gene
) -> Iterator[_Part]:
    """Yield the networks of one depth, the best first."""
    own: Genes = {"depth": depth}
    axes: list[list[_Part]] = [[(losses["depth", depth], own)]]
    names = ["width", "growth"] if int(depth) > 1 else ["width"]
    for name in names:
        axes.append([(losses[name, value], {name: value}) for value in options[name]])
    for level in range(int(depth)):
        goes_up = level + 1 < int(depth) and space.purpose == "segmentation"
        axes.append(_of_level(options, losses, level, goes_up=goes_up))
    for axis in axes:
        axis.sort(key=lambda part: part[0])
    for total, parts in _best_sums(axes):
        yield total, {name: value for _, genes in parts for name, value in genes.items()}


def _of_level(
    options: Options, losses: Mapping[Option, float], level: int, *, goes_up: bool
) -> list[_Part]:
    """Return all options of one level."""
    found: list[_Part] = []
    for block in options[f"block_{level}"]:
        kind = BLOCKS[str(block)].kind
        names = ["kernel"] if kind == "convolution" else []
        names += ["down"] if kind != "identity" else []
        names += ["up"] if kind != "identity" and goes_up else []
        parts: list[_Part] = [(losses[f"block_{level}", block], {f"block_{level}": block})]
        for name in (f"{each}_{level}" for each in names):
            parts = [
                (total + losses[name, value], genes | {name: value})
                for total, genes in parts
                for value in options[name]
            ]
        found += parts
    return found


def _best_sums(axes: Sequence[Sequence[_Part]]) -> Iterator[tuple[float, list[_Part]]]:
    """Yield every combination of one part per axis, by its sum; axes are sorted."""

    def taken(places: tuple[int, ...]) -> list[_Part]:
        return [axis[place] for axis, place in zip(axes, places, strict=True)]

    def total(places: tuple[int, ...]) -> float:
        return sum(part[0] for part in taken(places))

    start = (0,) * len(axes)
    waiting = [(total(start), start)]
    while waiting:
        found, places = heapq.heappop(waiting)
        yield found, taken(places)
        last = max((axis for axis, place in enumerate(places) if place), default=0)
        for axis in range(last, len(axes)):  # so that each is reached only once
            if places[axis] + 1 < len(axes[axis]):
                further = (*places[:axis], places[axis] + 1, *places[axis + 1 :])
                heapq.heappush(waiting, (total(further), further))
