"""Single steps of the training loop; test_network_run.py tests them after an interruption."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from analogmed.training import OptimizerConfig, TrainConfig
from analogmed.training.learner import StepOptimizer
from analogmed.training.optimise import schedule_factor

PLAIN = {"name": "sgd", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "ema": 0.0}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def learner_of(network, steps=10, **settings):
    config = OptimizerConfig(**{**PLAIN, "schedule": "constant", "warm_up": 0.0, **settings})
    return StepOptimizer(network, TrainConfig(optimizer=config), steps)


def gradient_of(network, size):
    """Give a network gradients; they are returned as one vector."""
    images = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    (size * network(images).square().mean()).backward()
    return parameters_to_vector(parameter.grad for parameter in network.parameters())


def moved_by(learner, network):
    before = parameters_to_vector(network.parameters()).detach().clone()
    learner.step()
    return parameters_to_vector(network.parameters()).detach() - before


def test_a_long_gradient_is_shortened_to_the_norm_in_its_direction(network):
    learner = learner_of(network, gradient_norm=0.5)
    gradient = gradient_of(network, size=1e3)
    assert gradient.norm() > 100
    expected = -0.5 * gradient / gradient.norm()
    torch.testing.assert_close(moved_by(learner, network), expected)


def test_a_short_gradient_is_followed_as_it_is(network):
    learner = learner_of(network, gradient_norm=0.5)
    gradient = gradient_of(network, size=1e-2)
    assert gradient.norm() < 0.5
    torch.testing.assert_close(moved_by(learner, network), -gradient, rtol=1e-4, atol=1e-7)


def test_a_step_clears_the_gradients(network):
    learner = learner_of(network)
    gradient_of(network, size=1.0)
    learner.step()
    assert all(parameter.grad is None for parameter in network.parameters())


def test_each_step_has_the_learning_rate_of_its_schedule(network):
    settings = {"schedule": "polynomial", "warm_up": 0.25, "gradient_norm": 1e9}
    learner = learner_of(network, steps=8, **settings)
    factor = schedule_factor(OptimizerConfig(schedule="polynomial", warm_up=0.25), 8)
    for step in range(8):
        assert learner.learning_rate == pytest.approx(factor(step))
        gradient = gradient_of(network, size=1e-2)
        expected = -factor(step) * gradient
        torch.testing.assert_close(moved_by(learner, network), expected, rtol=1e-3, atol=1e-6)
    assert (learner.steps, learner.learning_rate) == (8, 0.0)


def test_the_average_is_lent_and_given_back(network):
    learner = learner_of(network, ema=0.9)
    for _ in range(3):
        gradient_of(network, size=1.0)
        learner.step()
    own = parameters_to_vector(network.parameters()).detach().clone()
    with learner.averaged():
        assert not torch.equal(parameters_to_vector(network.parameters()), own)
    assert torch.equal(parameters_to_vector(network.parameters()), own)
