"""Training with the probabilities of another network as a second target."""

from dataclasses import replace

import pytest
import torch

from analogmed.foundation.errors import ConfigError, LeakageError
from analogmed.models.settings import ModelConfig
from analogmed.training import LossConfig, TrainConfig, load_checkpoint, train
from analogmed.training.distributed import Ranks
from analogmed.training.preparation import digital_stage, set_up

TAUGHT = LossConfig(dice=0, cross_entropy=0, distillation=1.0)


@pytest.fixture
def config(tiny_training, tiny_digital, tmp_path):
    """A narrower network that learns from the small U-Net alone."""
    return replace(
        tiny_training,
        model=ModelConfig("unet", {"features": 2}),
        loss=replace(TAUGHT, teacher=tiny_digital),
        out=tmp_path / "run",
    )


def test_the_teacher_is_the_network_of_the_file_and_its_patients_count_as_seen(
    config, tiny_digital
):
    setup, expected = set_up(config, Ranks()), load_checkpoint(tiny_digital)
    for name, value in expected.network.state_dict().items():
        torch.testing.assert_close(setup.teacher.state_dict()[name], value)
    assert sum(p.numel() for p in setup.model.parameters()) < sum(
        p.numel() for p in setup.teacher.parameters()
    )
    assert set(expected.info.patients) <= set(setup.patients)


def test_the_rate_of_signals_is_stored_with_the_network(config):
    setup = set_up(config, Ranks())
    of_signals = replace(setup, task=replace(setup.task, rate=100))
    assert (setup.checkpoint_info(0.5).rate, of_signals.checkpoint_info(0.5).rate) == (0, 100)


def test_the_digital_stage_before_hardware_aware_training_learns_from_it_too(config):
    stage = digital_stage(replace(config, training="hwa"))
    assert (stage.training, stage.loss) == ("digital", config.loss)
    alone = replace(config, training="hwa", loss=LossConfig(distillation=1.0))
    assert digital_stage(alone).loss.distillation == 0


@pytest.mark.slow
def test_a_network_learns_from_its_teacher_without_labels(config, tiny_digital):
    def distance(network):
        images = next(set_up(config, Ranks()).sampler.epoch(0))[0]
        with torch.no_grad():
            taught = load_checkpoint(tiny_digital).network.eval()(images).sigmoid()
            return (network.eval()(images).sigmoid() - taught).abs().mean().item()

    before = distance(set_up(config, Ranks()).model)
    trained = load_checkpoint(train(replace(config, epochs=6, validate_every=6))).network
    assert distance(trained) < before


def test_a_teacher_that_has_seen_the_test_patients_is_refused(config):
    task = replace(config.task, split_seed=3)
    with pytest.raises(LeakageError, match="test"):
        set_up(replace(config, task=task), Ranks())


def test_a_teacher_needs_a_weight_and_digital_training_a_teacher(tmp_path):
    with pytest.raises(ConfigError, match=r"loss\.teacher: nothing is learned from it"):
        LossConfig(teacher=tmp_path)
    with pytest.raises(ConfigError, match=r"give one with loss\.teacher"):
        TrainConfig(loss=LossConfig(distillation=1.0))
