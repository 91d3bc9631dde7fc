"""The search space: what a gene may be, and how genes become genotypes."""

import itertools
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_choice, require_number, require_whole
from analogmed.foundation.text import known_name, nearest
from analogmed.models import Genotype, Level
from analogmed.models.genotype import (
    BLOCKS,
    KERNELS,
    MAX_CHANNELS,
    MAX_DEPTH,
    Place,
    Purpose,
    block,
)

if TYPE_CHECKING:
    import numpy as np

Gene: TypeAlias = str | int
Genes: TypeAlias = dict[str, Gene]

_BLOCKS = {2: ("identity", *"ABCDEFG"), 3: ("identity", *"AHIJKLM")}


@dataclass(frozen=True)
class Space:
    """Search space; every gene has a few values.

    Attributes:
        spatial_dims: number of spatial dimensions.
        purpose: segmentation, or classification, whose networks have no decoder.
        depths: numbers of levels, 1 to 5.
        blocks: block types of each level; by default all types for these dimensions.
        widths: numbers of channels of the first level.
        growths: factors on the number of channels from one level to the next: 2 yields a pyramid, 1
            an isotropic network.
        kernels: kernel sizes of the convolutions of a level: 3, 5 or 7.
        places: where blocks are computed; with both values, each block has a gene for it.
    """

    spatial_dims: Literal[2, 3] = 2
    purpose: Purpose = "segmentation"
    depths: tuple[int, ...] = (1, 2, 3, 4, 5)
    blocks: tuple[str, ...] = ()
    widths: tuple[int, ...] = (4, 8, 16)
    growths: tuple[int, ...] = (1, 2)
    kernels: tuple[int, ...] = (3, 5)
    places: tuple[Place, ...] = ("analog",)

    def __post_init__(self) -> None:
        if type(self.spatial_dims) is not int or self.spatial_dims not in _BLOCKS:
            raise ConfigError(f"space.spatial_dims: expected 2 or 3, found {self.spatial_dims!r}")
        purpose = require_choice("space.purpose", self.purpose, get_args(Purpose))
        object.__setattr__(self, "purpose", purpose)
        object.__setattr__(self, "blocks", self.blocks or _BLOCKS[self.spatial_dims])
        for name in ("depths", "blocks", "widths", "growths", "kernels", "places"):
            values = getattr(self, name)
            if not isinstance(values, Sequence) or isinstance(values, str) or not values:
                raise ConfigError(f"space.{name}: expected a list of one or more, found {values!r}")
            values = (known_name(value, BLOCKS) for value in values) if name == "blocks" else values
            object.__setattr__(self, name, _distinct(values))
        for name, most in (("depths", MAX_DEPTH), ("widths", 1024), ("growths", 4)):
            _check_whole(name, getattr(self, name), range(1, most + 1), f"1 to {most}")
        _check_whole("kernels", self.kernels, KERNELS, "3, 5 or 7")
        places = (require_choice("space.places", place, get_args(Place)) for place in self.places)
        object.__setattr__(self, "places", _distinct(places))
        self._check_blocks()
        widest = max(self.widths) * max(self.growths) ** (max(self.depths) - 1)
        if widest > MAX_CHANNELS:
            raise ConfigError(
                f"space: its widest level has {widest} channels and may have {MAX_CHANNELS}; lower "
                "space.widths, space.growths or space.depths"
            )

    def _check_blocks(self) -> None:
        for name in self.blocks:
            if block(name, self.spatial_dims).kind == "zero":
                raise ConfigError("space.blocks: zero ends a network; say so with space.depths")
            if block(name).spatial_dims not in (None, self.spatial_dims):
                raise ConfigError(f"space.blocks: {name} is not a block of {self.spatial_dims}D")
        if not self._first_blocks:
            raise ConfigError("space.blocks: none has weights")

    @property
    def genes(self) -> dict[str, tuple[Gene, ...]]:
        """Values of each gene; every network has the same genes, also where one has no effect."""
        genes: dict[str, tuple[Gene, ...]] = {
            "depth": self.depths,
            "width": self.widths,
            "growth": self.growths,
        }
        for level in range(max(self.depths)):
            genes[f"block_{level}"] = self.blocks if level else self._first_blocks
            genes[f"kernel_{level}"] = self.kernels
            genes[f"down_{level}"] = self.places
            genes[f"up_{level}"] = self.places
        return genes

    @property
    def size(self) -> int:
        """Number of gene combinations; that of different networks is smaller."""
        return math.prod(map(len, self.genes.values()))

    def decode(self, genes: Mapping[str, Gene]) -> Genotype:
        """The genotype that genes stand for.

        Raises:
            ConfigError: a gene is missing, or has a value that the space does not have.
        """
        for name, choices in self.genes.items():
            if name not in genes:
                raise ConfigError(f"gene '{name}' is missing")
            if genes[name] not in choices:
                raise ConfigError(f"gene '{name}': {genes[name]!r} is none of {choices}")
        levels = tuple(
            Level(
                block=str(genes[f"block_{level}"]),
                channels=int(genes["width"]) * int(genes["growth"]) ** level,
                kernel=int(genes[f"kernel_{level}"]),
                down=genes[f"down_{level}"],  # type: ignore[arg-type]
                up=genes[f"up_{level}"],  # type: ignore[arg-type]
            )
            for level in range(int(genes["depth"]))
        )
        return Genotype(levels, self.spatial_dims, self.purpose)

    def encode(self, genotype: Genotype) -> Genes:
        """Genes that decode to a genotype; those that do not matter have their first value.

        Raises:
            ConfigError: the genotype is not of this space.
        """
        genes = self._first() | {"depth": genotype.depth}
        relevant = self.relevant(genotype)
        for number, level in enumerate(genotype.levels[: genotype.depth]):
            genes[f"block_{number}"] = level.block
            own = {"kernel": level.kernel, "down": level.down, "up": level.up}
            genes |= {
                f"{name}_{number}": value
                for name, value in own.items()
                if f"{name}_{number}" in relevant
            }
        for width, growth in itertools.product(self.widths, self.growths):
            genes |= {"width": width, "growth": growth}
            try:
                if self.decode(genes) == genotype:
                    return genes
            except ConfigError:
                break
        raise ConfigError(f"genotype {genotype} is not of this search space: {self}")

    def relevant(self, genotype: Genotype) -> frozenset[str]:
        """Return the names of the genes that matter in a network: others may have any value."""
        names = {"depth", "width"}
        goes_up = genotype.depth - 1 if genotype.purpose == "segmentation" else 0
        for number, level in enumerate(genotype.levels[: genotype.depth]):
            kind = block(level.block).kind
            names.add(f"block_{number}")
            if kind == "convolution":
                names.add(f"kernel_{number}")
            if kind != "identity":
                names |= {f"down_{number}"} | ({"growth"} if number else set())
            if kind != "identity" and number < goes_up:
                names.add(f"up_{number}")
        return frozenset(names)

    def __contains__(self, genotype: Genotype) -> bool:
        try:
            return bool(self.encode(genotype))
        except ConfigError:
            return False

    def random(self, generator: "np.random.Generator") -> Genotype:
        """A network whose genes are drawn evenly and alone."""
        return self.decode(
            {name: _one_of(choices, generator) for name, choices in self.genes.items()}
        )

    def latin_hypercube(self, n: int, generator: "np.random.Generator") -> list[Genotype]:
        """Networks among which every value of every gene stands as often as every other, or once
        more where their number does not divide.

        Args:
            n: number of networks; some may be equal, where genes have no effect.
            generator: random numbers of the draws.

        Raises:
            ConfigError: the number is negative.

        Source: McKay, Beckman, Conover 1979, doi:10.1080/00401706.1979.10489755.
        """
        require_whole("number of networks", n, least=0)
        columns: dict[str, list[Gene]] = {}
        for name, choices in self.genes.items():
            order = generator.permutation(len(choices))
            strata = generator.permutation(n) % len(choices)
            columns[name] = [choices[order[stratum]] for stratum in strata]
        return [
            self.decode({name: column[number] for name, column in columns.items()})
            for number in range(n)
        ]

    def mutate(
        self, genotype: Genotype, generator: "np.random.Generator", rates: Mapping[str, float]
    ) -> Genotype:
        """A network with some genes drawn again from their other values.

        Genes that do not matter in the parent are drawn evenly first: a level that a mutation adds
        has any block.

        Args:
            genotype: genotype of this space.
            generator: random numbers of the draws.
            rates: probability that a gene changes, by its name without the level (``"block"``);
                ``"other"`` of those that are not named.

        Returns:
            the mutant, which differs where the space holds another network at all.

        Raises:
            ConfigError: the genotype is not of this space, or a rate is of no gene or outside
                [0, 1].
        """
        self._check_rates(rates)
        parent, relevant = self.encode(genotype), self.relevant(genotype)
        for _ in range(_ATTEMPTS):
            genes = {
                name: parent[name] if name in relevant else _one_of(choices, generator)
                for name, choices in self.genes.items()
            }
            changed = dict(genes)
            for name, choices in self.genes.items():
                rate = rates.get(name.split("_")[0], rates.get("other", 0.0))
                others = tuple(choice for choice in choices if choice != genes[name])
                if others and generator.random() < rate:
                    changed[name] = _one_of(others, generator)
            mutant = self.decode(changed)
            if mutant != genotype:
                return mutant
        return self._neighbour(genotype, parent, generator)

    def enumerate(self) -> Iterator[Genotype]:
        """Every network once. The number of combinations, :attr:`size`, says whether to."""
        seen = set()
        for values in itertools.product(*self.genes.values()):
            genotype = self.decode(dict(zip(self.genes, values, strict=True)))
            if genotype not in seen:
                seen.add(genotype)
                yield genotype

    def _neighbour(
        self, genotype: Genotype, genes: Genes, generator: "np.random.Generator"
    ) -> Genotype:
        """A network that differs in one gene; the same one where the space holds no other."""
        changes = [(name, value) for name, choices in self.genes.items() for value in choices]
        for number in generator.permutation(len(changes)):
            name, value = changes[number]
            mutant = self.decode({**genes, name: value})
            if mutant != genotype:
                return mutant
        return genotype

    def _check_rates(self, rates: Mapping[str, float]) -> None:
        known = {name.split("_")[0] for name in self.genes} | {"other"}
        for name, rate in rates.items():
            if name not in known:
                raise ConfigError(f"mutation rate '{name}': {nearest(str(name), known)}")
            require_number(f"mutation rate '{name}'", rate, at_least=0, at_most=1)

    @property
    def _first_blocks(self) -> tuple[str, ...]:
        return tuple(name for name in self.blocks if BLOCKS[name].kind != "identity")

    def _first(self) -> Genes:
        return {name: choices[0] for name, choices in self.genes.items()}


_ATTEMPTS = 64


def _one_of(choices: tuple[Gene, ...], generator: "np.random.Generator") -> Gene:
    return choices[int(generator.integers(len(choices)))]


def _distinct(values: Iterable[object]) -> tuple[object, ...]:
    """Return different values; they need not be hashable."""
    found: list[object] = []
    for value in values:
        if value not in found:
            found.append(value)
    return tuple(found)


def _check_whole(
    name: str, values: Sequence[object], allowed: Container[object], expected: str
) -> None:
    for value in values:
        if type(value) is not int or value not in allowed:
            raise ConfigError(f"space.{name}: expected {expected}, found {value!r}")
