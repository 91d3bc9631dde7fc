"""Training of a network, digital or hardware-aware."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from analogmed.analog import TrainingNoise
from analogmed.foundation.settings.forms import takes_keywords
from analogmed.training.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from analogmed.training.distributed import Ranks, joined
from analogmed.training.learner import StepOptimizer
from analogmed.training.log import complete_log, make_title
from analogmed.training.loop import Trainable, fit
from analogmed.training.losses import make_loss
from analogmed.training.outcome import OUTCOME, report_outcome
from analogmed.training.preparation import Setup, digital_stage, set_up, with_heads
from analogmed.training.settings import NETWORK, SETTINGS, TrainConfig
from analogmed.training.state.folder import TrainingFolder, one_run
from analogmed.training.validation import Validation

_STOPPED = "stopped.safetensors"


@takes_keywords
@torch.random.fork_rng(devices=())
def train(config: TrainConfig) -> Path:
    """Train a network, digitally or hardware-aware, and keep its final state.

    Hardware-aware training starts from a digitally trained network (its own, without ``init``),
    maps it onto tiles, calibrates the input ranges, and continues with quantisation, output noise
    and weight noise in the forward pass. Validation then uses chips one day after programming.
    At the end, the kept network's scores, digitally and on chips at several times after
    programming, are logged side by side; see :mod:`analogmed.training.outcome`. With ``init``, the
    start is validated as epoch 0, and kept if every later state has a worse score.

    The run folder contains the kept network, the last two training states, a log and its curves. An
    interrupted run is resumed after its last epoch, with the results of an uninterrupted run.

    Args:
        config: settings of the run. Its fields can be given as keywords instead.

    Returns:
        the checkpoint file of the kept network.

    Raises:
        ConfigError: settings that do not fit each other or the task, or differ from those of the
            run in the folder; a folder that cannot be written, or that another run is writing to;
            a lack of memory, with advice on what to make smaller.
        LeakageError: ``init`` or ``loss.teacher`` was trained on patients that this split keeps for
            testing.
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
    with one_run(config.folder, ranks, SETTINGS):
        return _run(config, ranks)


def _run(config: TrainConfig, ranks: Ranks) -> Path:
    written = (NETWORK, _STOPPED, OUTCOME)
    folder = TrainingFolder(config, ranks, SETTINGS, written)
    history, is_hwa = folder.history, config.training == "hwa"
    if len(history) >= config.epochs or history.has_stalled(config.patience):
        if ranks.is_first:
            complete_log(config, history)
        if is_hwa and not (config.folder / OUTCOME).is_file():
            report_outcome(set_up(config, ranks), history)
        return config.path
    (config.folder / OUTCOME).unlink(missing_ok=True)  # of a run that was restarted
    setup = set_up(config, ranks)
    folder.require_patients([setup.task])
    run = NetworkTraining(setup)
    with setup.within_memory():
        history = fit(run, folder)
    ranks.wait()  # for the first one, which writes
    if is_hwa:
        report_outcome(setup, history)
    return config.path


class NetworkTraining(Trainable[tuple[Tensor, Tensor]]):
    """Training of one network.

    Args:
        setup: network, data and settings.
    """

    def __init__(self, setup: Setup) -> None:
        config, model = setup.config, setup.model
        self.config, self.ranks, self.model = config, setup.ranks, model
        self.title = make_title(config.model.name, config.training, setup.task.name)
        self.metric = setup.task.primary_metric
        self.batches_per_epoch = len(setup.sampler)
        self.starts_trained = config.init is not None
        self._setup = setup
        self._network = setup.ranks.wrap(model)
        self._loss = make_loss(setup.task, config.loss, setup.teacher, setup.sampler.class_shares)
        self._validation = Validation(setup)
        steps = config.epochs * math.ceil(self.batches_per_epoch / config.optimizer.accumulate)
        self.optimizer = StepOptimizer(model, config, steps)
        self._noise = TrainingNoise(
            model,
            weights=config.noise.weights,
            every=config.noise.every,
            ramp_steps=round(config.noise.ramp * steps),
            ages_s=config.noise.ages_s,
            seed=config.seed,
            rank=setup.ranks.rank,
        )

    def batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Set input ranges, noise and norms for an epoch, and yield its images and labels."""
        self._setup.recalibrate()
        self._noise.renew()
        self._to_training_mode(epoch)
        yield from self._setup.sampler.epoch(epoch)

    def backward(self, number: int, batch: tuple[Tensor, Tensor], share: float) -> float:
        """Add the gradients of a batch, under the noise of its step, and return its loss."""
        setup = self._setup
        images, labels = map(setup.to_device, batch)
        with self._noise.step(self.optimizer.steps, number):
            with setup.autocast():
                # (B, K, *window), or several of these; a teacher gets the same images
                outputs = self._network(images.clone() if setup.teacher else images)
            loss = self._loss(*self.ranks.gathered(images, outputs, labels))
            (share * loss).backward()
        return loss.item()

    def validate(self) -> float:
        """Return the score of the network, digitally or on its chips."""
        self._setup.recalibrate()
        return self._validation(self.model) if self.ranks.is_first else math.nan

    def keep(self, score: float, epoch: int) -> None:
        """Write the network with its score and, if it decides by them, its digital thresholds."""
        path = self.config.path
        info = replace(self._setup.checkpoint_info(score), keeps_start=epoch == 0)
        save_checkpoint(path, self.model, info)
        if self._setup.task.kind.has_thresholds:
            written = load_checkpoint(path, factories=(self.config.model.name,)).network
            thresholds = self._validation.thresholds(written.to(self._setup.device))
            save_checkpoint(path, self.model, replace(info, thresholds=thresholds))

    def end_epoch(self, epoch: int) -> None:
        """Do nothing: a network has no tables besides the log."""

    def save_diverged(self) -> str:
        """Write the network to ``stopped.safetensors``, and return where states of the run are."""
        stopped, path = self.config.folder / _STOPPED, self.config.path
        if self.ranks.is_first:
            info = self._setup.checkpoint_info(math.nan)
            save_checkpoint(stopped, self.model, info, finite=False)
        self.ranks.wait()  # for the first one: torchrun ends all when one fails
        kept = "holds the state kept so far" if path.exists() else "was not written yet"
        return f"the present state is in {stopped}; {path} {kept}"

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizer."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the result of ``state_dict``."""
        self.optimizer.load_state_dict(state)

    def _to_training_mode(self, epoch: int) -> None:
        """Let batch norms of an epoch use batch statistics or, once frozen, running statistics."""
        self.model.train()
        if self.config.training != "hwa":
            return
        first = self.config.noise.first_frozen_epoch(self.config.epochs)
        if epoch == first > 0:
            self.optimizer.take_averaged_statistics()
        if epoch >= first:
            for module in self.model.modules():
                if isinstance(module, _NormBase):
                    module.eval()
