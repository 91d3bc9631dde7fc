"""Array representation of many networks of a space: genes as rows, and features."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from analogmed.models import Genotype
from analogmed.models.genotype import BLOCKS
from analogmed.search.space.space import Gene, Space


class GeneTable:
    """Genes as arrays of shape (networks, genes): the index of each value among its choices.

    In canonical rows, equal networks have equal rows: irrelevant genes are 0.

    Args:
        space: search space of the networks.

    Attributes:
        sizes: number of choices of each gene, int64, shape (genes,).
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._choices = dict(space.genes)
        self._column = {name: column for column, name in enumerate(self._choices)}
        self.sizes = np.array([len(choices) for choices in self._choices.values()])
        self._lookup = _lookups(self._choices)
        self._rows: dict[Genotype, list[int]] = {}
        self._levels = range(max(space.depths))

    def rows(self, genotypes: Iterable[Genotype]) -> np.ndarray:
        """Return canonical rows of networks of the space, int64.

        Raises:
            ConfigError: a network is not of the space.
        """
        encoded = [self._row(one) for one in genotypes]
        return np.array(encoded, dtype=np.int64).reshape(-1, len(self.sizes))

    def genotype(self, row: Sequence[int] | np.ndarray) -> Genotype:
        """Return the network of a row."""
        genes = zip(self._choices.items(), row, strict=True)
        return self.space.decode({name: choices[int(place)] for (name, choices), place in genes})

    def rates(self, rates: Mapping[str, float]) -> np.ndarray:
        """Return mutation rates as for :meth:`Space.mutate`, one for each gene, shape (genes,)."""
        other = rates.get("other", 0.0)
        return np.array([rates.get(name.split("_")[0], other) for name in self._choices])

    def latin_hypercube(self, n: int, generator: np.random.Generator) -> np.ndarray:
        """Return non-canonical rows in which all values of a gene are equally frequent.

        Frequencies differ by one where the number of rows is not divisible.
        """
        places = generator.random((n, len(self.sizes))).argsort(axis=0)
        return (places + generator.integers(self.sizes)) % self.sizes

    def mutate(
        self, rows: np.ndarray, rates: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """Return canonical rows of mutants: each gene changes with a given probability.

        Genes that are irrelevant in the parent are drawn uniformly first, as in
        :meth:`Space.mutate`.

        Args:
            rows: rows of the parents.
            rates: probability of each gene, shape (genes,).
            generator: generator of the draws.
        """
        drawn = generator.integers(self.sizes, size=rows.shape)
        rows = np.where(self.relevant(rows), rows, drawn)
        changes = (generator.random(rows.shape) < rates) & (self.sizes > 1)
        steps = generator.integers(1, np.maximum(self.sizes, 2), rows.shape)
        return self.canonical(np.where(changes, (rows + steps) % self.sizes, rows))

    def canonical(self, rows: np.ndarray) -> np.ndarray:
        """Return rows whose irrelevant genes are 0."""
        return np.where(self.relevant(rows), rows, 0)

    def relevant(self, rows: np.ndarray) -> np.ndarray:
        """Return which genes matter, as :meth:`Space.relevant`; bool, shape (networks, genes)."""
        matter = np.ones(rows.shape, dtype=bool)
        depth = self._of("depth", rows)
        widens = np.zeros(len(rows), dtype=bool)
        for level in self._levels:
            exists, goes_up = depth > level, depth > level + 1
            if self.space.purpose == "classification":
                goes_up = np.zeros_like(exists)
            weighs = exists & self._of(f"weighs_{level}", rows)
            widens |= weighs & (level > 0)
            for name, matters in (
                ("kernel", exists & self._of(f"convolves_{level}", rows)),
                ("down", weighs),
                ("up", weighs & goes_up),
                ("block", exists),
            ):
                matter[:, self._column[f"{name}_{level}"]] = matters
        matter[:, self._column["growth"]] = widens
        return matter

    def features(self, rows: np.ndarray) -> np.ndarray:
        """Return the features of networks for a surrogate, float32, shape (networks, features).

        They are depth, width and growth; and for each level its block (one-hot), channels, kernel
        and digital places, all 0 where they do not matter.

        Args:
            rows: canonical rows.
        """
        depth, width, growth = (self._of(name, rows) for name in ("depth", "width", "growth"))
        columns = [np.stack([depth, width, growth], axis=1)]
        for level in self._levels:
            channels = width * growth**level * self._of(f"weighs_{level}", rows)
            kernel = self._of(f"kernel_{level}", rows) * self._of(f"convolves_{level}", rows)
            places = (self._of(f"{way}_{level}", rows) for way in ("down", "up"))
            own = np.column_stack([self._of(f"block_{level}", rows), channels, kernel, *places])
            columns.append(own * (depth > level)[:, None])
        return np.concatenate(columns, axis=1).astype(np.float32)

    def _row(self, genotype: Genotype) -> list[int]:
        if genotype not in self._rows:
            genes = self.space.encode(genotype)
            self._rows[genotype] = [
                choices.index(genes[name]) for name, choices in self._choices.items()
            ]
        return self._rows[genotype]

    def _of(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Return the values of a gene, or of a property derived from it, in each row."""
        column, values = self._lookup[name]
        found: np.ndarray = values[rows[:, column]]
        return found


def _lookups(choices: Mapping[str, Sequence[Gene]]) -> dict[str, tuple[int, np.ndarray]]:
    """Return the column of each gene, and its values as numbers; blocks as one-hot vectors."""
    blocks = tuple(
        dict.fromkeys(
            value
            for name, values in choices.items()
            if name.startswith("block")
            for value in values
        )
    )
    lookups: dict[str, tuple[int, np.ndarray]] = {}
    for column, (name, values) in enumerate(choices.items()):
        kind, _, level = name.partition("_")
        if kind in ("down", "up"):
            lookups[name] = column, np.array([value == "digital" for value in values])
        elif kind != "block":
            lookups[name] = column, np.array(values)
        else:
            kinds = [BLOCKS[str(value)].kind for value in values]
            lookups[name] = column, np.array([[value == one for one in blocks] for value in values])
            lookups[f"weighs_{level}"] = column, np.array([one != "identity" for one in kinds])
            lookups[f"convolves_{level}"] = (
                column,
                np.array([one == "convolution" for one in kinds]),
            )
    return lookups
