"""The evolution of AnalogNAS within its surrogate: no network is trained here."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from analogmed.search.space.gene_table import GeneTable

Judge = Callable[[np.ndarray], np.ndarray]
"""From rows of a :class:`GeneTable` to a number for each, shape (n,)."""

_PARTS = 2
_ATTEMPTS = 32


@dataclass(frozen=True)
class Judges:
    """How networks are compared, without training them.

    A network that violates nothing is better than one that does. Of the others the higher score is
    better, or the smaller sum of violations.

    Attributes:
        score: guessed; higher is better.
        drop: guessed violation of the bound on the month's variation; 0 or less where kept.
        violation: guessed, of all bounds on what is measured; 0 where kept.
        count: of all bounds on what is counted; 0 where kept. Asked as rarely as possible.
    """

    score: Judge
    drop: Judge
    violation: Judge
    count: Callable[[np.ndarray], float]


def evolve(
    table: GeneTable,
    judges: Judges,
    *,
    population: int,
    iterations: int,
    rates: np.ndarray,
    taken: Collection[bytes],
    generator: np.random.Generator,
) -> np.ndarray | None:
    """The best network that is found.

    Args:
        table: of the space.
        judges: of networks.
        population: size of it.
        iterations: each keeps the top half, and adds its mutants to it.
        rates: of mutation of each gene.
        taken: rows, as bytes, that are not looked for.
        generator: of the draws.

    Returns:
        its row; ``None`` where all that is found is taken.

    Source: Benmeziane et al. 2023, arXiv:2305.10459, algorithm 1.
    """
    rows = _free(initial_population(table, judges, population, generator), taken)
    for _ in range(iterations):
        if not len(rows):
            return None
        top = best(rows, judges, max(1, population // 2))
        parents = np.resize(np.arange(len(top)), population - len(top))
        rows = _free(np.concatenate([top, table.mutate(top[parents], rates, generator)]), taken)
    return best(rows, judges, 1)[0] if len(rows) else None


def initial_population(
    table: GeneTable, judges: Judges, n: int, generator: np.random.Generator
) -> np.ndarray:
    """A Latin hypercube, whose violators are replaced inside their own hypercube.

    The hypercube of a network is the part of the space where each gene is in the same half of its
    values, in the order in which the space names them. (The strata of the design itself are no use
    for it: of a gene with a few values each stratum is a single value.) A violator is drawn anew
    from its hypercube, up to a number of times; where none is found that keeps the bound, the one
    nearest to it stays.

    Args:
        table: of the space.
        judges: of networks, here of their variation over the month.
        n: size of the population.
        generator: of the draws.

    Returns:
        canonical rows, shape (n, genes).
    """
    drawn = table.latin_hypercube(n, generator)
    low, high = _hypercube(drawn, table.sizes)
    rows = table.canonical(drawn)
    drop = judges.drop(rows)
    for _ in range(_ATTEMPTS):
        violators = np.flatnonzero(drop > 0)
        if not len(violators):
            break
        others = table.canonical(generator.integers(low[violators], high[violators]))
        found = judges.drop(others)
        nearer = found < drop[violators]
        rows[violators[nearer]], drop[violators[nearer]] = others[nearer], found[nearer]
    return rows


def best(rows: np.ndarray, judges: Judges, n: int) -> np.ndarray:
    """The n best of some networks, best first."""
    score, violation = judges.score(rows), judges.violation(rows)
    kept: list[int] = []
    broken: list[int] = []
    for number in np.lexsort((-score, violation)):
        if violation[number] > 0 or judges.count(rows[number]) > 0:
            broken.append(number)
        elif len(kept) < n:
            kept.append(number)
        if len(kept) == n:
            return rows[kept]
    broken.sort(key=lambda number: (violation[number] + judges.count(rows[number]), -score[number]))
    return rows[(kept + broken)[:n]]


def _hypercube(rows: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First value of each gene's half, and the first one beyond it."""
    part = rows * _PARTS // sizes
    return -(-part * sizes // _PARTS), -(-(part + 1) * sizes // _PARTS)


def _free(rows: np.ndarray, taken: Collection[bytes]) -> np.ndarray:
    """Each row once, without those that are taken."""
    once = np.unique(rows, axis=0)
    return once[[row.tobytes() not in taken for row in once]]
