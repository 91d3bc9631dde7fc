"""Networks that are not segmentation networks are reported before any computation."""

import random
import re

import numpy as np
import pytest
import torch
from monai.networks import nets
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.network.probe import NetworkProbe

WINDOW = (16, 16)


class Outputs(nn.Module):
    """A convolution, and then whatever a test makes of its output."""

    def __init__(self, change=lambda x: x, channels=1, in_channels=2):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.change = change

    def forward(self, x):
        return self.change(self.conv(x))


class Hidden(Outputs):
    def __init__(self):
        super().__init__()
        self.more = [nn.Conv2d(1, 1, 1)]

    def forward(self, x):
        return self.more[0](super().forward(x))


class Flattened(nn.Module):
    """For one size only."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2 * 8 * 8, 8 * 8)

    def forward(self, x):
        return self.linear(x.view(len(x), -1)).view(len(x), 1, 8, 8)


def probe(classes=1, window=WINDOW):
    return NetworkProbe("my_nets:net", 2, classes, window)


REFUSED = {
    "dict": (Outputs(lambda x: {"out": x}), 1, r"returns a dict with the keys 'out'"),
    "tuple": (
        Outputs(lambda x: (x, x)),
        1,
        r"a tuple of 2 in evaluation mode; expected one tensor",
    ),
    "None": (Outputs(lambda x: None), 1, "a NoneType"),
    "classes": (Outputs(lambda x: x.argmax(1, keepdim=True), 3), 1, "torch.int64.*before argmax"),
    "one too many": (Outputs(channels=2), 1, r"\(2, 2, 16, 16\).*expected \(2, 1, 16, 16\): one"),
    "one too few": (Outputs(), 3, "3 logits, of the background and each class"),
    "size": (Outputs(lambda x: x[..., ::2]), 1, r"\(2, 1, 16, 8\).*strides"),
    "no channels": (Outputs(lambda x: x[:, 0]), 1, r"returns shape \(2, 16, 16\)"),
    "input channels": (Outputs(in_channels=3), 1, r"fails .* on images of shape \(2, 2, 16, 16\)"),
    "window": (Flattened(), 1, r"fails in evaluation mode.*RuntimeError.*window"),
    "float64": (Outputs().double(), 1, r"weight 'conv.weight' has type torch.float64.*\.float\(\)"),
    "bfloat16": (Outputs().bfloat16(), 1, "has type torch.bfloat16"),
    "plain list": (Hidden(), 1, r"more\[0\] \(Conv2d\).*nn\.ModuleList"),
    "sigmoid": (Outputs(torch.sigmoid), 1, "returns probabilities.*final sigmoid"),
    "cropped": (Outputs(lambda x: x.sigmoid()[:, :1].clone(), 2), 1, "returns probabilities"),
    "softmax": (Outputs(lambda x: x.softmax(1), 3), 3, "their sum is 1.*final softmax"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_segmentation_network_is_named_with_the_remedy(case):
    network, classes, message = REFUSED[case]
    with pytest.raises(ConfigError, match=f"^my_nets:net: .*{message}"):
        probe(classes).check(network)


@pytest.mark.parametrize("case", ["dict", "one too many", "size", "input channels"])
def test_the_training_mode_is_probed_too(case):
    network, classes, _ = REFUSED[case]
    with pytest.raises(ConfigError, match="in training mode"):
        probe(classes).check(network, training=True)


class Heads(Outputs):
    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits[..., ::2, ::2]) if self.training else logits


class InPlace(Outputs):
    def forward(self, x):
        x -= 1
        return super().forward(x.relu_())


@pytest.mark.parametrize(
    "network",
    [
        Outputs(),
        Heads(),
        InPlace(),
        Outputs(lambda x: x.view(x.shape[0], -1).view(x.shape)),
        Outputs(lambda x: 0 * x),  # not trained, so that nothing is in any range
    ],
)
def test_a_network_of_logits_passes(network):
    probe().check(network, training=True)


class Halved(Outputs):
    """A network that halves images three times and doubles them again, as a U-Net does."""

    def __init__(self, combine):
        super().__init__()
        self.combine = combine

    def forward(self, x):
        logits = super().forward(x)
        small = nn.functional.avg_pool2d(logits, 8)
        return self.combine(logits, nn.functional.interpolate(small, scale_factor=8.0))


@pytest.mark.parametrize(
    "combine", [lambda logits, again: logits + again, lambda logits, again: again]
)
def test_a_size_that_does_not_fit_is_named_with_the_divisor_of_those_that_do(combine):
    network = Halved(combine)
    for window in ((20, 16), (17, 12)):
        rounded = tuple(-(-size // 8) * 8 for size in window)
        message = f"It takes {re.escape(str(rounded))}, whose sizes are multiples of 8"
        with pytest.raises(ConfigError, match=message):
            NetworkProbe("net", 2, 1, window).check(network)
    NetworkProbe("net", 2, 1, (24, 16)).check(network)


BOUNDED = {
    "sigmoid": torch.sigmoid,
    "formula": lambda x: 1 / (1 + (-x).exp()),
    "softmax": lambda x: torch.cat([x, 0 * x], 1).softmax(1)[:, :1],
    "clamp": lambda x: x.clamp(0, 1),
}


@pytest.mark.parametrize("kind", BOUNDED)
def test_one_output_that_stays_in_0_to_1_is_a_probability_whatever_computed_it(kind):
    images = torch.randn(4, 2, *WINDOW)
    with pytest.raises(ConfigError, match=r"returns probabilities, from .* on 4 images"):
        probe().check(Outputs(BOUNDED[kind]), images)


@pytest.mark.parametrize("normalised", [False, True])
def test_logits_of_a_barely_trained_network_that_lie_in_0_to_1_pass(normalised):
    network = Outputs()
    with torch.no_grad():
        network.conv.weight.mul_(0.01)
        network.conv.bias.fill_(0.2)
    if normalised:
        network.conv = nn.utils.parametrizations.weight_norm(network.conv)
    images = torch.randn(4, 2, *WINDOW)
    assert 0 < network(images).min() < network(images).max() < 1
    probe().check(network, images)
    probe().check(Outputs(lambda x: 0 * x), images)  # a constant is no probability


@pytest.mark.parametrize("dims", [2, 3])
def test_swin_unetr_in_a_window_that_is_too_small_is_named(dims):
    network = nets.SwinUNETR(2, 1, feature_size=12, spatial_dims=dims)
    check = NetworkProbe("swin_unetr", 2, 1, (32,) * dims)
    with pytest.raises(ConfigError, match=r"swin_unetr: the network fails in training.*window"):
        check.check(network, training=True, batch_size=1)


class Drawing(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 1, 3, padding=1), nn.BatchNorm2d(1)
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.norm(self.conv(x)) + random.random() + np.random.rand() + torch.rand(())


def test_statistics_mode_and_random_states_are_left_as_they_were():
    network = Drawing().train()
    network.norm.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(2, 2, *WINDOW)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    given = images.clone()
    probe().check(network, images, training=True)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert states[:2] == after[:2] and torch.equal(states[2], after[2])
    assert network.training and not network.norm.training and network.calls == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(images, given)


@pytest.mark.parametrize(
    "text", ["DefaultCPUAllocator: can't allocate memory", "bad allocation", "Unable to allocate"]
)
def test_want_of_memory_is_not_taken_for_a_fault_of_the_network(text):
    def fails(x):
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match=text):
        probe().check(Outputs(fails))
