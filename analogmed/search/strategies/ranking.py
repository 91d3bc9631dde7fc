"""Strategies that propose networks in an order fixed before the first evaluation."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from analogmed.models import Genotype
from analogmed.search.space.space import Genes
from analogmed.search.strategy import Context, Evaluated, GenotypeSampler, tried
from analogmed.search.supernet.operations import counted

_PATIENCE = 500


class Ranking(GenotypeSampler):
    """Sampler that proposes each network once, in an order fixed before the first evaluation.

    A network that was being evaluated when its process ended is proposed again, before those after
    it.

    Args:
        context: context of the search.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ranked: list[Genotype] = []
        self._tried: frozenset[Genotype] = frozenset()

    @abstractmethod
    def networks(self) -> Iterator[Genotype]:
        """Yield all networks that may be proposed, the best first."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Genes:
        """Return the genes of the proposed network, which no done, running or failed trial has."""
        self._tried = frozenset(tried(study, self.context.space))
        return super().sample_relative(study, trial, search_space)

    def propose(
        self, history: Sequence[Evaluated], number: int, generator: np.random.Generator
    ) -> Genotype:
        """Return the first untried network; if there is none, start from the first again."""
        known = self._tried.union(one.genotype for one in history)
        for network in self._in_order():
            if network not in known:
                return network
        return self._ranked[number % len(self._ranked)]

    def _in_order(self) -> Iterator[Genotype]:
        """Yield all networks; those that were requested before are not ranked again."""
        yield from self._ranked
        for network in self._unranked:
            self._ranked.append(network)
            yield network

    @cached_property
    def _unranked(self) -> Iterator[Genotype]:
        return feasible_first(self.context, self.networks())


def feasible_first(context: Context, networks: Iterable[Genotype]) -> Iterator[Genotype]:
    """Yield the same networks, but those that break a constraint on a counted metric last.

    Where none of many networks meets the constraints, those with the smallest violation come next,
    so that a search with unsatisfiable constraints ends.
    """
    networks, misses = iter(networks), 0
    broken: list[tuple[float, Genotype]] = []
    for network in networks:
        violation = _violation(context, network)
        if violation <= 0:
            misses = 0
            yield network
            continue
        misses += 1
        broken.append((violation, network))
        if misses >= _PATIENCE:
            break
    yield from (network for _, network in sorted(broken, key=lambda found: found[0]))
    yield from networks


def _violation(context: Context, network: Genotype) -> float:
    """Return the violation summed over counted metrics; the others are unknown before training."""
    if not context.goal.constraints:
        return 0.0
    metrics = counted(context.count, network)
    known = [one for one in context.goal.constraints if one.metric in metrics or not metrics]
    return sum(max(0.0, one.violation(metrics)) for one in known)
