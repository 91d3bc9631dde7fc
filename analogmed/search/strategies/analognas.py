"""AnalogNAS as in its paper, adapted to propose one network at a time."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import kendalltau

from analogmed.foundation.errors import AnalogmedError, ConfigError
from analogmed.foundation.registry import refuse_unknown_options
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.checks import require_choice, require_number, require_whole
from analogmed.metrics.registry import PRIMARY
from analogmed.models import Genotype
from analogmed.search.objectives import Constraint
from analogmed.search.space.gene_table import GeneTable
from analogmed.search.space.space import Genes
from analogmed.search.strategies.surrogate import Surrogate
from analogmed.search.strategies.surrogate_search import SurrogateCriteria, evolve
from analogmed.search.strategy import (
    Context,
    Evaluated,
    GenotypeSampler,
    tried,
)
from analogmed.tables.estimates import find_objective, spread_of

RATES: Mapping[str, float] = {"depth": 0.8, "width": 0.8, "other": 0.5}
"""Probability that a gene of a mutant differs from its parent's."""

_LEAST_STD = 1e-3
"""Lower limit of the predicted standard deviation of Dice; smaller ones are not reliable."""
_MOST_COUNTS = 1000
"""Largest number of networks counted for one proposal, which limits the time if no network fits."""
_ATTEMPTS = 64


@dataclass(frozen=True)
class AnalogNASConfig:
    """Settings of AnalogNAS.

    Attributes:
        initial: number of networks of the first data set; by default half of the budget.
        population: number of networks in the search within the surrogate.
        iterations: number of iterations of that search; the paper's single search has 200.
        check_every: number of evaluations between two checks of the surrogate; by default a tenth
            of the budget, at least 4, since the paper's 100 exceeds most budgets.
        least_tau: Kendall's tau of the surrogate below which it is fitted again.
        max_avm_drop: bound on the drop of the primary metric over a month; that of the goal has
            precedence. ``None``: no bound.
        objective: ``score``, the first objective of the goal; or ``score_over_std``, that divided
            by its standard deviation between chips, for instance of ``dice_1d``.
    """

    initial: int | None = None
    population: int = 200
    iterations: int = 50
    check_every: int | None = None
    least_tau: float = 0.9
    max_avm_drop: float | None = 0.1
    objective: Literal["score", "score_over_std"] = "score"

    def __post_init__(self) -> None:
        for name, least in (("initial", 2), ("check_every", 2), ("population", 2)):
            value = getattr(self, name)
            if value is not None:
                require_whole(name, value, least=least)
        require_whole("iterations", self.iterations, least=0)
        require_number("least_tau", self.least_tau, at_least=-1, at_most=1)
        if self.max_avm_drop is not None:
            require_number("max_avm_drop", self.max_avm_drop)
        known = ("score", "score_over_std")
        object.__setattr__(self, "objective", require_choice("objective", self.objective, known))


def analognas(context: Context, **options: Any) -> "AnalogNAS":
    """Return AnalogNAS: evolution within a surrogate of boosted trees.

    Args:
        context: context of the search.
        **options: options of :class:`AnalogNASConfig`.

    Raises:
        ConfigError: an option is unknown or out of its range.
    """
    known = [each.name for each in fields(AnalogNASConfig)]
    refuse_unknown_options("strategy analognas", options, known)
    return AnalogNAS(context, AnalogNASConfig(**options))


class AnalogNAS(GenotypeSampler):
    """AnalogNAS for the first objective of the goal.

    The paper's steps, adapted to one proposal at a time:

    1. A data set of networks by Latin hypercube is trained: the first ``initial`` ones. Random
       networks replace those that break a counted bound, fail or are equal; a network that was
       being evaluated when its process ended is proposed again.
    2. A ranking by pairwise hinge, and regressions of the month's variation, of the standard
       deviation after a day, and of other metrics with bounds in the goal, are fitted to it.
    3. Each further proposal is the best untried network of a search within the surrogate: a
       population by Latin hypercube, violators of the variation's bound replaced inside their
       hypercube, and iterations that keep the top half and add its mutants. Parameters and other
       countable metrics are counted, not predicted.
    4. After every ``check_every`` evaluations Kendall's tau is computed between the surrogate and
       the measurements since it was fitted; below ``least_tau`` it is fitted to all.

    In the paper step 3 runs once, on a surrogate of 1,200 networks, and its winner is the result.

    Args:
        context: context of the search.
        config: settings of AnalogNAS.

    Raises:
        ConfigError: the settings do not fit the goal.

    Source: Benmeziane et al. 2023, arXiv:2305.10459.
    """

    def __init__(self, context: Context, config: AnalogNASConfig = AnalogNASConfig()) -> None:
        super().__init__(context)
        self._spread = _spread_of(context.goal.objectives[0])
        if config.objective == "score_over_std" and self._spread is None:
            raise ConfigError(
                "objective score_over_std: the first objective of the search has to be a mean over "
                "chips whose deviation is known and of which more is better, for instance dice_1d; "
                f"found {context.goal.objectives[0]}"
            )
        self.config = config
        self.initial = config.initial or max(2, context.budget // 2)
        self.check_every = config.check_every or max(4, context.budget // 10)
        self.constraints = context.goal.constraints
        if config.max_avm_drop is not None and "avm_drop" not in self._bounded:
            self.constraints += (Constraint("avm_drop", "<=", config.max_avm_drop),)
        self._table = GeneTable(context.space)
        self._taken: frozenset[bytes] = frozenset()
        self._running = 0
        self._counts_left = _MOST_COUNTS
        self._fitted: dict[tuple[int, ...], Surrogate] = {}
        self._counted: dict[bytes, float] = {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Genes:
        """Return the genes of the proposed network, which no done, running or failed trial has."""
        genotypes = tried(study, self.context.space)
        self._taken = frozenset(row.tobytes() for row in self._table.rows(genotypes))
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        self._running = sum(one.number != trial.number for one in running)
        return super().sample_relative(study, trial, search_space)

    def propose(
        self, history: Sequence[Evaluated], number: int, generator: np.random.Generator
    ) -> Genotype:
        """Return a network of the first data set, or the winner of a surrogate search."""
        evaluated = self._table.rows(one.genotype for one in history)
        taken = self._taken.union(row.tobytes() for row in evaluated)
        if len(history) + self._running < self.initial or len(history) < 2:
            return self._untried(self._design, taken) or self._unlike(taken, generator)
        self._counts_left = _MOST_COUNTS
        row = evolve(
            self._table,
            self._judges(self.surrogate(history)),
            population=self.config.population,
            iterations=self.config.iterations,
            rates=self._table.rates(RATES),
            taken=taken,
            generator=generator,
        )
        return self.context.space.random(generator) if row is None else self._table.genotype(row)

    def surrogate(self, history: Sequence[Evaluated]) -> Surrogate:
        """Return the surrogate at the end of a history, with all refits that tau requires.

        Args:
            history: evaluated networks, in the order of their trials; two or more.
        """
        fitted_to = min(self.initial, len(history))
        surrogate = self._fit(history[:fitted_to])
        checks = range(fitted_to + self.check_every, len(history) + 1, self.check_every)
        for done in checks:
            if not self._tau(surrogate, history[fitted_to:done]) >= self.config.least_tau:
                surrogate, fitted_to = self._fit(history[:done]), done
        return surrogate

    @cached_property
    def _design(self) -> list[Genotype]:
        generator = np.random.default_rng(derive_seed(self.context.seed, "latin hypercube"))
        return self.context.space.latin_hypercube(self.initial, generator)

    @property
    def _bounded(self) -> set[str]:
        return {constraint.metric for constraint in self.constraints}

    def _untried(self, networks: Sequence[Genotype], taken: frozenset[bytes]) -> Genotype | None:
        """Return the first network that is not taken."""
        rows = self._table.rows(networks)
        free = (one for one, row in zip(networks, rows, strict=True) if row.tobytes() not in taken)
        return next(free, None)

    def _unlike(self, taken: frozenset[bytes], generator: np.random.Generator) -> Genotype:
        """Return a random network that is not taken, if one is found."""
        for _ in range(_ATTEMPTS):
            genotype = self.context.space.random(generator)
            if self._untried([genotype], taken):
                break
        return genotype

    def _fit(self, history: Sequence[Evaluated]) -> Surrogate:
        numbers = tuple(one.number for one in history)
        if numbers not in self._fitted:
            self._fitted[numbers] = Surrogate(
                self._features(history),
                self._scores(history),
                {name: self._measured(name, history) for name in self._guessed},
                derive_seed(self.context.seed, "surrogate", len(history)),
            )
        return self._fitted[numbers]

    @cached_property
    def _guessed(self) -> tuple[str, ...]:
        """Metrics that have to be predicted, because they cannot be counted."""
        counted = next(filter(None, map(self._counts, self._design)), {})
        is_used = self.config.objective == "score_over_std"
        needed = {self._spread} if is_used and self._spread else set()
        return tuple(sorted((self._bounded | needed) - set(counted)))

    def _measured(self, name: str, history: Sequence[Evaluated]) -> np.ndarray:
        values = np.array([one.metrics.get(name, np.nan) for one in history])
        if np.isnan(values).all():
            raise ConfigError(
                f"strategy analognas: none of the {len(history)} evaluated networks has a "
                f"'{name}', which its bounds or its objective need; have it evaluated, or set "
                "max_avm_drop: null, objective: score"
            )
        return values

    def _scores(self, history: Sequence[Evaluated]) -> np.ndarray:
        return np.array([-self.context.goal.loss(one.metrics) for one in history])

    def _features(self, history: Sequence[Evaluated]) -> np.ndarray:
        return self._table.features(self._table.rows(one.genotype for one in history))

    def _tau(self, surrogate: Surrogate, history: Sequence[Evaluated]) -> float:
        """Return Kendall's tau-b of networks outside the fit; NaN where all are equal."""
        return float(
            kendalltau(surrogate.rank(self._features(history)), self._scores(history)).statistic
        )

    def _judges(self, surrogate: Surrogate) -> SurrogateCriteria:
        drops = [one for one in self.constraints if one.metric == "avm_drop"]
        guessed = [one for one in self.constraints if one.metric in self._guessed]
        return SurrogateCriteria(
            score=partial(self._guessed_score, surrogate),
            drop=partial(self._guessed_violation, surrogate, drops),
            violation=partial(self._guessed_violation, surrogate, guessed),
            count=self._counted_violation,
        )

    def _guessed_score(self, surrogate: Surrogate, rows: np.ndarray) -> np.ndarray:
        features = self._table.features(rows)
        if self.config.objective == "score":
            return surrogate.rank(features)
        assert self._spread is not None
        std = surrogate.metric(self._spread, features)
        return surrogate.score(features) / np.maximum(std, _LEAST_STD)

    def _guessed_violation(
        self, surrogate: Surrogate, constraints: Sequence[Constraint], rows: np.ndarray
    ) -> np.ndarray:
        """Return the sum of predicted violations, shape (n,); 0 where all constraints are met."""
        features = self._table.features(rows)
        total = np.zeros(len(rows))
        for constraint in constraints:
            values = surrogate.metric(constraint.metric, features)
            total += np.maximum(constraint.beyond(values), 0.0)
        return total

    def _counted_violation(self, row: np.ndarray) -> float:
        """Return the sum of violations; 0 where all constraints are met."""
        counted = [one for one in self.constraints if one.metric not in self._guessed]
        if not counted:
            return 0.0
        key = row.tobytes()
        if key not in self._counted:
            if not self._counts_left:
                return math.inf
            self._counts_left -= 1
            counts = self._counts(self._table.genotype(row))
            self._counted[key] = sum(max(one.violation(counts), 0.0) for one in counted)
        return self._counted[key]

    def _counts(self, genotype: Genotype) -> Mapping[str, float]:
        """Return the counted metrics; empty for a network that does not fit the chip or task."""
        try:
            return self.context.count(genotype)
        except AnalogmedError:
            return {}


def _spread_of(name: str) -> str | None:
    """Return the deviation over chips of a mean of which more is better; ``None`` for others."""
    found = find_objective(name, PRIMARY)
    if found is None or found[0].is_lower_better(found[1]):
        return None
    spread = spread_of(found[0])
    return spread.column(found[1]) if spread else None
