"""Strategies based on Optuna's samplers: random search, TPE, NSGA-II and NSGA-III."""

import copy
import math
import warnings
from collections.abc import Callable, Container, Sequence
from typing import Any, TypeAlias

from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    NSGAIIISampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.registry import refuse_unknown_options
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.settings.checks import require_at_least_one, require_whole
from analogmed.search.strategy import METRICS_ATTRIBUTE, Context

Count: TypeAlias = Callable[[FrozenTrial], Sequence[float]]
"""Function that returns the violation of each constraint by a trial."""

_SMALLEST_POPULATION = 6
_PROBABILITIES = ("mutation_prob", "crossover_prob", "swapping_prob")


def random(context: Context) -> BaseSampler:
    """Return random search: every gene is drawn uniformly and independently."""
    return Reseeded(context.seed, lambda seed: RandomSampler(seed=seed))


def tpe(context: Context, *, startup: int | None = None, candidates: int = 24) -> BaseSampler:
    """Return a tree-structured Parzen estimator.

    With one objective it models all genes together, with several each gene alone, as Optuna's
    sampler chooses.

    Args:
        context: context of the search.
        startup: number of random networks at the start; by default a quarter of the budget, 2 to
            10.
        candidates: number of candidates for each gene's value.

    Raises:
        ConfigError: fewer than one of either.

    Source: Bergstra et al. 2011, Algorithms for hyper-parameter optimization.
    """
    first = min(10, max(2, context.budget // 4)) if startup is None else startup
    require_at_least_one("startup", first)
    require_at_least_one("candidates", candidates)
    return Reseeded(
        context.seed,
        lambda seed: TPESampler(
            seed=seed,
            n_startup_trials=first,
            n_ei_candidates=candidates,
            constraints_func=_constraints(context),
        ),
        _constraints(context),
    )


def nsga2(context: Context, *, population: int | None = None, **options: Any) -> BaseSampler:
    """Return NSGA-II: evolution by domination rank and crowding distance.

    Args:
        context: context of the search.
        population: networks of a generation; by default a sixth of the budget, 6 to 50.
        **options: ``mutation_prob``, ``crossover_prob``, ``swapping_prob`` of Optuna's sampler.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Source: Deb et al. 2002, doi:10.1109/4235.996017.
    """
    return _genetic("nsga2", NSGAIISampler, context, population, options)


def nsga3(context: Context, *, population: int | None = None, **options: Any) -> BaseSampler:
    """Return NSGA-III: NSGA-II with reference directions, for three objectives and more.

    Args:
        context: context of the search.
        population: networks of a generation; by default a sixth of the budget, 6 to 50.
        **options: those of :func:`nsga2`, and ``dividing_parameter``, the number of parts into
            which each objective is divided by the reference directions.

    Raises:
        ConfigError: an option is unknown or out of its range.

    Source: Deb, Jain 2014, doi:10.1109/TEVC.2013.2281535.
    """
    return _genetic("nsga3", NSGAIIISampler, context, population, options)


class Reseeded(BaseSampler):
    """Sampler whose draws for a trial depend only on the seed, the trial's number and the history.

    Optuna's samplers carry one stream of random numbers from trial to trial, so that a resumed
    search, or one of several processes, would have different draws. Here each trial has a separate
    sampler; persistent state is stored in the study.

    Args:
        seed: root of the draws.
        make: function that makes the sampler from a 32-bit seed.
        count: violations of a trial, where there are constraints.
    """

    def __init__(
        self, seed: int, make: Callable[[int], BaseSampler], count: Count | None = None
    ) -> None:
        self._seed = seed
        self._make = make
        self._count = count
        self._asked: dict[int, BaseSampler] = {}
        self._sampler(0)  # raises for wrong options now rather than at the first trial

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Delegate to the trial's sampler."""
        return self._of(trial).infer_relative_search_space(self._seen(study), trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Delegate to the trial's sampler."""
        return self._of(trial).sample_relative(self._seen(study), trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Delegate to the trial's sampler."""
        return self._of(trial).sample_independent(
            self._seen(study), trial, param_name, param_distribution
        )

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Delegate to the trial's sampler."""
        self._of(trial).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Delegate to the trial's sampler; another process may have created the trial."""
        self._of(trial).after_trial(study, trial, state, values)
        del self._asked[trial.number]

    def _seen(self, study: Study) -> Study:
        return study if self._count is None else _Recounted(study, self._count)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._asked:
            seed = derive_seed(self._seed, "strategy", trial.number) % 2**32
            self._asked[trial.number] = self._sampler(seed)
        return self._asked[trial.number]

    def _sampler(self, seed: int) -> BaseSampler:
        with warnings.catch_warnings():
            # violations are a user attribute, so that a trial is readable without the sampler
            warnings.filterwarnings("ignore", message=".*constraints_func", category=FutureWarning)
            warnings.simplefilter("ignore", ExperimentalWarning)
            return self._make(seed)


class _Recounted(Study):
    """Study whose trials have constraint violations by the current definition.

    Optuna stores violations with a trial; those of an older version may be in other units.
    """

    def __init__(self, study: Study, count: Count) -> None:
        vars(self).update(vars(study))
        self._count = count

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [self._recounted(t) for t in super()._get_trials(deepcopy, states, use_cache)]

    def _recounted(self, trial: FrozenTrial) -> FrozenTrial:
        if _KEPT not in trial.system_attrs:
            return trial
        trial = copy.copy(trial)
        trial.system_attrs = {**trial.system_attrs, _KEPT: self._count(trial)}
        return trial


_KEPT = "constraints"  # Optuna's name of them


def _genetic(
    name: str,
    kind: type[NSGAIISampler] | type[NSGAIIISampler],
    context: Context,
    population: int | None,
    options: dict[str, Any],
) -> BaseSampler:
    own = ("dividing_parameter",) if kind is NSGAIIISampler else ()
    refuse_unknown_options(f"strategy {name}", options, ("population", *_PROBABILITIES, *own))
    if population is None:
        population = min(50, max(_SMALLEST_POPULATION, context.budget // 6))
    require_whole("population", population, least=2)

    def make(seed: int) -> BaseSampler:
        return kind(
            population_size=population,
            seed=seed,
            constraints_func=_constraints(context),
            **options,
        )

    try:
        return Reseeded(context.seed, make, _constraints(context))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strategy {name}: {error}") from error


def _constraints(context: Context) -> Count | None:
    """Return the violations by the metrics of a trial; infinite without metrics."""
    goal = context.goal

    def count(trial: FrozenTrial) -> Sequence[float]:
        if METRICS_ATTRIBUTE not in trial.user_attrs:
            return (math.inf,) * len(goal.constraints)
        return goal.known_violations(trial.user_attrs[METRICS_ATTRIBUTE])

    return count if goal.constraints else None
