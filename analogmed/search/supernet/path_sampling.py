"""Sampling rules: the networks that share a step of the supernetwork's training."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.checks import require_choice
from analogmed.models import Genotype
from analogmed.models.genotype import BLOCKS
from analogmed.search.space.space import Gene, Space


@dataclass(frozen=True)
class ReducedSpace:
    """Options that are left in a space after pruning.

    Attributes:
        space: the whole search space.
        blocks: remaining blocks of each level.
    """

    space: Space
    blocks: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, space: Space) -> "ReducedSpace":
        """Return all options of a space."""
        return cls(space, tuple(_blocks(space.genes, level) for level in range(max(space.depths))))

    def __post_init__(self) -> None:
        for level, kept in enumerate(self.blocks):
            whole = _blocks(self.space.genes, level)
            if not kept or not set(kept) <= set(whole):
                raise ConfigError(
                    f"level {level}: expected one or more of {', '.join(whole)}, found "
                    f"{', '.join(kept) or 'none'}"
                )

    @property
    def genes(self) -> dict[str, tuple[Gene, ...]]:
        """Remaining options of each gene."""
        left: dict[str, tuple[Gene, ...]] = {
            f"block_{level}": kept for level, kept in enumerate(self.blocks)
        }
        return self.space.genes | left

    def without(self, level: int, block: str) -> "ReducedSpace":
        """Return the choices without an operation.

        Raises:
            ConfigError: it is the last one of its level.
        """
        kept = tuple(name for name in self.blocks[level] if name != block)
        return ReducedSpace(self.space, (*self.blocks[:level], kept, *self.blocks[level + 1 :]))

    def __contains__(self, genotype: Genotype) -> bool:
        levels = genotype.levels[: genotype.depth]
        return genotype in self.space and all(
            level.block in kept for level, kept in zip(levels, self.blocks, strict=False)
        )


Rule: TypeAlias = Callable[[ReducedSpace, int, np.random.Generator], list[Genotype]]
"""Function of the remaining choices, a number of networks, and the generator of the draws."""


def paths(rule: str, choices: ReducedSpace, *, n: int, seed: int) -> Iterator[list[Genotype]]:
    """Yield the networks of each step, without end.

    Args:
        rule: name in :data:`RULES`.
        choices: remaining choices.
        n: number of networks per step, for rules without a fixed number.
        seed: root of the draws.

    Raises:
        ConfigError: the rule is unknown.
    """
    for step in itertools.count():
        yield paths_of_step(rule, choices, n=n, seed=seed, step=step)


def paths_of_step(
    rule: str, choices: ReducedSpace, *, n: int, seed: int, step: int
) -> list[Genotype]:
    """Return the networks of one step, independent of other steps.

    Args:
        rule: name in :data:`RULES`.
        choices: remaining choices.
        n: number of networks per step, for rules without a fixed number.
        seed: root of the draws.
        step: number of the step.

    Raises:
        ConfigError: the rule is unknown.
    """
    rule = require_choice("rule", rule, RULES)
    return RULES[rule](choices, n, np.random.default_rng(derive_seed(seed, "paths", step)))


def spos(choices: ReducedSpace, n: int, generator: np.random.Generator) -> list[Genotype]:
    """Return networks whose genes are uniform and independent; ``n`` = 1 is single path one-shot.

    Source: Guo et al. 2020, arXiv:1904.00420.
    """
    genes = choices.genes
    return [
        choices.space.decode({name: _draw(values, generator) for name, values in genes.items()})
        for _ in range(n)
    ]


def fairnas(choices: ReducedSpace, _n: int, generator: np.random.Generator) -> list[Genotype]:
    """Return one network per operation of the largest level, so that each operation is used once.

    Each level assigns its operations to the networks in random order; a level with fewer operations
    starts over when all are used. The other genes do the same, except for the depth: all networks
    of a step have the same depth, so that all have the same levels.

    Source: strict fairness, Chu, Zhang, Xu 2021, arXiv:1907.01845.
    """
    genes = choices.genes
    depth = _draw(genes["depth"], generator)
    m = max(map(len, choices.blocks[: int(depth)]))
    dealt = {name: _deal(values, m, generator) for name, values in genes.items()}
    dealt["depth"] = [depth] * m
    return [
        choices.space.decode({name: values[number] for name, values in dealt.items()})
        for number in range(m)
    ]


def sandwich(choices: ReducedSpace, _n: int, generator: np.random.Generator) -> list[Genotype]:
    """Return the largest network, the smallest, and two random ones.

    The others learn from the first.

    Source: Yu et al. 2020 (BigNAS), arXiv:2003.11142.
    """
    return [extreme(choices, largest=True), extreme(choices), *spos(choices, 2, generator)]


def extreme(choices: ReducedSpace, *, largest: bool = False) -> Genotype:
    """Return the network with the smallest or the largest value of every gene."""
    pick = max if largest else min
    genes: dict[str, Gene] = {}
    for name, values in choices.genes.items():
        if name.startswith("block_"):
            genes[name] = pick(map(str, values), key=_weight)
        else:
            places = name.startswith(("down_", "up_"))
            genes[name] = values[0] if places else pick(map(int, values))
    return choices.space.decode(genes)


RULES: Mapping[str, Rule] = MappingProxyType(
    {"spos": spos, "fairnas": fairnas, "sandwich": sandwich}
)
"""Sampling rules by name."""


def _blocks(genes: Mapping[str, tuple[Gene, ...]], level: int) -> tuple[str, ...]:
    return tuple(map(str, genes[f"block_{level}"]))


def _draw(values: tuple[Gene, ...], generator: np.random.Generator) -> Gene:
    return values[int(generator.integers(len(values)))]


def _deal(values: tuple[Gene, ...], n: int, generator: np.random.Generator) -> list[Gene]:
    order: list[int] = []
    while len(order) < n:
        order += generator.permutation(len(values)).tolist()
    return [values[number] for number in order[:n]]


def _weight(name: str) -> tuple[int, int, int]:
    block = BLOCKS[name]
    kinds = ("zero", "identity", "linear", "convolution")
    norms = sum(convolution.norm for convolution in block.convolutions)
    return kinds.index(block.kind), len(block.convolutions), norms
