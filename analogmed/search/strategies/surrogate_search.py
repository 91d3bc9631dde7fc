"""Evolution of AnalogNAS within its surrogate, without training networks."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from analogmed.search.space.gene_table import GeneTable

Judge = Callable[[np.ndarray], np.ndarray]
"""Function from rows of a :class:`GeneTable` to a number for each, shape (n,)."""

_PARTS = 2
_ATTEMPTS = 32


@dataclass(frozen=True)
class SurrogateCriteria:
    """Criteria to compare networks without training them.

    A network without violations is better than one with violations. Otherwise the higher score is
    better, or the smaller sum of violations.

    Attributes:
        score: predicted score; higher is better.
        drop: predicted violation of the bound on the month's variation; 0 or less where met.
        violation: predicted violation of all bounds on measured metrics; 0 where met.
        count: violation of all bounds on counted metrics; 0 where met. Called as rarely as
            possible.
    """

    score: Judge
    drop: Judge
    violation: Judge
    count: Callable[[np.ndarray], float]


def evolve(
    table: GeneTable,
    judges: SurrogateCriteria,
    *,
    population: int,
    iterations: int,
    rates: np.ndarray,
    taken: Collection[bytes],
    generator: np.random.Generator,
) -> np.ndarray | None:
    """Return the best network of an evolution within the surrogate.

    Args:
        table: gene table of the space.
        judges: criteria to compare networks.
        population: size of the population.
        iterations: number of iterations; each keeps the top half and adds its mutants.
        rates: mutation rate of each gene.
        taken: rows, as bytes, that are excluded.
        generator: generator of the draws.

    Returns:
        row of the network; ``None`` where all rows of the population are taken.

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
    table: GeneTable, judges: SurrogateCriteria, n: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw a Latin hypercube, whose violators are replaced inside their own hypercube.

    The hypercube of a network is the part of the space where each gene is in the same half of its
    values, in the order of the space. (The strata of the design itself are not suitable: for a gene
    with few values each stratum is a single value.) A violator is redrawn from its hypercube, up to
    a number of times; if no draw meets the bound, the one nearest to it is kept.

    Args:
        table: gene table of the space.
        judges: criteria to compare networks, here the variation over the month.
        n: size of the population.
        generator: generator of the draws.

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


def best(rows: np.ndarray, judges: SurrogateCriteria, n: int) -> np.ndarray:
    """Return the n best of some networks, best first."""
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
    """Return the first value of each gene's half, and the first value beyond it."""
    part = rows * _PARTS // sizes
    return -(-part * sizes // _PARTS), -(-(part + 1) * sizes // _PARTS)


def _free(rows: np.ndarray, taken: Collection[bytes]) -> np.ndarray:
    """Return each row once, without those that are taken."""
    once = np.unique(rows, axis=0)
    return once[[row.tobytes() not in taken for row in once]]
