"""Training of a supernetwork."""

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import torch
from torch import Tensor

from analogmed.execution.run_folder import WrittenFiles
from analogmed.foundation.files import write_atomically
from analogmed.models import Genotype
from analogmed.network.walk import evaluating
from analogmed.search.supernet.path_sampling import ReducedSpace
from analogmed.search.supernet.pruning import Pruning
from analogmed.search.supernet.settings import SETTINGS, SupernetConfig
from analogmed.search.supernet.setup import (
    SampledSubnet,
    SupernetSetup,
    SupernetTask,
    set_up_supernet,
)
from analogmed.tables.search import PRUNING, TRACE
from analogmed.tables.table import Table
from analogmed.training.distributed import Ranks, joined
from analogmed.training.learner import StepOptimizer
from analogmed.training.log import make_title
from analogmed.training.loop import Trainable, fit, is_due
from analogmed.training.losses import distillation
from analogmed.training.state.folder import TrainingFolder, one_run
from analogmed.training.state.nested_tensors import write_nested

Batch: TypeAlias = tuple[SupernetTask, Tensor, Tensor]
"""Task, images and labels of a step."""


@torch.random.fork_rng(devices=())
def train_supernet(config: SupernetConfig) -> Path:
    """Train the shared weights of a space.

    In each step, networks drawn by the sampling rule are trained on one batch with their parts of
    the weights; their gradients are combined in one update. The run folder contains the trained
    weights, the last two training states, a log, and the pruned operations. An interrupted run is
    resumed after its last epoch, with the results of an uninterrupted run.

    Args:
        config: settings of the run.

    Returns:
        the file of the trained weights; :class:`analogmed.search.supernet.weights.SharedWeights`
        reads its folder.

    Raises:
        ConfigError: settings that do not fit each other or a task, or differ from those of the run
            in the folder; a folder that cannot be written.
        DataError: a task has no training or validation case.
        NonFiniteError: the loss became NaN or Inf; names epoch and batch.
    """
    with joined(config.device) as ranks, one_run(config.folder, ranks, SETTINGS):
        return _train(config, ranks)


def _train(config: SupernetConfig, ranks: Ranks) -> Path:
    folder = TrainingFolder(
        config, ranks, SETTINGS, written=(config.path.name, TRACE.file, PRUNING.file)
    )
    if ranks.is_first and config.restart:
        WrittenFiles(config.folder).remove(config.path.name)
    if len(folder.history) >= config.epochs and config.path.exists():
        return config.path
    _warn_of_one_path(config)
    setup = set_up_supernet(config, ranks)
    folder.require_patients(material.run.task for material in setup.materials)
    run = SupernetTraining(setup)
    fit(run, folder)
    run.write_weights()
    ranks.wait()  # for the first one, which writes
    return config.path


def _warn_of_one_path(config: SupernetConfig) -> None:
    """Warn if pruning leaves one operation per level before the training ends."""
    choices = ReducedSpace.of(config.space)
    epoch = config.pruning.one_path_after(max(map(len, choices.blocks)))
    if epoch is not None and epoch < config.epochs:
        warnings.warn(
            f"pruning: every level keeps one operation after epoch {epoch} of {config.epochs}, so "
            "that the other epochs train a single path and a search finds no choice of blocks. Set "
            "pruning.keep to 2 or more, or pruning.every to a larger number",
            stacklevel=4,
        )


class SupernetTraining(Trainable[Batch]):
    """Training of the shared weights of a space.

    Args:
        setup: weights, data and settings.
    """

    def __init__(self, setup: SupernetSetup) -> None:
        first, config = setup.materials[0].run, setup.config
        self.config, self.ranks, self.model = first.config, setup.ranks, setup.model
        self.title = make_title(first.config.model.name, first.config.training, first.task.name)
        self.metric = first.task.primary_metric
        self.batches_per_epoch = setup.batches
        self.optimizer = StepOptimizer(
            setup.model, self.config, config.epochs * self.batches_per_epoch
        )
        self._setup = setup
        self._pruning = Pruning(ReducedSpace.of(config.space), config.pruning, setup.latencies)
        self._traced: list[dict[str, Any]] = []

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of all tasks."""
        self.model.train()
        yield from self._setup.epoch(epoch)

    def backward(self, number: int, batch: Batch, share: float) -> float:
        """Add the gradients of a step's networks, pass scores to the pruning, return the loss.

        One network's graph is freed before the next one's is built.
        """
        setup, choices = self._setup, self._pruning.choices
        paths = setup.paths(choices, self.optimizer.steps)
        loss = 0.0
        for path, path_loss, score in _losses(setup, batch, paths):
            (share * path_loss).backward()
            loss += path_loss.item()
            self._pruning.observe(path.genotype, score)
        latency = setup.config.loss.latency * setup.expected_latency(choices, paths)
        if latency.requires_grad:
            (share * latency).backward()
        self.ranks.average_gradients(self.model)
        return loss + latency.item()

    def validate(self) -> float:
        """Return the mean score of some networks of the space."""
        return _mean(self._scores(self._setup.probes))

    def keep(self, score: float, epoch: int) -> None:
        """Do nothing: the weights are written after the last epoch."""

    def end_epoch(self, epoch: int) -> None:
        """Prune the space and trace the scores of networks, if it is time."""
        self._pruning.after_epoch(epoch)
        config = self._setup.config
        if config.trace and is_due(epoch, every=config.trace_every, epochs=config.epochs):
            with self.optimizer.averaged():
                scores = self._scores(self._setup.traced)
            self._traced += [
                {"epoch": epoch, "genotype": genotype.to_json(), "score": score}
                for genotype, score in zip(self._setup.traced, scores, strict=True)
            ]
        if self.ranks.is_first:
            traced = TRACE.frame(self._traced)
            self._write_table(TRACE, traced)
            self._write_table(PRUNING, pd.DataFrame(list(map(vars, self._pruning.dropped))))

    def save_diverged(self) -> str:
        """Return where the last state of the run is; no other is written."""
        return f"{self.config.folder} holds the state after the last whole epoch"

    def state_dict(self) -> dict[str, Any]:
        """Return the state of optimizer and pruning, and the traced scores."""
        return {
            "learner": self.optimizer.state_dict(),
            "pruning": self._pruning.state_dict(),
            "trace": self._traced,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        self.optimizer.load_state_dict(state["learner"])
        self._pruning.load_state_dict(state["pruning"])
        self._traced = state["trace"]

    def write_weights(self) -> None:
        """Write the trained weights, averaged, and the blocks that are left after pruning."""
        if self.ranks.is_first:
            with self.optimizer.averaged():
                blocks = [list(names) for names in self._pruning.choices.blocks]
                content = {"weights": self._setup.supernet.state_dict(), "blocks": blocks}
                write_atomically(self._setup.config.path, lambda path: write_nested(path, content))

    def _scores(self, networks: Sequence[Genotype]) -> list[float]:
        """Return the score of each network, averaged over tasks; NaN on all ranks but the first."""
        if not self.ranks.is_first:
            return [math.nan] * len(networks)
        scores = []
        for genotype in networks:
            of_tasks = []
            for material in self._setup.materials:
                network = self._setup.supernet.subnet(genotype, material.run.task.name)
                with evaluating(network), torch.no_grad():
                    of_tasks.append(material.validation([network]))
            scores.append(_mean(of_tasks))
        return scores

    def _write_table(self, table: Table, rows: pd.DataFrame) -> None:
        files = WrittenFiles(self.config.folder)
        if len(rows):
            files.record(table.file)
            table.write(rows, files.folder)
        else:
            files.remove(table.file)


def _losses(
    setup: SupernetSetup, batch: Batch, paths: Sequence[SampledSubnet]
) -> Iterator[tuple[SampledSubnet, Tensor, float]]:
    """Yield each network with its part of the loss of a step, and its score on the batch.

    In a sandwich, all but the first learn from the first one's predictions instead of the labels.
    """
    material, images, labels = batch
    config, first, kind = setup.config, None, material.run.task.kind
    share = 1 / len(paths) if config.rule in ("spos", "gumbel") else 1.0
    labels = setup.ranks.gather(labels)
    for path in paths:
        logits = setup.supernet(images, path.genotype, material.run.task.name, path.gates)
        logits = setup.ranks.gather(logits)
        if config.rule == "sandwich" and first is not None:
            loss = distillation(logits, first, kind=kind)
        else:
            loss = material.loss(images, logits, labels)
            first = logits.detach()
        score = math.nan
        if config.pruning.every:
            score = kind.batch_score(logits, labels)
        yield path, config.loss.cross_entropy * share * loss, score


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
