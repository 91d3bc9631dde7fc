"""Training loop of a supernetwork."""

import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from analogmed.foundation.errors import NonFiniteError
from analogmed.models import Genotype
from analogmed.network.inference import to_classes
from analogmed.network.walk import evaluating
from analogmed.search.supernet.folder import SupernetFolder
from analogmed.search.supernet.path_sampling import ReducedSpace
from analogmed.search.supernet.pruning import Pruning
from analogmed.search.supernet.settings import SupernetConfig
from analogmed.search.supernet.setup import Path as SampledPath
from analogmed.search.supernet.setup import SupernetSetup, SupernetTask, set_up_supernet
from analogmed.training.distributed import Ranks, joined
from analogmed.training.learner import StepOptimizer
from analogmed.training.log import TrainingLog
from analogmed.training.losses import distillation
from analogmed.training.state.folder import one_run


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
    with joined(config.device) as ranks, one_run(config.folder, ranks):
        return _train(config, ranks)


def _train(config: SupernetConfig, ranks: Ranks) -> Path:
    folder = SupernetFolder(config, ranks)
    if folder.is_finished:
        return config.path
    _warn_of_one_path(config)
    run = set_up_supernet(config, ranks)
    model, batches, epochs = run.model, run.batches, config.epochs
    learner = StepOptimizer(model, config.training(config.task), epochs * batches)
    pruning = Pruning(ReducedSpace.of(config.space), config.pruning, run.latencies)
    history = folder.restore(model, learner, pruning)
    with TrainingLog(run.materials[0].run, history, batches=epochs * batches) as log:
        for epoch in range(len(history), epochs):
            model.train()
            for batch, (material, images, labels) in enumerate(run.epoch(epoch)):
                loss = _backward(run, material, images, labels, learner.steps, pruning)
                if not math.isfinite(loss):
                    raise _not_finite(config, epoch, batch, loss)
                _average_over_ranks(model, ranks)
                learner.step()
                log.batch(loss, learner.steps)
            pruning.after_epoch(epoch + 1)
            dice = math.nan
            with learner.averaged():
                if _is_time(epoch, config.validate_every, epochs):
                    dice = ranks.first_says(_mean(_scores(run, run.probes)))
                if config.trace and _is_time(epoch, config.trace_every, epochs):
                    folder.trace(epoch + 1, run.traced, _scores(run, run.traced))
            record = log.epoch(epoch + 1, learner.steps, learner.learning_rate, dice)
            history = history.extended(record)
            folder.save(model, learner, pruning, history)
            log.write(history)
        log.draw(history)
    with learner.averaged():
        folder.finish(run.supernet, pruning)
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


def _backward(
    run: SupernetSetup,
    material: SupernetTask,
    images: Tensor,
    labels: Tensor,
    step: int,
    pruning: Pruning,
) -> float:
    """Add the gradients of a step's networks, pass their Dice to the pruning, and return the loss.

    One network's graph is freed before the next one's is built.
    """
    paths = run.paths(pruning.choices, step)
    loss = 0.0
    for path, path_loss, dice in _losses(run, material, paths, images, labels):
        path_loss.backward()
        loss += path_loss.item()
        pruning.observe(path.genotype, dice)
    latency = run.config.loss.latency * run.expected_latency(pruning.choices, paths)
    if latency.requires_grad:
        latency.backward()
    return loss + latency.item()


def _losses(
    run: SupernetSetup,
    material: SupernetTask,
    paths: Sequence[SampledPath],
    images: Tensor,
    labels: Tensor,
) -> Iterator[tuple[SampledPath, Tensor, float]]:
    """Yield each network with its part of the loss of a step, and its Dice on the batch.

    In a sandwich, all but the first learn from the first one's masks instead of the labels.
    """
    config, first = run.config, None
    share = 1 / len(paths) if config.rule in ("spos", "gumbel") else 1.0
    labels = run.ranks.gather(labels)
    for path in paths:
        logits = run.supernet(images, path.genotype, material.run.task.name, path.gates)
        logits = run.ranks.gather(logits)
        if config.rule == "sandwich" and first is not None:
            loss = distillation(logits, first)
        else:
            loss = material.loss(images, logits, labels)
            first = logits.detach()
        dice = _dice(logits, labels) if config.pruning.every else math.nan
        yield path, config.loss.cross_entropy * share * loss, dice


def _dice(logits: Tensor, labels: Tensor) -> float:
    """Return the mean Dice over the classes of a batch; NaN if undefined, or logits not finite."""
    if not torch.isfinite(logits).all():
        return math.nan
    predicted, held = to_classes(logits.detach()), labels[:, 0]
    scores = []
    for index in range(1, max(2, logits.shape[1])):
        size = int((predicted == index).sum() + (held == index).sum())
        if size:
            scores.append(2 * int(((predicted == index) & (held == index)).sum()) / size)
    return sum(scores) / len(scores) if scores else math.nan


def _average_over_ranks(model: nn.Module, ranks: Ranks) -> None:
    """Replace gradients by means over ranks; all ranks have sampled the same networks."""
    if ranks.size == 1:
        return
    gradients = [each.grad for each in model.parameters() if each.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= ranks.size
    for gradient, mean in zip(
        gradients, together.split([*map(Tensor.numel, gradients)]), strict=True
    ):
        gradient.copy_(mean.view_as(gradient))


def _scores(run: SupernetSetup, networks: Sequence[Genotype]) -> list[float]:
    """Return the Dice of each network, averaged over tasks; NaN on ranks other than the first."""
    if not run.ranks.is_first:
        return [math.nan] * len(networks)
    scores = []
    for genotype in networks:
        of_tasks = []
        for material in run.materials:
            network = run.supernet.subnet(genotype, material.run.task.name)
            with evaluating(network), torch.no_grad():
                of_tasks.append(material.validation([network]))
        scores.append(_mean(of_tasks))
    return scores


def _is_time(epoch: int, every: int, epochs: int) -> bool:
    return (epoch + 1) % every == 0 or epoch + 1 == epochs


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _not_finite(config: SupernetConfig, epoch: int, batch: int, loss: float) -> NonFiniteError:
    return NonFiniteError(
        f"the loss is {loss} in epoch {epoch}, batch {batch}; try a smaller "
        f"optimizer.learning_rate; {config.folder} holds the state after the last whole epoch"
    )
