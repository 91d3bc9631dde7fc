"""MIAS and its multi-task variants: rank networks by the scores of their operations."""

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.checks import require_at_least_one
from analogmed.foundation.text import known_name, nearest
from analogmed.models import Genotype
from analogmed.search.space.best_first import best_first_networks
from analogmed.search.space.choices import Option, Options
from analogmed.search.space.extents import SizeUnit
from analogmed.search.space.sizes import operation_sizes
from analogmed.search.space.space import Gene
from analogmed.search.space.unions import (
    Candidates,
    Union,
    greedy_union,
    relaxed_union,
    union_front,
)
from analogmed.search.strategies.ranking import Ranking, feasible_first
from analogmed.search.strategy import Context
from analogmed.search.supernet.operations import operation_scores
from analogmed.search.supernet.similarity import operation_cosines
from analogmed.search.supernet.weights import Weights, load_weights

_LEAST_WORTH = 1e-12


def mias(context: Context, *, n: int = 32, task: str | None = None) -> "Mias":
    """Return MIAS: the networks whose operations have the highest scores in a trained supernetwork.

    For every level, from the output to the input, it selects the block with the largest
    ``importance * mean score / latency``, and the options of the other genes likewise; then the
    next best networks, by the product over their genes. Networks that break a constraint on a
    metric that can be counted come last.

    Args:
        context: context of the search, with supernetworks.
        n: number of networks over which the score of each option is averaged.
        task: task of the supernetwork, if there are several.

    Raises:
        ConfigError: no supernetwork is given, several without ``task``, or one of another space.

    Source: poster and talk on MIAS.
    """
    return Mias(context, _one_of(load_weights(context), task), n=n)


def mt_mias(context: Context, *, n: int = 32, cosine: float = 1.0) -> "MtMias":
    """Return MT-MIAS: one network for several tasks, by its operations' scores and similarity.

    The score of an option is the sum over tasks of its MIAS score, which is 1 for the best option;
    for a block it also includes ``cosine`` times the mean cosine between the tasks' weights.
    Networks are ranked by the sum over their genes.

    Args:
        context: context of the search, with supernetworks of two tasks or more.
        n: number of networks over which each option is averaged.
        cosine: weight of the cosines, lambda.

    Raises:
        ConfigError: fewer than two tasks have a supernetwork, or one is of another space.

    Source: talk on MT-MIAS.
    """
    return MtMias(context, _several(load_weights(context), "mt_mias"), n=n, cosine=cosine)


def mt_mias_c(
    context: Context,
    *,
    delta: float = 0.02,
    blocks_per_level: int | None = None,
    size: SizeUnit = "parameters",
    candidates: int = 64,
    n: int = 32,
    cosine: float = 1.0,
) -> "MtMiasC":
    """Return MT-MIAS-C: a network for each of several tasks, whose union is small.

    The networks of the smallest union whose score drop is at most ``delta`` for every task come
    first; then those of the unions from one operation per level to all; then the other candidates.

    Args:
        context: context of the search, with supernetworks of two tasks or more.
        delta: largest drop of each task's score below that of its best candidate.
        blocks_per_level: largest number of operations per level; unlimited by default.
        size: unit of the size of the union: ``"parameters"`` or ``"tiles"``.
        candidates: number of networks that tasks choose from: half of them the best by MT-MIAS, the
            others a Latin hypercube of the space.
        n: number of networks, as for :func:`mt_mias`.
        cosine: weight of the cosines, as for :func:`mt_mias`.

    Raises:
        ConfigError: as for :func:`mt_mias`; an option is out of its range.

    Source: talk on MT-MIAS-C.
    """
    weights = _several(load_weights(context), "mt_mias_c")
    ranking = MtMias(context, weights, n=n, cosine=cosine)
    return MtMiasC(
        ranking, delta=delta, blocks_per_level=blocks_per_level, size=size, candidates=candidates
    )


class Mias(Ranking):
    """MIAS, as :func:`mias` returns it.

    Args:
        context: context of the search.
        weights: weights of the supernetwork's task.
        n: number of networks over which the score of each option is averaged.
    """

    def __init__(self, context: Context, weights: Weights, *, n: int = 32) -> None:
        super().__init__(context)
        self._weights, self._n = weights, n

    @cached_property
    def table(self) -> pd.DataFrame:
        """Score of each option, as :func:`operation_scores` returns it."""
        context = self.context
        return operation_scores(self._weights, context.count, n=self._n, seed=context.seed)

    def networks(self) -> Iterator[Genotype]:
        """Yield networks by the product of the scores of their options."""
        scores = {
            option: math.log(max(worth, _LEAST_WORTH))
            for option, worth in option_scores(self.table).items()
        }
        return best_first_networks(self.context.space, self._weights.genes, scores)


class MtMias(Ranking):
    """MT-MIAS, as :func:`mt_mias` returns it.

    Args:
        context: context of the search.
        weights: weights of each task.
        n: number of networks over which each option is averaged.
        cosine: weight of the cosines.
    """

    def __init__(
        self, context: Context, weights: Sequence[Weights], *, n: int = 32, cosine: float = 1.0
    ) -> None:
        super().__init__(context)
        self.weights, self._n, self._cosine = weights, n, cosine

    @cached_property
    def genes(self) -> Options:
        """Options that are left in every task's supernetwork."""
        return _in_all(self.weights)

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Scores of the options for each task."""
        context = self.context
        return {
            each.task: operation_scores(each, context.count, n=self._n, seed=context.seed)
            for each in self.weights
        }

    @cached_property
    def scores(self) -> dict[Option, float]:
        """Score of each option, over all tasks."""
        worths = [option_scores(table) for table in self.tables.values()]
        cosines = operation_cosines(self.weights, self.genes, n=self._n, seed=self.context.seed)
        return {
            (gene, option): sum(worth.get((gene, option), 1.0) for worth in worths)
            + self._cosine * cosines.get((gene, option), 0.0)
            for gene, options in self.genes.items()
            for option in options
        }

    def networks(self) -> Iterator[Genotype]:
        """Yield networks by the sum of their options' scores."""
        return best_first_networks(self.context.space, self.genes, self.scores)


class MtMiasC(Ranking):
    """MT-MIAS-C, as :func:`mt_mias_c` returns it.

    Args:
        ranking: MT-MIAS of the same tasks.
        delta: accepted score drop of each task.
        blocks_per_level: largest number of operations per level.
        size: unit of the size of the union.
        candidates: number of networks that tasks choose from.
    """

    def __init__(
        self,
        ranking: MtMias,
        *,
        delta: float = 0.02,
        blocks_per_level: int | None = None,
        size: SizeUnit = "parameters",
        candidates: int = 64,
    ) -> None:
        super().__init__(ranking.context)
        require_at_least_one("candidates", candidates)
        self._ranking, self._number, self._size = ranking, candidates, size
        self._delta, self._blocks = delta, blocks_per_level

    @cached_property
    def candidates(self) -> Candidates:
        """Networks, with their scores for each task and the sizes of their operations."""
        space, weights = self.context.space, self._ranking.weights
        generator = np.random.default_rng(derive_seed(self.context.seed, "candidates"))
        spread = space.latin_hypercube(self._number, generator)
        best = feasible_first(self.context, self._ranking.networks())
        networks = _first(self._number // 2, best, [])
        networks = _first(self._number, spread, networks)
        networks = [one for one in networks if _holds(self._ranking.genes, one)]
        scores = {each.task: [each.score(one) for one in networks] for each in weights}
        images = [each.image_channels for each in weights]
        sizes = [
            operation_sizes(weights[0].subnet(one), self._size, image_channels=images)
            for one in networks
        ]
        return Candidates(networks, scores, sizes)

    @cached_property
    def union(self) -> Union:
        """Smallest union within ``delta``.

        Raises:
            ConfigError: there is none with so few operations per level; names the nearest.
        """
        candidates, most = self.candidates, self._blocks
        union = greedy_union(candidates, delta=self._delta, blocks_per_level=most)
        if union is None:
            assert most is not None  # without it the tasks' best networks are a union
            near = relaxed_union(candidates, blocks_per_level=most)
            found = (
                ", ".join(f"{task} loses {loss:.3f}" for task, loss in near.losses.items())
                if near
                else "none of any loss"
            )
            raise ConfigError(
                f"no union of at most {most} blocks per level costs every task at most "
                f"{self._delta}; the nearest: {found}; raise delta or blocks_per_level"
            )
        return union

    @cached_property
    def front(self) -> list[Union]:
        """Unions from one operation per level to all."""
        return union_front(self.candidates)

    def networks(self) -> Iterator[Genotype]:
        """Yield the networks of the smallest union, then of the front, then the others."""
        names: Sequence[Genotype] = self.candidates.names  # type: ignore[assignment]
        unions = (self.union, *self.front)
        chosen = dict.fromkeys(names[one] for union in unions for one in union.chosen.values())
        yield from chosen
        for network in self._ranking.networks():
            if network not in chosen:
                yield network


def option_scores(table: pd.DataFrame) -> dict[Option, float]:
    """Return the score of each option, column ``worth`` of the table of ``operation_scores``.

    See :func:`analogmed.search.supernet.operations.operation_scores`.
    """
    return {
        (str(gene), option): float(worth)
        for gene, option, worth in zip(table["gene"], table["option"], table["worth"], strict=True)
    }


def _one_of(weights: Sequence[Weights], task: str | None) -> Weights:
    names = [each.task for each in weights]
    if task is None and len(weights) > 1:
        raise ConfigError(
            f"mias searches for one task and there are supernetworks of {', '.join(names)}; choose "
            "by its option task, or take mt_mias"
        )
    task = known_name(task, names)
    if task is not None and task not in names:
        raise ConfigError(f"mias: task '{task}' has no supernetwork; {nearest(task, names)}")
    return weights[names.index(task) if task is not None else 0]


def _several(weights: Sequence[Weights], strategy: str) -> Sequence[Weights]:
    if len(weights) < 2:
        raise ConfigError(
            f"{strategy} searches for several tasks and there is a supernetwork of "
            f"{weights[0].task} only; name one of another task too, or take mias"
        )
    return weights


def _in_all(weights: Sequence[Weights]) -> Options:
    """Return the options that are left in every supernetwork."""
    genes: dict[str, tuple[Gene, ...]] = dict(weights[0].genes)
    for each in weights[1:]:
        for gene, options in genes.items():
            genes[gene] = tuple(option for option in options if option in each.genes[gene])
            if not genes[gene]:
                raise ConfigError(
                    f"pruning has left the supernetworks no {gene} in common: {options} of "
                    f"{weights[0].task}, and {each.genes[gene]} of {each.task}; train one with a "
                    "larger pruning.keep"
                )
    return genes


def _first(number: int, networks: Iterable[Genotype], before: Sequence[Genotype]) -> list[Genotype]:
    """Return different networks, up to a number, after those that are given already."""
    found = dict.fromkeys(before)
    for network in networks:
        if len(found) >= number:
            break
        found[network] = None
    return list(found)


def _holds(options: Options, network: Genotype) -> bool:
    levels = network.levels[: network.depth]
    return all(level.block in options[f"block_{number}"] for number, level in enumerate(levels))
