"""Search strategies: Optuna samplers for a space and a goal, and their registry."""

import inspect
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, wraps
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.registry import (
    Registry,
    call_plugin,
    described,
    load_callable,
    refuse_unknown_options,
)
from analogmed.foundation.seeds import derive_seed
from analogmed.models import Genotype
from analogmed.search.objectives import Goal
from analogmed.search.space.space import Genes, Space
from analogmed.search.strategy_names import BUILT_IN, GROUP
from analogmed.search.strategy_names import strategy_names as strategy_names

METRICS_ATTRIBUTE = "metrics"
"""User attribute of a trial: all metrics of its network, by name."""

VIOLATIONS_ATTRIBUTE = "violations"
"""User attribute of a trial: violation of each constraint of the goal, 0 or less where it is met.

It is for people who read a study; searches compute violations from the metrics.
"""

ERROR_ATTRIBUTE = "error"
"""User attribute of a failed trial: the reason. It is absent if the process was terminated."""


@dataclass(frozen=True)
class Context:
    """Inputs of a strategy.

    Attributes:
        space: search space.
        goal: objectives and constraints.
        budget: number of networks that will be evaluated.
        seed: root of the strategy's random draws.
        supernets: run folders of trained supernetworks, by task; empty where none is given.
        count: function that returns the metrics of a genotype that need no training (parameters,
            tiles, latency_ms, energy_mj).
    """

    space: Space
    goal: Goal
    budget: int
    seed: int
    count: Callable[[Genotype], Mapping[str, float]]
    supernets: Mapping[str, Path]


Strategy: TypeAlias = Callable[..., BaseSampler]
"""Type of a strategy: a callable that takes a :class:`Context` and its own options by name."""


@dataclass(frozen=True)
class Evaluated:
    """A network that has been evaluated.

    Attributes:
        number: number of its trial.
        genotype: genotype of the network.
        metrics: measured and counted metrics, by name.
    """

    number: int
    genotype: Genotype
    metrics: Mapping[str, float]


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return a space as Optuna distributions."""
    return {name: CategoricalDistribution(choices) for name, choices in space.genes.items()}


class GenotypeSampler(BaseSampler):
    """Optuna sampler that proposes whole networks, based on the results so far.

    Args:
        context: space, goal and seed.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def propose(
        self, history: Sequence[Evaluated], number: int, generator: np.random.Generator
    ) -> Genotype:
        """Return the network to evaluate next.

        Args:
            history: evaluated networks, in the order of their trials.
            number: number of the network's trial; other trials may run at the same time.
            generator: generator seeded by the search's seed and this number.
        """

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all genes, which are proposed together."""
        return distributions(self.context.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Genes:
        """Return the genes of the proposed network."""
        seed = derive_seed(self.context.seed, "strategy", trial.number)
        generator = np.random.default_rng(seed)
        genotype = self.propose(history_of(study, self.context.space), trial.number, generator)
        return self.context.space.encode(genotype)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return a random value of a gene that another program has added to the study."""
        return RandomSampler().sample_independent(study, trial, param_name, param_distribution)


def history_of(study: Study, space: Space) -> list[Evaluated]:
    """Return the networks that a study has evaluated, in the order of their trials."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [
        Evaluated(trial.number, space.decode(trial.params), trial.user_attrs[METRICS_ATTRIBUTE])
        for trial in done
    ]


def tried(study: Study, space: Space) -> list[Genotype]:
    """Return networks that need not be proposed again: evaluated, rejected, running or failed.

    Networks whose process was terminated during their evaluation are not included.
    """
    genes = space.genes.keys()
    return [
        space.decode(trial.params)
        for trial in study.get_trials(deepcopy=False)
        if genes <= trial.params.keys()
        and (trial.state is not TrialState.FAIL or ERROR_ATTRIBUTE in trial.user_attrs)
    ]


def find_strategy(name: str) -> Strategy:
    """Return a strategy by name, with a check of its options.

    For an unknown option, it raises an error that names the nearest one.

    Raises:
        ConfigError: there is none, or several, of this name; or it cannot be loaded.
    """
    return _refusing_unknown_options(name, _STRATEGIES.get(name))


_EXPECTED = "a callable (context, **options) that returns an optuna sampler"
_PROPOSED = "propose (history, number, generator) that returns an analogmed.models.Genotype"


def _called_as_plugin(plugin: EntryPoint) -> Strategy:
    strategy = load_callable(plugin, kind="strategy", expected=_EXPECTED)
    what = described("strategy", plugin)
    if not inspect.signature(strategy).parameters:
        raise ConfigError(f"{what} takes no arguments; expected {_EXPECTED}")

    @wraps(strategy)
    def called(context: Context, **options: Any) -> BaseSampler:
        sampler = call_plugin(
            strategy,
            [context],
            options,
            what=what,
            expected=_EXPECTED,
            returns=BaseSampler,  # type: ignore[type-abstract]
        )
        if isinstance(sampler, GenotypeSampler):
            propose = partial(_proposed, sampler.propose, what)
            sampler.propose = propose  # type: ignore[method-assign]
        return sampler

    return called


def _proposed(propose: Callable[..., Genotype], what: str, *arguments: Any) -> Genotype:
    """Return the network that a plugin's sampler proposes; errors name its package."""
    return call_plugin(
        propose, arguments, what=f"{what}: propose", expected=_PROPOSED, returns=Genotype
    )


_STRATEGIES: Registry[Strategy] = Registry(
    "strategy", BUILT_IN, group=GROUP, expected=_EXPECTED, load=_called_as_plugin
)


def _refusing_unknown_options(name: str, strategy: Strategy) -> Strategy:
    """Return the strategy with a check of its options.

    A strategy that takes any option by name has to check its options itself.
    """
    parameters = list(inspect.signature(strategy).parameters.values())[1:]  # after the context
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return strategy

    known = [parameter.name for parameter in parameters]

    @wraps(strategy)
    def checked(context: Context, **options: Any) -> BaseSampler:
        refuse_unknown_options(f"strategy {name}", options, known)
        return strategy(context, **options)

    return checked


def __getattr__(name: str) -> type[GenotypeSampler]:
    if name != "Proposing":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    warnings.warn(
        f"{__name__}.Proposing is called GenotypeSampler now", DeprecationWarning, stacklevel=2
    )
    return GenotypeSampler
