"""What a search strategy is: an Optuna sampler made for a space and a goal."""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
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
)
from analogmed.foundation.seeds import derive_seed
from analogmed.foundation.text import nearest
from analogmed.models import Genotype
from analogmed.search.objectives import Goal
from analogmed.search.space.space import Genes, Space

GROUP = "analogmed.search"
"""Entry points of a package that brings strategies of its own."""

METRICS_ATTRIBUTE = "metrics"
"""User attribute of a trial: all that was measured of its network, by name."""

VIOLATIONS_ATTRIBUTE = "violations"
"""User attribute of a trial: violation of each constraint of the goal, 0 or less where kept.

For people who read a study; searches count violations from the metrics.
"""

ERROR_ATTRIBUTE = "error"
"""User attribute of a trial that has failed: why. Without it, its process was ended."""


@dataclass(frozen=True)
class Context:
    """What a strategy may know.

    Attributes:
        space: where it searches.
        goal: what it searches for.
        budget: networks that will be evaluated.
        seed: root of its random draws.
        supernets: run folders of trained supernetworks, by task; empty where none is given.
        count: metrics that need no training (parameters, tiles, latency_ms, energy_mj) of a
            genotype.
    """

    space: Space
    goal: Goal
    budget: int
    seed: int
    count: Callable[[Genotype], Mapping[str, float]]
    supernets: Mapping[str, Path]


Strategy: TypeAlias = Callable[..., BaseSampler]
"""Called with a :class:`Context`, and with its own options by name."""


@dataclass(frozen=True)
class Evaluated:
    """A network that has been evaluated.

    Attributes:
        number: of its trial.
        genotype: the network.
        metrics: what was measured or counted of it.
    """

    number: int
    genotype: Genotype
    metrics: Mapping[str, float]


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """A space as Optuna knows it."""
    return {name: CategoricalDistribution(choices) for name, choices in space.genes.items()}


class Proposing(BaseSampler):
    """An Optuna sampler that proposes whole networks, each from what has been evaluated so far.

    Args:
        context: space, goal and seed.
    """

    def __init__(self, context: Context) -> None:
        self.context = context

    @abstractmethod
    def propose(
        self, history: Sequence[Evaluated], number: int, generator: np.random.Generator
    ) -> Genotype:
        """The network to evaluate next.

        Args:
            history: evaluated networks, in the order of their trials.
            number: of the trial that it is for; others may run at the same time.
            generator: seeded by the search's seed and this number.
        """

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All genes are proposed together."""
        return distributions(self.context.space)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> Genes:
        """Genes of the proposed network."""
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
        """Of genes that another program has added to the study."""
        return RandomSampler().sample_independent(study, trial, param_name, param_distribution)


def history_of(study: Study, space: Space) -> list[Evaluated]:
    """Networks that a study has evaluated, in the order of their trials."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [
        Evaluated(trial.number, space.decode(trial.params), trial.user_attrs[METRICS_ATTRIBUTE])
        for trial in done
    ]


def tried(study: Study, space: Space) -> list[Genotype]:
    """Networks that need not be proposed again: evaluated, refused, in work or failed.

    Not those whose process was ended while it had them in work.
    """
    genes = space.genes.keys()
    return [
        space.decode(trial.params)
        for trial in study.get_trials(deepcopy=False)
        if genes <= trial.params.keys()
        and (trial.state is not TrialState.FAIL or ERROR_ATTRIBUTE in trial.user_attrs)
    ]


_BUILT_IN = {
    "analognas": "analogmed.search.strategies.analognas:analognas",
    "evolution": "analogmed.search.strategies.evolution:evolution",
    "mias": "analogmed.search.strategies.mias:mias",
    "mt_mias": "analogmed.search.strategies.mias:mt_mias",
    "mt_mias_c": "analogmed.search.strategies.mias:mt_mias_c",
    "nsga2": "analogmed.search.strategies.samplers:nsga2",
    "nsga3": "analogmed.search.strategies.samplers:nsga3",
    "random": "analogmed.search.strategies.samplers:random",
    "tpe": "analogmed.search.strategies.samplers:tpe",
}


def strategy_names() -> tuple[str, ...]:
    """Names of the built-in strategies and of installed ones, sorted."""
    return _STRATEGIES.names()


def find_strategy(name: str) -> Strategy:
    """A strategy by name; it refuses options that it does not have, with the nearest one.

    Raises:
        ConfigError: there is none, or several, of this name; or it cannot be loaded.
    """
    return _refusing_unknown_options(name, _STRATEGIES.get(name))


_EXPECTED = "a callable (context, **options) that returns an optuna sampler"


def _called_as_plugin(plugin: EntryPoint) -> Strategy:
    strategy = load_callable(plugin, kind="strategy", expected=_EXPECTED)
    what = described("strategy", plugin)
    if not inspect.signature(strategy).parameters:
        raise ConfigError(f"{what} takes no arguments; expected {_EXPECTED}")

    @wraps(strategy)
    def called(context: Context, **options: Any) -> BaseSampler:
        return call_plugin(
            strategy,
            [context],
            options,
            what=what,
            expected=_EXPECTED,
            returns=BaseSampler,  # type: ignore[type-abstract]
        )

    return called


_STRATEGIES: Registry[Strategy] = Registry(
    "strategy", _BUILT_IN, group=GROUP, expected=_EXPECTED, load=_called_as_plugin
)


def refuse_unknown_options(strategy: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse options that a strategy does not have.

    Args:
        strategy: its name.
        given: names of the options.
        known: those that it has.

    Raises:
        ConfigError: names the first one, and the nearest.
    """
    known = tuple(known)
    for option in given:
        if option not in known:
            meant = nearest(option, known) if known else "it has no options"
            raise ConfigError(f"strategy {strategy}: unknown option '{option}'; {meant}")


def _refusing_unknown_options(name: str, strategy: Strategy) -> Strategy:
    """The strategy; one that takes any option by name has to refuse them itself."""
    parameters = list(inspect.signature(strategy).parameters.values())[1:]  # after the context
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return strategy

    @wraps(strategy)
    def checked(context: Context, **options: Any) -> BaseSampler:
        refuse_unknown_options(name, options, [parameter.name for parameter in parameters])
        return strategy(context, **options)

    return checked
