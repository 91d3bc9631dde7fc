"""A small network on tiles, with images and labels of one structure."""

import pytest
import torch
from torch import nn

import analogmed as am


@pytest.fixture(scope="module")
def images():
    return torch.rand(5, 1, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def labels(images):
    return (images > 0.5).to(torch.uint8)


@pytest.fixture(scope="module")
def network():
    """A network that finds bright pixels, blurred a little."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    with torch.no_grad():
        net[0].weight.mul_(0.2)
        net[0].weight[:, 0, 1, 1] = 1.0
        net[0].bias.zero_()
        net[2].weight.fill_(0.5)
        net[2].bias.fill_(-1.0)
    return net.eval()


@pytest.fixture(scope="module")
def analog(network, images):
    return am.calibrate(am.convert(network, "pcm"), [images])


@pytest.fixture(scope="module")
def result(analog, images, labels):
    return am.robustness(analog, [(images, labels)], times=["t0", "1 day"], chips=3)
