"""Analog networks under torch.compile."""

import pytest
import torch
from torch import nn

from analogmed.analog import Chip, calibrate, convert, coverage, create_rpu_config

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture
def images():
    return torch.rand(2, 3, 12, 12)


@pytest.fixture
def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))


@pytest.fixture
def analog(network, images):
    return calibrate(convert(network, create_rpu_config("pcm", tile_size=48)), [images])


def compiled(model):
    return torch.compile(model, backend="eager")  # Dynamo traces; no compiler of C++ is needed


def gradients(model, owner, images):
    owner.zero_grad()
    torch.manual_seed(1)
    outputs = model(images)
    outputs.square().sum().backward()
    return [outputs.detach(), *(p.grad.clone() for p in owner.parameters())]


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_a_compiled_analog_network_gives_the_bytes_of_the_plain_one(analog, images, training):
    analog.train(training)
    expected = gradients(analog, analog, images)
    model = compiled(analog)
    for _ in range(2):  # traced, and from the cache
        assert all(map(torch.equal, gradients(model, analog, images), expected))


@pytest.mark.slow
def test_a_chip_of_a_compiled_network_is_the_chip_of_the_network(analog, images):
    expected = Chip(analog, seed=3).at(60.0)(images)
    assert torch.equal(Chip(compiled(analog), seed=3).at(60.0)(images), expected)


def test_a_compiled_network_is_converted_as_the_plain_one(network, images):
    model = convert(compiled(network), create_rpu_config("ideal"))
    assert coverage(model, (1, 3, 12, 12)).weight_share == 1.0
    torch.testing.assert_close(model.eval()(images), network(images), rtol=1e-4, atol=1e-4)
