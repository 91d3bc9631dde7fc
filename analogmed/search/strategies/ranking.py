"""Strategies that propose networks in an order that is set before the first is evaluated."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial

from analogmed.models import Genotype
from analogmed.search.space.space import Genes
from analogmed.search.strategy import Context, Evaluated, Proposing, tried
from analogmed.search.supernet.operations import counted

_PATIENCE = 500


class Ranking(Proposing):
    """Proposes networks in an order that is set before the first is evaluated: each once.

    One that was in work when its process ended is proposed again, before those behind it.

    Args:
        context: of the search.
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._ranked: list[Genotype] = []
        self._tried: frozenset[Genotype] = frozenset()

    @abstractmethod
    def networks(self) -> Iterator[Genotype]:
        """All that may be proposed, the best first."""

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Genes:
        """Genes of the proposed network, which no done, running or failed trial has."""
        self._tried = frozenset(tried(study, self.context.space))
        return super().sample_relative(study, trial, search_space)

    def propose(
        self, history: Sequence[Evaluated], number: int, generator: np.random.Generator
    ) -> Genotype:
        """The first that has not been tried; from the first again, if there are no more."""
        known = self._tried.union(one.genotype for one in history)
        for network in self._in_order():
            if network not in known:
                return network
        return self._ranked[number % len(self._ranked)]

    def _in_order(self) -> Iterator[Genotype]:
        """All networks; those that were asked for before are not ranked again."""
        yield from self._ranked
        for network in self._unranked:
            self._ranked.append(network)
            yield network

    @cached_property
    def _unranked(self) -> Iterator[Genotype]:
        return feasible_first(self.context, self.networks())


def feasible_first(context: Context, networks: Iterable[Genotype]) -> Iterator[Genotype]:
    """The same networks, but those that break a constraint on what can be counted come last.

    Where none keeps the constraints among many, those that break them least are next, so that a
    search that asks for the impossible ends.
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
    """Sum over the constraints on counted metrics; unknown before training are the others."""
    if not context.goal.constraints:
        return 0.0
    metrics = counted(context.count, network)
    known = [one for one in context.goal.constraints if one.metric in metrics or not metrics]
    return sum(max(0.0, one.violation(metrics)) for one in known)
