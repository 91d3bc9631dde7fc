"""The training loop, shared by digital and hardware-aware training."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from analogmed.analog import TrainingNoise
from analogmed.foundation.errors import CheckpointError, NonFiniteError
from analogmed.network.weights import refuse_not_finite
from analogmed.training.checkpoint.checkpoint import save_checkpoint
from analogmed.training.distributed import Ranks, joined
from analogmed.training.history import EpochRecord
from analogmed.training.learner import StepOptimizer
from analogmed.training.log import TrainingLog, complete_log
from analogmed.training.losses import make_loss
from analogmed.training.optimise import accumulation
from analogmed.training.outcome import OUTCOME, report_outcome
from analogmed.training.preparation import Setup, digital_stage, set_up, with_heads
from analogmed.training.settings import TrainConfig
from analogmed.training.state.folder import RunFolder, one_run
from analogmed.training.validation import Validation


@torch.random.fork_rng(devices=())
def train(config: TrainConfig) -> Path:
    """Train a network, digitally or hardware-aware, and keep its final state.

    Hardware-aware training starts from a digitally trained network (its own, without ``init``),
    maps it onto tiles, calibrates the input ranges, and continues with quantisation, output noise
    and weight noise in the forward pass. Validation then uses chips one day after programming.
    At the end, the kept network's scores, digitally and on chips at several times after
    programming, are logged side by side; see :mod:`analogmed.training.outcome`. With ``init``, the
    start is validated as epoch 0, and kept if every later state has a lower score.

    The run folder contains the kept network, the last two training states, a log and its curves. An
    interrupted run is resumed after its last epoch, with the results of an uninterrupted run.

    Args:
        config: settings of the run.

    Returns:
        the checkpoint file of the kept network.

    Raises:
        ConfigError: settings that do not fit each other or the task, or differ from those of the
            run in the folder; a folder that cannot be written, or that another run is writing to;
            a lack of memory, with advice on what to make smaller.
        LeakageError: ``init`` was trained on patients that this split keeps for testing.
        DataError: the task has no training or validation case.
        NonFiniteError: the loss became NaN or Inf; names epoch and batch.
    """
    with joined(config.device) as ranks:
        config = with_heads(config)
        stage = digital_stage(config)
        if stage is not None:
            config = replace(config, init=_train(stage, ranks))
        return _train(config, ranks)


def _train(config: TrainConfig, ranks: Ranks) -> Path:
    with one_run(config.folder, ranks):
        return _run(config, ranks)


def _run(config: TrainConfig, ranks: Ranks) -> Path:
    folder = RunFolder(config, ranks)
    if folder.is_finished:
        if ranks.is_first:
            complete_log(config, folder.history)
        if config.training == "hwa" and not (config.folder / OUTCOME).is_file():
            report_outcome(set_up(config, ranks), folder.history)
        return config.path
    (config.folder / OUTCOME).unlink(missing_ok=True)  # of a run that was restarted
    run = set_up(config, ranks)
    model, batches, epochs = run.model, len(run.sampler), config.epochs
    steps = epochs * math.ceil(batches / config.optimizer.accumulate)
    network = ranks.wrap(model)
    loss_of, score_of = make_loss(run.task, config.loss, run.teacher), Validation(run)
    learner, noise = StepOptimizer(model, config, steps), _noise(model, config, steps, ranks)
    history = folder.restore(model, learner)
    with TrainingLog(run, history, batches=epochs * batches) as log, run.within_memory():
        if config.init is not None and not history.records:
            history = history.extended(_validated_start(run, learner, score_of, log))
        for epoch in range(len(history), epochs):
            run.recalibrate()
            noise.renew()
            _to_training_mode(model, config, epoch, learner)
            for batch, (images, labels) in enumerate(run.sampler.epoch(epoch)):
                images, labels = run.to_device(images), run.to_device(labels)
                share, ends_step = accumulation(batch, batches, config.optimizer.accumulate)
                with noise.step(learner.steps, batch):
                    with run.autocast():
                        # (B, K, *window), or several of these; a teacher gets the same images
                        outputs = network(images.clone() if run.teacher else images)
                    loss = loss_of(*ranks.gathered(images, outputs, labels))
                    if not torch.isfinite(loss):
                        where = f"in epoch {epoch + 1}, batch {batch + 1}"
                        raise _diverged(run, f"the loss is {loss.item()} {where}")
                    (share * loss).backward()
                if ends_step:
                    learner.step()
                log.batch(loss.item(), learner.steps)
            dice = math.nan
            if (epoch + 1) % config.validate_every == 0 or epoch + 1 == epochs:
                lowest = history.lowest_kept(config.keep)
                dice = _validate(run, learner, score_of, epoch + 1, lowest)
            record = log.epoch(epoch + 1, learner.steps, learner.learning_rate, dice)
            history = history.extended(record)
            folder.save(model, learner, history)
            log.write(history)
            if history.has_stalled(config.patience):
                break
        log.draw(history)
    ranks.wait()  # for the first one, which writes
    if config.training == "hwa":
        report_outcome(run, history)
    return config.path


def _validated_start(
    run: Setup, learner: StepOptimizer, score_of: Validation, log: TrainingLog
) -> EpochRecord:
    """Return epoch 0: the score of the network that the training starts from, which is kept."""
    return log.start(learner.learning_rate, _validate(run, learner, score_of, 0, -math.inf))


def _validate(
    run: Setup, learner: StepOptimizer, score_of: Validation, epoch: int, lowest: float
) -> float:
    """Return the score of the averaged weights; keep the network if it reaches the lowest kept."""
    ranks = run.ranks
    with learner.averaged():
        try:
            refuse_not_finite(run.model, run.model.state_dict(), f"after epoch {epoch}")
        except CheckpointError as error:
            raise _diverged(run, str(error)) from error
        run.recalibrate()
        dice = ranks.first_says(score_of(run.model) if ranks.is_first else math.nan)
        if dice >= lowest and ranks.is_first:
            save_checkpoint(run.config.path, run.model, run.checkpoint_info(dice))
    return dice


def _noise(model: nn.Module, config: TrainConfig, steps: int, ranks: Ranks) -> TrainingNoise:
    return TrainingNoise(
        model,
        weights=config.noise.weights,
        every=config.noise.every,
        ramp_steps=round(config.noise.ramp * steps),
        ages_s=config.noise.ages_s,
        seed=config.seed,
        rank=ranks.rank,
    )


def _to_training_mode(
    model: nn.Module, config: TrainConfig, epoch: int, learner: StepOptimizer
) -> None:
    """Let batch norms of an epoch use batch statistics or, once frozen, running statistics."""
    model.train()
    if config.training != "hwa":
        return
    first = config.noise.first_frozen_epoch(config.epochs)
    if epoch == first > 0:
        learner.take_averaged_statistics()
    if epoch >= first:
        for module in model.modules():
            if isinstance(module, _NormBase):
                module.eval()


def _diverged(run: Setup, what: str) -> NonFiniteError:
    folder = run.config.folder
    stopped = folder / "stopped.safetensors"
    if run.ranks.is_first:
        save_checkpoint(stopped, run.model, run.checkpoint_info(math.nan), finite=False)
    run.ranks.wait()  # for the first one: torchrun ends all when one fails
    kept = "holds the state kept so far" if run.config.path.exists() else "was not written yet"
    return NonFiniteError(
        f"{what}; try a smaller optimizer.learning_rate; the present state is in {stopped}; "
        f"{run.config.path} {kept}"
    )
