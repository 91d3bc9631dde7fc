"""The loop with a small model; trainings of networks are in test_network_run.py."""

import logging
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.training import OptimizerConfig, TrainConfig
from analogmed.training.distributed import Ranks
from analogmed.training.learner import StepOptimizer
from analogmed.training.log import logged_metric
from analogmed.training.loop import Trainable, fit
from analogmed.training.state.folder import TrainingFolder
from analogmed.training.state.state import load_latest

BATCHES = 3


class Line(Trainable[float]):
    """Regression of y = 2 x, with the validation scores of a list."""

    def __init__(self, config, scores=(), metric="dice"):
        torch.manual_seed(0)
        self.metric = metric
        self.config, self.ranks, self.title = config, Ranks(), "line"
        self.model = nn.Linear(1, 1)
        self.batches_per_epoch = BATCHES
        self.optimizer = StepOptimizer(self.model, config, config.epochs * BATCHES)
        self.scores, self.kept, self.ended = list(scores), [], []
        self.fails_after = 0

    def batches(self, epoch):
        for number in range(BATCHES):
            yield float(1 + epoch + number)

    def backward(self, number, batch, share):
        loss = (self.model(torch.tensor([[batch]])) - 2 * batch).square().mean()
        (share * loss).backward()
        return loss.item()

    def validate(self):
        return self.scores.pop(0) if self.scores else 0.5

    def keep(self, score, epoch):
        self.kept.append(score)

    def end_epoch(self, epoch):
        self.ended.append(epoch)
        if epoch == self.fails_after:
            raise KeyboardInterrupt

    def save_diverged(self):
        return "nothing was written"

    def state_dict(self):
        return {"optimizer": self.optimizer.state_dict(), "ended": self.ended}

    def load_state_dict(self, state):
        self.optimizer.load_state_dict(state["optimizer"])
        self.ended = state["ended"]


@pytest.fixture
def config(tmp_path):
    optimizer = OptimizerConfig(learning_rate=0.01, ema=0.9)
    return TrainConfig(epochs=4, validate_every=1, optimizer=optimizer, out=tmp_path / "run")


def trained(run):
    return fit(run, TrainingFolder(run.config, run.ranks, "line.yaml"))


def test_an_interrupted_training_resumes_to_the_same_state(config, tmp_path):
    whole = Line(config)
    history = trained(whole)
    broken = Line(replace(config, out=tmp_path / "broken"))
    broken.fails_after = 3
    with pytest.raises(KeyboardInterrupt):
        trained(broken)
    resumed = Line(broken.config)
    found = trained(resumed)
    assert [record.loss for record in found.records] == [record.loss for record in history.records]
    assert resumed.ended == whole.ended == [1, 2, 3, 4]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name
    assert load_latest(config.folder).epoch == load_latest(broken.config.folder).epoch == 4
    assert len(pd.read_csv(broken.config.folder / "log.csv")) == 4


@pytest.mark.parametrize(
    ("keep", "kept"), [("last", [0.5, 0.7, 0.6, 0.8]), ("best", [0.5, 0.7, 0.8])]
)
def test_the_states_that_the_rule_names_are_kept(config, keep, kept):
    run = Line(replace(config, keep=keep), [0.5, 0.7, 0.6, 0.8])
    trained(run)
    assert run.kept == kept


def test_of_a_metric_whose_lower_values_are_better_lower_scores_are_kept(config, caplog):
    config = replace(config, keep="best", patience=2, epochs=9)
    run = Line(config, [9.0, 5.0, 7.0, 4.0, 4.0, 6.0], metric="hd95")
    with caplog.at_level(logging.INFO, "analogmed.training"):
        history = trained(run)
    assert run.kept == [9.0, 5.0, 4.0, 4.0]
    assert (len(history), history.kept_epoch("best")) == (6, 5)
    assert pd.read_csv(config.folder / "log.csv")["hd95"].tolist() == [9, 5, 7, 4, 4, 6]
    assert logged_metric(config.folder).label == "HD95"
    assert "validation HD95 6.000, best 4.000," in caplog.messages[-1]
    board = EventAccumulator(str(config.folder / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("hd95")] == [9, 5, 7, 4, 4, 6]
    again = TrainingFolder(config, run.ranks, "line.yaml").history
    assert (again.metric, again.best, again.has_stalled(2)) == ("hd95", 4.0, True)


def test_a_run_is_not_resumed_with_another_metric(config):
    trained(Line(replace(config, epochs=1)))
    run = Line(replace(config, epochs=1), metric="hd95")
    with pytest.raises(ConfigError, match=r"validated by dice; expected hd95, .* --restart true"):
        trained(run)


def test_a_trained_start_is_validated_as_epoch_0(config):
    run = Line(config, [0.9, 0.7, 0.6, 0.9, 0.8])
    run.starts_trained = True
    history = trained(run)
    assert [record.epoch for record in history.records] == [0, 1, 2, 3, 4]
    assert run.kept == [0.9, 0.9]
    assert history.kept_epoch("last") == 3


def test_a_loss_that_is_no_number_names_epoch_and_batch(config):
    run = Line(config)
    values = iter([1.0] * BATCHES + [1.0, math.inf])
    run.backward = lambda *_: next(values)
    with pytest.raises(NonFiniteError, match=r"is inf in epoch 2, batch 2;.*nothing was"):
        trained(run)
    assert load_latest(config.folder).epoch == 1


def test_weights_that_are_no_numbers_are_not_kept(config):
    run = Line(replace(config, optimizer=replace(config.optimizer, ema=0.0)))
    with torch.no_grad():
        run.model.bias.fill_(math.nan)
    run.backward = lambda *_: 1.0
    with pytest.raises(NonFiniteError, match="after epoch 1: NaN or Inf in the weights: bias"):
        trained(run)
    assert run.kept == []
