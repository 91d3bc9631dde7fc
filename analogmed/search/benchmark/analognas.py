"""Adapter for IBM's analog-nas: an evaluator and a space with the interface of its optimizer."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np

from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.models import Genotype
from analogmed.search.evaluator import Evaluator
from analogmed.search.space.space import Gene, Genes, Space

_PERCENT = 100.0


class Architecture(dict[str, int]):
    """A network as analog-nas describes it: a number for each gene, in the order of the space.

    Depth, width, growth and kernels are themselves; blocks and places are counted from 0 in the
    order of the space. The optimizer sorts pairs of score and architecture, so that those of equal
    score are compared by their numbers.
    """

    def __lt__(self, other: Mapping[str, int]) -> bool:
        return tuple(self.values()) < tuple(other.values())


Boxed: TypeAlias = Sequence[Mapping[str, int]]
"""A list with one architecture, as the optimizer passes it."""


def to_architecture(genotype: Genotype, space: Space) -> Architecture:
    """Return a network's architecture; irrelevant genes have their first value.

    Raises:
        ConfigError: the network is not of the space.
    """
    genes = space.encode(genotype)
    return Architecture(
        {
            name: value if isinstance(value, int) else space.genes[name].index(value)
            for name, value in genes.items()
        }
    )


def to_genotype(architecture: Mapping[str, int], space: Space) -> Genotype:
    """Return the network of an architecture.

    Raises:
        ConfigError: a gene is missing, unknown, or has a value that the space does not have.
    """
    genes: Genes = {}
    for name, number in architecture.items():
        if name not in space.genes:
            raise ConfigError(
                f"architecture: unknown gene '{name}'; a space of analogmed has "
                f"{', '.join(space.genes)}"
            )
        genes[name] = _value(name, int(number), space.genes[name])
    return space.decode(genes)


class AnalogNASSpace:
    """A space with the interface of analog-nas' optimizer (``run(cs)``).

    Args:
        space: search space of the networks.
        seed: seed of the draws.
    """

    def __init__(self, space: Space, seed: int = 0) -> None:
        self.space = space
        self._generator = np.random.default_rng(seed)

    def sample_arch_uniformly(self, n: int) -> list[Architecture]:
        """Return random architectures; every gene is uniform and independent."""
        return [to_architecture(self.space.random(self._generator), self.space) for _ in range(n)]

    def compute_cs_size(self) -> int:
        """Return the number of gene combinations."""
        return self.space.size


class AnalogNASEvaluator:
    """An evaluator with the interface of analog-nas' optimizer (``EAOptimizer(surrogate, ...)``).

    It wraps any evaluator of this package: :class:`analogmed.search.evaluator.ChipEvaluator`, which
    trains networks and evaluates them on chips, or a benchmark table.

    Scores and variations are in per cent, as are the optimizer's: 1-day Dice, and the loss of Dice
    over a month, which is positive where Dice falls and is compared with ``T_AVM``. A network whose
    training diverges has the lowest score and an infinite variation.

    Args:
        evaluator: evaluator of networks.
        space: search space of the architectures.
        folder: output folder, with a subfolder for each network, by its key.

    Source: Benmeziane et al. 2023, arXiv:2305.10459; github.com/IBM/analog-nas.
    """

    def __init__(self, evaluator: Evaluator, space: Space, folder: Path) -> None:
        self.evaluator = evaluator
        self.space = space
        self.folder = folder
        self._known: dict[Genotype, tuple[float, float]] = {}

    def best(self, t_avm: float = math.inf) -> tuple[Architecture, float, float]:
        """Return the best of all measured architectures.

        The optimizer's own result may differ: without batches it returns the last mutant of the
        best iteration together with the score of another one, and it does not apply ``T_AVM`` to
        mutants.

        Args:
            t_avm: largest variation, in per cent.

        Returns:
            architecture, score and variation, both in per cent.

        Raises:
            ConfigError: no measured architecture meets ``t_avm``.
        """
        kept = [(genotype, found) for genotype, found in self._known.items() if found[1] <= t_avm]
        kept = [(genotype, found) for genotype, found in kept if math.isfinite(found[0])]
        if not kept:
            raise ConfigError(
                f"t_avm: none of the {len(self._known)} architectures measured has a variation of "
                f"at most {t_avm}; expected one or more. Query architectures first, or raise t_avm"
            )
        genotype, (score, variation) = max(kept, key=lambda one: one[1][0])
        return to_architecture(genotype, self.space), score, variation

    def query(self, architecture: Boxed) -> tuple[float, float]:
        """Return score and variation of one architecture, measured once.

        Args:
            architecture: list with one architecture.

        Returns:
            1-day Dice, and the loss of Dice over a month; both in per cent.

        Raises:
            ConfigError: it is not of the space, or the evaluator does not measure these metrics.
        """
        if len(architecture) != 1:
            raise ConfigError(f"query: expected a list of one architecture, found {architecture!r}")
        genotype = to_genotype(architecture[0], self.space)
        if genotype not in self._known:
            self._known[genotype] = self._measure(genotype)
        return self._known[genotype]

    def query_pop(
        self,
        population: Sequence[Boxed],
        should_bypass_eval: bool = False,
        bypass_threshold: float = 0.0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and variations of a population.

        Args:
            population: lists with one architecture each.
            should_bypass_eval: no effect, because score and variation come from one measurement.
            bypass_threshold: no effect.

        Returns:
            scores and variations in per cent, each float64 of shape (n,).

        Raises:
            ConfigError: as :meth:`query`.
        """
        found = np.array([self.query(architecture) for architecture in population], dtype=float)
        scores, variations = found.reshape(-1, 2).T
        return scores, variations

    def _measure(self, genotype: Genotype) -> tuple[float, float]:
        try:
            metrics = self.evaluator.evaluate(genotype, self.folder / genotype.key)
        except NonFiniteError:
            return -math.inf, math.inf
        for name in ("dice_1d", "avm_drop"):
            if name not in metrics:
                raise ConfigError(
                    f"analog-nas needs '{name}' of each network; of {genotype} the evaluator "
                    f"measured {', '.join(metrics)}"
                )
        return _PERCENT * metrics["dice_1d"], _PERCENT * metrics["avm_drop"]


def _value(name: str, number: int, choices: Sequence[Gene]) -> Gene:
    if all(isinstance(choice, int) for choice in choices):
        return number
    if not 0 <= number < len(choices):
        raise ConfigError(f"gene '{name}': expected 0 to {len(choices) - 1}, found {number}")
    return choices[number]
