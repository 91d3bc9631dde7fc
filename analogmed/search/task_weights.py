"""One task of a trained supernetwork, as the strategies see it that search with shared weights."""

from collections.abc import Hashable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol, TypeAlias
from weakref import ReferenceType

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.text import nearest
from analogmed.models import Genotype
from analogmed.models.subnet import Subnet
from analogmed.search.latency import Latencies
from analogmed.search.shared_weights import SharedWeights
from analogmed.search.space import Gene, Space
from analogmed.search.strategy import Context
from analogmed.search.supernet_config import SUPERNET
from analogmed.search.supernet_setup import latencies_of

Options: TypeAlias = Mapping[str, tuple[Gene, ...]]
"""What each gene may be."""


class Weights(Hashable, Protocol):
    """What has to be known of one task of a trained supernetwork; it does not change."""

    @property
    def task(self) -> str:
        """Its name."""

    @property
    def space(self) -> Space:
        """The networks."""

    @property
    def genes(self) -> Options:
        """What each gene may be: of the space, what pruning has left."""

    @property
    def latencies(self) -> Latencies:
        """Times of the operations."""

    @property
    def image_channels(self) -> int:
        """Channels of the task's images."""

    def subnet(self, genotype: Genotype) -> Subnet:
        """A network with its part of the shared weights."""

    def score(self, genotype: Genotype) -> float:
        """How well it does with them; higher is better."""


def alive(weights: ReferenceType[Weights]) -> Weights:
    """Those that a weak reference is to, whose caller has them in use."""
    found = weights()
    if found is None:
        raise ReferenceError("the supernetwork is not in memory any more")
    return found


class TaskWeights:
    """One task of a trained supernetwork.

    Args:
        shared: the supernetwork.
        task: name of the task.
        within: a space that is searched; by default all that the supernetwork holds.

    Raises:
        ConfigError: the supernetwork was not trained for the task, or lacks networks of the space.
    """

    def __init__(self, shared: SharedWeights, task: str, within: Space | None = None) -> None:
        if task not in shared.tasks:
            raise ConfigError(
                f"supernetwork {shared.config.folder}: it was not trained for task '{task}'; "
                f"{nearest(task, shared.tasks)}"
            )
        self._shared, self.task = shared, task
        self.space = within or shared.space
        self.genes = _left(shared, self.space)

    @cached_property
    def latencies(self) -> Latencies:
        """Times of the operations, from where its training took them."""
        shared = self._shared
        return latencies_of(shared.config.latency, shared.space, shared.tasks[self.task])

    @property
    def image_channels(self) -> int:
        """Channels of the task's images."""
        return self._shared.tasks[self.task].in_channels

    def subnet(self, genotype: Genotype) -> Subnet:
        """A network with its part of the shared weights."""
        return self._shared.supernet.subnet(genotype, self.task)

    def score(self, genotype: Genotype) -> float:
        """Mean Dice on validation patients, with the shared weights."""
        return self._shared.score(genotype, self.task)


def weights_of(shared: SharedWeights) -> list[TaskWeights]:
    """Every task of a supernetwork."""
    return [TaskWeights(shared, task) for task in shared.tasks]


def load_weights(context: Context) -> list[TaskWeights]:
    """The tasks of the supernetworks that a search is given.

    Searches of one process share what they have in common: weights and scores of the same run
    folder, as long as its weights are not written anew.

    Raises:
        ConfigError: it is given none; or one is of another space, or task.
        CheckpointError: a run folder holds no trained supernetwork.
    """
    if not context.supernets:
        raise ConfigError(
            "this strategy searches with the weights of a trained supernetwork: train one with "
            "'python -m analogmed.search supernet', and give its run folder by task, for instance "
            "--supernets '{phantom_brain: runs/supernet/phantom_brain-spos}'"
        )
    return [
        _task_weights(folder.resolve(), _written_ns(folder), task, context.space)
        for task, folder in context.supernets.items()
    ]


_KEPT = 16
"""Tasks of supernetworks that stay in memory."""


@lru_cache(_KEPT)
def _task_weights(folder: Path, written_ns: int, task: str, space: Space) -> TaskWeights:
    return TaskWeights(_shared_weights(folder, written_ns), task, space)


@lru_cache(_KEPT)
def _shared_weights(folder: Path, written_ns: int) -> SharedWeights:
    return SharedWeights.load(folder)


def _written_ns(folder: Path) -> int:
    """When the weights of a run folder were written; 0 where there are none."""
    path = folder / SUPERNET
    return path.stat().st_mtime_ns if path.exists() else 0


def _left(shared: SharedWeights, space: Space) -> Options:
    """Of each gene of the space, what pruning has left."""
    held, left = shared.space.genes, dict(shared.choices.genes)
    where = f"supernetwork {shared.config.folder}"
    same = (space.spatial_dims, space.purpose) == (shared.space.spatial_dims, shared.space.purpose)
    found = {}
    for gene, options in space.genes.items():
        missing = [option for option in options if option not in held.get(gene, ())]
        if missing or not same:
            raise ConfigError(
                f"{where} is of another space than the search: it holds {shared.space}, and is to "
                f"hold {space}; search its space, or train one of this space"
            )
        found[gene] = tuple(option for option in options if option in left[gene])
        if not found[gene]:
            raise ConfigError(
                f"{where}: pruning has left no {gene} of {options}, only {left[gene]}; search "
                "with these, or train one with a larger pruning.keep"
            )
    return found
