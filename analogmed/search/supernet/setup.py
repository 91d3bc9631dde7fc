"""Setup of a supernetwork's training before its first step: data, weights, latencies."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest

import numpy as np
import torch
from torch import Tensor, nn

from analogmed.data import Task
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.seeds import derive_seed
from analogmed.hardware import load_profile
from analogmed.models import Genotype
from analogmed.search.space.fit import check_space_fits
from analogmed.search.space.space import Space
from analogmed.search.supernet.architecture_weights import ArchitectureWeights
from analogmed.search.supernet.latency import Latencies, latencies, of_profile, of_table, table_for
from analogmed.search.supernet.network import Supernet
from analogmed.search.supernet.path_sampling import ReducedSpace, extreme, paths_of_step
from analogmed.search.supernet.settings import LatencyConfig, SupernetConfig
from analogmed.training import TrainConfig
from analogmed.training.distributed import Ranks
from analogmed.training.losses import Loss, make_loss
from analogmed.training.preparation import Setup, make_sampler
from analogmed.training.validation import MeanScore


@dataclass(frozen=True)
class SampledSubnet:
    """A network of a step.

    Attributes:
        genotype: genotype of the network.
        gates: gates of the gumbel rule.
    """

    genotype: Genotype
    gates: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class SupernetTask:
    """One task of a supernetwork.

    Attributes:
        run: data and settings.
        loss: loss function of a batch.
        validation: mean of its primary metric over its validation patients.
    """

    run: Setup
    loss: Loss
    validation: MeanScore


@dataclass(frozen=True)
class SupernetSetup:
    """A supernetwork's training before its first step.

    Attributes:
        config: settings of the training.
        ranks: processes that share the training.
        supernet: shared weights.
        model: all trainable parameters.
        materials: tasks of the supernetwork.
        latencies: latencies of the operations; ``None`` if neither loss nor pruning uses them.
    """

    config: SupernetConfig
    ranks: Ranks
    supernet: Supernet
    model: nn.ModuleDict
    materials: tuple[SupernetTask, ...]
    latencies: Latencies | None

    @property
    def batches(self) -> int:
        """Number of batches of all tasks in an epoch."""
        return sum(len(material.run.sampler) for material in self.materials)

    def epoch(self, number: int) -> Iterator[tuple[SupernetTask, Tensor, Tensor]]:
        """Yield the batches of one epoch, alternating between the tasks that have batches left."""
        samplers = [material.run.sampler.epoch(number) for material in self.materials]
        for batches in zip_longest(*samplers):
            for material, batch in zip(self.materials, batches, strict=True):
                if batch is not None:
                    images, labels = map(material.run.to_device, batch)
                    yield material, images, labels

    def paths(self, choices: ReducedSpace, step: int) -> list[SampledSubnet]:
        """Return the networks of a step."""
        n, seed = self.config.paths, self.config.seed
        if self.config.rule == "gumbel":
            architecture = self.model["architecture"]
            assert isinstance(architecture, ArchitectureWeights)
            generator = np.random.default_rng(derive_seed(seed, "paths", step))
            return [SampledSubnet(*architecture.draw(choices, generator)) for _ in range(n)]
        drawn = paths_of_step(self.config.rule, choices, n=n, seed=seed, step=step)
        return [SampledSubnet(genotype) for genotype in drawn]

    def expected_latency(self, choices: ReducedSpace, paths: list[SampledSubnet]) -> Tensor:
        """Return T of the loss, in units of the slowest path; 0 if latencies are not used."""
        if self.latencies is None:
            return torch.zeros(())
        if self.config.rule == "gumbel":
            architecture = self.model["architecture"]
            assert isinstance(architecture, ArchitectureWeights)
            return architecture.expected_share(choices, self.latencies)
        return torch.tensor(self.latencies.share(path.genotype for path in paths))

    @cached_property
    def probes(self) -> tuple[Genotype, ...]:
        """Networks whose scores make up the validation score: the largest, and random ones."""
        choices = ReducedSpace.of(self.config.space)
        return (
            extreme(choices, largest=True),
            *fixed_networks(self.config, self.config.probes - 1),
        )

    @cached_property
    def traced(self) -> tuple[Genotype, ...]:
        """Networks whose scores are traced."""
        return fixed_networks(self.config, self.config.trace)


def set_up_supernet(config: SupernetConfig, ranks: Ranks) -> SupernetSetup:
    """Load the data and create the weights.

    Raises:
        ConfigError: settings that do not fit each other, or a task.
        DataError: a task has no training or validation case.
    """
    ranks.share_of(config.batch_size)
    tasks = load_tasks(config)
    torch.manual_seed(derive_seed(config.seed, "initial weights"))
    supernet = make_supernet(config.space, tasks)
    parts: dict[str, nn.Module] = {"supernet": supernet}
    if config.rule == "gumbel":
        parts["architecture"] = ArchitectureWeights(config.space, config.loss.temperature)
    device = ranks.device(config.device)
    model = nn.ModuleDict(parts).to(device)
    materials = tuple(
        _material(config.training(given), task, model, device, ranks)
        for given, task in zip(config.tasks, tasks, strict=True)
    )
    found = None
    if config.loss.latency or config.pruning.every:
        found = _latencies(config.latency, config.space, tasks[0], ranks)
    return SupernetSetup(config, ranks, supernet, model, materials, found)


def load_tasks(config: SupernetConfig) -> tuple[Task, ...]:
    """Load the tasks of a supernetwork.

    Raises:
        ConfigError: one does not fit the space; two have the same name, or different primary
            metrics.
        DataError: one has no training or validation case.
    """
    tasks = tuple(given.load() for given in config.tasks)
    for task in tasks:
        check_space_fits(config.space, task)
        for name, cases in (("training", task.train), ("validation", task.validation)):
            if not cases:
                raise DataError(f"task {task.name} has no {name} case; change task.shares")
    names = [task.name for task in tasks]
    if len(set(names)) < len(names):
        raise ConfigError(f"more_tasks: a task is listed twice: {', '.join(names)}")
    metrics = sorted({task.primary_metric for task in tasks})
    if len(metrics) > 1:
        raise ConfigError(
            f"more_tasks: expected tasks with one primary metric, because their scores are "
            f"averaged, got {', '.join(metrics)}. Train one supernetwork per metric."
        )
    return tasks


def make_supernet(space: Space, tasks: tuple[Task, ...]) -> Supernet:
    """Return untrained shared weights of tasks."""
    return Supernet(
        space,
        {task.name: task.in_channels for task in tasks},
        {task.name: task.out_channels for task in tasks},
    )


def fixed_networks(config: SupernetConfig, n: int) -> tuple[Genotype, ...]:
    """Return different random networks of a space, the same for every training with the same seed.

    For a space with fewer networks, return those that a limited number of draws finds.
    """
    generator = np.random.default_rng(derive_seed(config.seed, "fixed networks"))
    found: dict[Genotype, None] = {}
    for _ in range(_DRAWS * n):
        if len(found) == n:
            break
        found[config.space.random(generator)] = None
    return tuple(found)


_DRAWS = 100


def _material(
    config: TrainConfig, task: Task, model: nn.Module, device: torch.device, ranks: Ranks
) -> SupernetTask:
    sampler = make_sampler(config, task, ranks)
    patients = {case.patient_id for case in (*task.train, *task.validation)}
    validation = MeanScore(
        task,
        task.validation,
        limit_bytes=config.loading.cache_bytes,
        batch_size=config.batch_size,
        device=device,
    )
    run = Setup(config, ranks, device, task, tuple(sorted(patients)), model, None, sampler)
    return SupernetTask(
        run, make_loss(task, config.loss, class_shares=sampler.class_shares), validation
    )


def latencies_of(config: LatencyConfig, space: Space, task: Task) -> Latencies:
    """Return the latencies of the operations, from a table of this machine, if given, or a profile.

    Args:
        config: source of the latencies.
        space: search space with the operations.
        task: task with the images.
    """
    shape = (task.in_channels, *task.window)
    if config.table is not None:
        return latencies(space, shape, of_table(table_for(space, shape, config.table)))
    return latencies(space, shape, of_profile(load_profile(config.profile), config.level))


def _latencies(config: LatencyConfig, space: Space, task: Task, ranks: Ranks) -> Latencies:
    """Return the same; the first process measures a missing table."""
    if config.table is not None:
        if ranks.is_first:
            table_for(space, (task.in_channels, *task.window), config.table)
        ranks.wait()
    return latencies_of(config, space, task)
