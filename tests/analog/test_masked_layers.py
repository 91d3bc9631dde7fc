"""Linear layers with a mask, on tiles."""

import pytest
import torch
from torch import nn

from analogmed.analog import Chip, calibrate, convert, coverage
from analogmed.network.layers.masked import MaskedLinear

MASK = torch.tensor([[1, 0, 1], [0, 1, 1]])


def layer():
    torch.manual_seed(0)
    return MaskedLinear(MASK)


def test_masked_weights_multiply_nothing_and_get_no_gradient():
    masked, inputs = layer(), torch.randn(4, 3)
    expected = nn.functional.linear(inputs, masked.weight * MASK, masked.bias)
    assert torch.equal(masked(inputs), expected)
    masked(inputs).sum().backward()
    assert torch.equal(masked.weight.grad != 0, MASK.bool())


@pytest.mark.parametrize("backend", ["torch", "aihwkit"])
def test_tiles_have_the_results_of_the_mask(backend):
    model = nn.Sequential(layer(), nn.Linear(2, 2)).eval()
    inputs = torch.randn(4, 3)
    analog = convert(model, "ideal", backend=backend)
    torch.testing.assert_close(analog(inputs), model(inputs), atol=1e-5, rtol=0)
    digital = {} if backend != "aihwkit" else {"0": "not converted"}
    assert coverage(analog, (1, 3)).digital_layers == digital
    assert analog.state_dict().keys() == model.state_dict().keys() or backend == "aihwkit"


def test_masked_devices_are_programmed_to_zero_with_their_noise():
    analog = calibrate(convert(layer(), "pcm", backend="torch"), [torch.ones(1, 3)])
    assert torch.equal(analog.reference_rows()[0].weight[0] == 0, ~MASK.bool())
    programmed = Chip(analog, seed=0).at(0.0).readings[""].rows[0].weight[0]
    assert (programmed[~MASK.bool()] != 0).any()
