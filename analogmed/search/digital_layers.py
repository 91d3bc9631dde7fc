"""Layers that stay digital in all networks of a search, regardless of their genes."""

from collections.abc import Collection
from difflib import get_close_matches
from functools import lru_cache

import torch

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest
from analogmed.models import Genotype, Level
from analogmed.models.subnet import Subnet
from analogmed.network.selection import means_any
from analogmed.search.space.space import Space


def layers_of(genotype: Genotype, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names and patterns that match a layer or block of one network.

    Networks of different shapes have different layers, and conversion raises an error for a
    pattern without a match.

    Args:
        genotype: genotype of the network.
        patterns: names and patterns of the search.
    """
    return tuple(p for p in patterns if means_any(p, _modules(genotype)))


def refuse_unknown(patterns: tuple[str, ...], space: Space, *, of_placement: bool = False) -> None:
    """Raise an error if a pattern matches no layer of any network of a space.

    Args:
        patterns: names and patterns of layers.
        space: search space of the networks.
        of_placement: whether a placement file was given.

    Raises:
        ConfigError: names the pattern and the nearest layer.
    """
    if not patterns:
        return
    known = {name for genotype in _largest(space) for name in _modules(genotype)}
    for pattern in patterns:
        if not means_any(pattern, known):
            message = (
                f"digital_layers: no network of the space has a layer '{pattern}'; "
                f"{_suggestion(pattern, known)}"
            )
            if of_placement:
                message += (
                    "; a placement of a network that is not of the space cannot be taken over"
                )
            raise ConfigError(message)


def _suggestion(pattern: str, known: Collection[str]) -> str:
    if get_close_matches(pattern, known, n=1):
        return nearest(pattern, known)
    return "they are called levels.0.down.0, levels.0.up, levels.0.join.0 and so on, and head"


def _largest(space: Space) -> list[Genotype]:
    """Return networks that together have every layer of the space: each block, on all levels."""
    first, deepest = space.genes["block_0"], max(space.depths)
    return [
        Genotype(
            (_level(block if block in first else str(first[0])), *[_level(block)] * (deepest - 1)),
            space.spatial_dims,
            space.purpose,
        )
        for block in space.blocks
    ]


def _level(block: str) -> Level:
    return Level(block, channels=1, kernel=3)


@lru_cache(maxsize=1024)
def _modules(genotype: Genotype) -> frozenset[str]:
    """Return the names of the layers and blocks of a network; channels do not affect them."""
    with torch.device("meta"):
        network = Subnet(1, 1, genotype.spatial_dims, genotype=genotype)
    return frozenset(name for name, _ in network.named_modules() if name)
