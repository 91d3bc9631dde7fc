"""Regularised evolution: remove the oldest individual regardless of its fitness."""

from collections.abc import Mapping, Sequence

import numpy as np

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_at_least_one
from analogmed.models import Genotype
from analogmed.search.objectives import best_first
from analogmed.search.strategy import Context, Evaluated, GenotypeSampler


def evolution(
    context: Context,
    *,
    population: int | None = None,
    tournament: int | None = None,
    rates: Mapping[str, float] | None = None,
) -> "Evolution":
    """Return regularised evolution for the first objective of the goal.

    The first ``population`` networks are random. After that, the population consists of the last
    ``population`` evaluated networks; the best of ``tournament`` of them, drawn without
    replacement, is the parent of the next. A network that meets all constraints is better than one
    that does not; of two that do not, the one with the smaller violation is better.

    Args:
        context: context of the search.
        population: size of the population; by default a fifth of the budget, 4 to 100.
        tournament: size of a tournament; by default a quarter of the population as in the paper,
            and at least 3.
        rates: probability that a gene changes, by its name without the level, and ``other``; by
            default one gene changes on average.

    Raises:
        ConfigError: a size or a rate is out of its range.

    Source: Real et al. 2019, arXiv:1802.01548.
    """
    size = min(100, max(4, context.budget // 5)) if population is None else population
    require_at_least_one("population", size)
    drawn = min(size, max(3, size // 4)) if tournament is None else tournament
    if not 1 <= drawn <= size:
        raise ConfigError(f"tournament: expected 1 to the population, {size}; found {drawn}")
    free = sum(len(choices) > 1 for choices in context.space.genes.values())
    given = {"other": 1 / max(free, 1)} if rates is None else dict(rates)
    generator = np.random.default_rng(0)
    context.space.mutate(context.space.random(generator), generator, given)  # checks the rates
    return Evolution(context, size, drawn, given)


class Evolution(GenotypeSampler):
    """Regularised evolution, as :func:`evolution` returns it.

    Args:
        context: context of the search.
        population: number of networks that may become parents.
        tournament: number of networks among which a parent is chosen.
        rates: probabilities of :meth:`Space.mutate`.
    """

    def __init__(
        self, context: Context, population: int, tournament: int, rates: Mapping[str, float]
    ) -> None:
        super().__init__(context)
        self.population = population
        self.tournament = tournament
        self.rates = rates

    def propose(
        self, history: Sequence[Evaluated], number: int, generator: np.random.Generator
    ) -> Genotype:
        """Return a mutant of a tournament's winner; random networks until there is a population."""
        if len(history) < self.population:
            return self.context.space.random(generator)
        living = history[-self.population :]
        drawn = generator.choice(len(living), size=self.tournament, replace=False)
        players = [living[player] for player in drawn]
        best = best_first([player.metrics for player in players], self.context.goal)[0]
        return self.context.space.mutate(players[best].genotype, generator, self.rates)
