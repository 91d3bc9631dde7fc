"""The training loop, shared by networks and supernetworks."""

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

from analogmed.foundation.errors import CheckpointError, NonFiniteError
from analogmed.network.weights import refuse_not_finite
from analogmed.training.distributed import Ranks
from analogmed.training.history import EpochRecord, History
from analogmed.training.learner import StepOptimizer
from analogmed.training.log import TrainingLog
from analogmed.training.optimise import accumulation
from analogmed.training.settings import TrainConfig
from analogmed.training.state.folder import Resumable, TrainingFolder

Batch = TypeVar("Batch")


class Trainable(Resumable, Protocol[Batch]):
    """A model in training: the gradients of a batch, the validation and the state to resume from.

    Attributes:
        config: settings of the training.
        ranks: processes that share the training.
        title: name of the training in log lines and figures.
        metric: name of the metric of the validation.
        optimizer: optimizer, schedule and weight average of the model.
        batches_per_epoch: number of batches of an epoch.
        starts_trained: whether the model is trained before the first epoch, so that its initial
            state is validated too, as epoch 0.
    """

    config: TrainConfig
    ranks: Ranks
    title: str
    metric: str
    optimizer: StepOptimizer
    batches_per_epoch: int
    starts_trained: bool = False

    def batches(self, epoch: int) -> Iterable[Batch]:
        """Prepare the model for an epoch, counted from 0, and yield its batches."""

    def backward(self, number: int, batch: Batch, share: float) -> float:
        """Add the gradients of a batch to those of the model, the same on all ranks.

        Args:
            number: number of the batch in its epoch, from 0.
            batch: batch of :meth:`batches`.
            share: factor on the gradients.

        Returns:
            the loss of the batch.
        """

    def validate(self) -> float:
        """Return the score of the model; only the first rank needs to compute it."""

    def keep(self, score: float, epoch: int) -> None:
        """Write the model, as the best or the last state so far. Only the first rank calls this.

        Args:
            score: its validation score.
            epoch: number of completed epochs; 0 for the network that the training starts from.
        """

    def end_epoch(self, epoch: int) -> None:
        """Complete an epoch, counted from 1, before its state is saved."""

    def save_diverged(self) -> str:
        """Write the model of a training that diverged, and return where states of the run are."""


def fit(run: Trainable[Batch], folder: TrainingFolder) -> History:
    """Train a model to its last epoch, from the state in the run folder if there is one.

    After each epoch, the state, the log and the progress are written. The average of the weights,
    if there is one, is what is validated and kept.

    Args:
        run: model with its data, optimizer and settings.
        folder: run folder.

    Returns:
        all epochs of the run; fewer than ``run.config.epochs`` if ``run.config.patience`` stopped
        it.

    Raises:
        NonFiniteError: the loss or the weights became NaN or Inf; names epoch and batch.
    """
    config, optimizer = run.config, run.optimizer
    history = folder.restore(run, run.metric)
    batches = config.epochs * run.batches_per_epoch
    with TrainingLog(config, run.title, history, batches=batches, ranks=run.ranks) as log:
        if run.starts_trained and not history.records:
            history = history.extended(_validated_start(run, log))
        for epoch in range(len(history), config.epochs):
            _train_epoch(run, epoch, log)
            score = math.nan
            if is_due(epoch + 1, every=config.validate_every, epochs=config.epochs):
                score = _validate(run, history, epoch + 1)
            run.end_epoch(epoch + 1)
            record = log.epoch(epoch + 1, optimizer.steps, optimizer.learning_rate, score)
            history = history.extended(record)
            folder.save(run, history)
            log.write(history)
            if history.has_stalled(config.patience):
                break
        log.complete(history)
    return history


def is_due(epoch: int, *, every: int, epochs: int) -> bool:
    """Return whether something that happens every few epochs, and after the last one, is due.

    Args:
        epoch: number of the completed epoch, from 1.
        every: number of epochs between two times.
        epochs: number of epochs of the whole training.
    """
    return epoch % every == 0 or epoch == epochs


def _train_epoch(run: Trainable[Batch], epoch: int, log: TrainingLog) -> None:
    optimizer, accumulate = run.optimizer, run.config.optimizer.accumulate
    for number, batch in enumerate(run.batches(epoch)):
        share, ends_step = accumulation(number, run.batches_per_epoch, accumulate)
        loss = run.backward(number, batch, share)
        if not math.isfinite(loss):
            raise _diverged(run, f"the loss is {loss} in epoch {epoch + 1}, batch {number + 1}")
        if ends_step:
            optimizer.step()
        log.batch(loss, optimizer.steps)


def _validated_start(run: Trainable[Batch], log: TrainingLog) -> EpochRecord:
    """Return epoch 0: the score of the network that the training starts from, which is kept."""
    return log.start(run.optimizer.learning_rate, _validate(run, History(metric=run.metric), 0))


def _validate(run: Trainable[Batch], history: History, epoch: int) -> float:
    """Return the score of the averaged weights; keep the model where the rule says so."""
    with run.optimizer.averaged():
        try:
            refuse_not_finite(run.model, run.model.state_dict(), f"after epoch {epoch}")
        except CheckpointError as error:
            raise _diverged(run, str(error)) from error
        score = run.ranks.first_says(run.validate())
        if run.ranks.is_first and history.keeps(score, run.config.keep):
            run.keep(score, epoch)
    return score


def _diverged(run: Trainable[Batch], what: str) -> NonFiniteError:
    where = run.save_diverged()
    return NonFiniteError(f"{what}; try a smaller optimizer.learning_rate; {where}")
