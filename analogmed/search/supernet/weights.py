"""Trained supernetworks from run folders, and scores of their networks with shared weights."""

from collections.abc import Hashable, Iterable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol
from weakref import ReferenceType

import torch
from safetensors import SafetensorError

from analogmed.data import Task
from analogmed.data.splits import SeenData
from analogmed.foundation.errors import CheckpointError, ConfigError, LeakageError
from analogmed.foundation.settings.paths import read_settings
from analogmed.foundation.text import known_name, nearest
from analogmed.metrics.registry import metric
from analogmed.models import Genotype
from analogmed.models.subnet import Subnet
from analogmed.network.walk import evaluating
from analogmed.search.space.choices import Options
from analogmed.search.space.space import Space
from analogmed.search.strategy import Context
from analogmed.search.supernet.latency import Latencies
from analogmed.search.supernet.network import Supernet
from analogmed.search.supernet.path_sampling import ReducedSpace
from analogmed.search.supernet.pruning import choices_of
from analogmed.search.supernet.settings import SETTINGS, SUPERNET, SupernetConfig
from analogmed.search.supernet.setup import latencies_of, load_tasks, make_supernet
from analogmed.training.state.nested_tensors import read_nested
from analogmed.training.validation import MeanScore


class SharedWeights:
    """A trained supernetwork.

    Scores are computed once and kept in memory. Test patients are never read: weights come from the
    training patients of a task, scores from its validation patients.

    Args:
        config: settings of its training.
        device: device for the computation of scores.

    Attributes:
        config: settings of its training.
        tasks: tasks with their data, by name.
        supernet: shared weights.
        choices: choices of the space that are left after pruning.
    """

    def __init__(self, config: SupernetConfig, *, device: str = "cpu") -> None:
        self.config = config
        self._device = torch.device(device)
        self._scores: dict[tuple[str, Genotype], float] = {}
        self._validations: dict[str, MeanScore] = {}
        self.tasks = {task.name: task for task in load_tasks(config)}
        self.supernet: Supernet = make_supernet(config.space, tuple(self.tasks.values()))
        try:
            content = read_nested(config.path)
            self.supernet.load_state_dict(content["weights"])
            self.choices = choices_of(ReducedSpace.of(config.space), content["blocks"])
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"{config.path}: the weights of a supernetwork cannot be read ({error}); train it "
                "again by the same command with --restart true"
            ) from error
        self.supernet.to(self._device).eval()

    @classmethod
    def load(cls, folder: Path | str, *, device: str = "cpu") -> "SharedWeights":
        """Load the supernetwork of a run folder.

        Raises:
            CheckpointError: the folder contains no completely trained supernetwork, or it is
                damaged.
        """
        folder = Path(folder)
        if not (folder / SUPERNET).exists():
            begun = (folder / SETTINGS).exists()
            raise CheckpointError(
                f"{folder}: no trained supernetwork ({SUPERNET} is missing); "
                + ("give the command that began it again" if begun else "train one")
                + ": analogmed search supernet"
            )
        settings = read_settings(SupernetConfig, folder / SETTINGS, out=folder)
        return cls(settings, device=device)

    @property
    def space(self) -> Space:
        """Search space of its networks."""
        return self.config.space

    @cached_property
    def task(self) -> Task:
        """Data of its task; with several tasks, of the first."""
        return next(iter(self.tasks.values()))

    def score(self, genotype: Genotype, task: str | None = None) -> float:
        """Return the mean of the task's primary metric on validation patients, with these weights.

        Args:
            genotype: genotype of the space.
            task: name of one of several tasks; the first by default.

        Raises:
            ConfigError: the network is not of the space, or the task is unknown.
        """
        name = task or self.task.name
        if (name, genotype) not in self._scores:
            network = self.supernet.subnet(genotype, name)
            with evaluating(network), torch.no_grad():
                self._scores[name, genotype] = self._validation(name)([network])
        return self._scores[name, genotype]

    def _validation(self, name: str) -> MeanScore:
        if name not in self._validations:
            self._validations[name] = MeanScore(
                self.tasks[name],
                self.tasks[name].validation,
                limit_bytes=self.config.loading.cache_bytes,
                batch_size=self.config.batch_size,
                device=self._device,
            )
        return self._validations[name]


def refuse_leakage(folders: Iterable[Path], task: Task) -> None:
    """Raise an error for supernetworks that were trained on test patients of a task.

    Args:
        folders: run folders of supernetworks.
        task: task with the split that the winner of a search will be tested with.

    Raises:
        LeakageError: names the supernetwork and its patients.
        CheckpointError: a folder contains no trained supernetwork.
    """
    for folder in folders:
        for own in SharedWeights.load(folder).tasks.values():
            data = SeenData.of(own.name, (*own.train, *own.validation))
            if seen := sorted(data.tested_in(task)):
                raise LeakageError(
                    f"{folder}: the supernetwork has seen {len(seen)} of the patients that task "
                    f"{task.name} keeps for testing ({', '.join(seen[:3])}); give both the same "
                    f"task settings, those of {folder / SETTINGS}"
                )


class Weights(Hashable, Protocol):
    """Interface of one task of a trained supernetwork; immutable."""

    @property
    def task(self) -> str:
        """Name of the task."""

    @property
    def space(self) -> Space:
        """Search space of the networks."""

    @property
    def genes(self) -> Options:
        """Options of each gene of the space that are left after pruning."""

    @property
    def latencies(self) -> Latencies:
        """Latencies of the operations."""

    @property
    def image_channels(self) -> int:
        """Channels of the task's images."""

    def subnet(self, genotype: Genotype) -> Subnet:
        """Return a network with its part of the shared weights."""

    def score(self, genotype: Genotype) -> float:
        """Return the score of a network with the shared weights; higher is better."""


def alive(weights: ReferenceType[Weights]) -> Weights:
    """Return the target of a weak reference that the caller keeps in use."""
    found = weights()
    if found is None:
        raise ReferenceError("the supernetwork is not in memory any more")
    return found


class TaskWeights:
    """One task of a trained supernetwork.

    Args:
        shared: the supernetwork.
        task: name of the task.
        within: space that is searched; by default the whole space of the supernetwork.

    Raises:
        ConfigError: the supernetwork was not trained for the task, or lacks networks of the space;
            lower values of the task's primary metric are better.
    """

    def __init__(self, shared: SharedWeights, task: str, within: Space | None = None) -> None:
        task = known_name(task, shared.tasks)
        if task not in shared.tasks:
            raise ConfigError(
                f"supernetwork {shared.config.folder}: it was not trained for task '{task}'; "
                f"{nearest(task, shared.tasks)}"
            )
        score = metric(shared.tasks[task].primary_metric)
        if score.direction == "lower":
            raise ConfigError(
                f"supernetwork {shared.config.folder}: task '{task}' scores networks by "
                f"{score.name}, whose lower values are better; expected a primary metric whose "
                "higher values are better. Search with a strategy that trains each network."
            )
        self._shared, self.task = shared, task
        self.space = within or shared.space
        self.genes = _left(shared, self.space)

    @cached_property
    def latencies(self) -> Latencies:
        """Latencies of the operations, from the same source as in its training."""
        shared = self._shared
        return latencies_of(shared.config.latency, shared.space, shared.tasks[self.task])

    @property
    def image_channels(self) -> int:
        """Channels of the task's images."""
        return self._shared.tasks[self.task].in_channels

    def subnet(self, genotype: Genotype) -> Subnet:
        """Return a network with its part of the shared weights."""
        return self._shared.supernet.subnet(genotype, self.task)

    def score(self, genotype: Genotype) -> float:
        """Return the mean of the primary metric on validation patients, with these weights."""
        return self._shared.score(genotype, self.task)


def weights_of(shared: SharedWeights) -> list[TaskWeights]:
    """Return every task of a supernetwork."""
    return [TaskWeights(shared, task) for task in shared.tasks]


def load_weights(context: Context) -> list[TaskWeights]:
    """Load the tasks of the supernetworks of a search.

    Searches of one process share weights and scores of the same run folder, as long as its weights
    are not rewritten.

    Raises:
        ConfigError: there is no supernetwork, or one is of another space or task.
        CheckpointError: a run folder contains no trained supernetwork.
    """
    if not context.supernets:
        raise ConfigError(
            "this strategy searches with the weights of a trained supernetwork: train one with "
            "'analogmed search supernet', and give its run folder by task, for instance "
            "--supernets '{phantom_brain: runs/supernet/phantom_brain-spos}'"
        )
    return [
        _task_weights(folder.resolve(), _written_ns(folder), task, context.space)
        for task, folder in context.supernets.items()
    ]


_KEPT = 16
"""Number of supernetwork tasks that stay in memory."""


@lru_cache(_KEPT)
def _task_weights(folder: Path, written_ns: int, task: str, space: Space) -> TaskWeights:
    return TaskWeights(_shared_weights(folder, written_ns), task, space)


@lru_cache(_KEPT)
def _shared_weights(folder: Path, written_ns: int) -> SharedWeights:
    return SharedWeights.load(folder)


def _written_ns(folder: Path) -> int:
    """Return the time at which the weights of a run folder were written; 0 if there are none."""
    path = folder / SUPERNET
    return path.stat().st_mtime_ns if path.exists() else 0


def _left(shared: SharedWeights, space: Space) -> Options:
    """Return the options of each gene of the space that are left after pruning."""
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
