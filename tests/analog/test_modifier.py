import pytest
import torch
from aihwkit.simulator.parameters.enums import WeightModifierType
from aihwkit.simulator.parameters.inference import WeightModifierParameter
from aihwkit.simulator.tiles.torch_tile import TorchSimulatorTile
from torch import nn

from analogmed.analog import create_rpu_config
from analogmed.analog.modifier import modify

COLS = ((0, 12), (12, 20))
DRAWS = 4000


def blockwise(weight, modifier):
    """aihwkit's modifier, tile by tile."""
    blocks = [TorchSimulatorTile.modify_weight(weight[0, a:b], modifier, 1) for a, b in COLS]
    return torch.cat(blocks)[None]


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        WeightModifierType.NONE,
        WeightModifierType.COPY,
        WeightModifierType.ADD_NORMAL,
        WeightModifierType.MULT_NORMAL,
    ],
)
def test_noise_has_the_mean_and_deviation_of_aihwkits(kind, relative):
    modifier = WeightModifierParameter(type=kind, std_dev=0.07, rel_to_actual_wmax=relative)
    weight = torch.randn(1, 20, 15) * torch.linspace(0.2, 1, 20)[:, None]
    found = torch.stack([modify(weight, COLS, modifier) for _ in range(DRAWS)])
    expected = torch.stack([blockwise(weight, modifier) for _ in range(DRAWS)])
    deviation = expected.std(0)
    error = deviation * (2 / DRAWS) ** 0.5 + 1e-7
    assert ((found.mean(0) - expected.mean(0)).abs() / error).max() < 5.5
    assert torch.allclose(found.std(0), deviation, rtol=5.5 / DRAWS**0.5, atol=1e-7)


@pytest.mark.parametrize("resolution", [1 / 30, 14.0])
def test_discretising_equals_aihwkits(resolution):
    kind = WeightModifierType.DISCRETIZE
    modifier = WeightModifierParameter(type=kind, res=resolution, rel_to_actual_wmax=True)
    weight = torch.randn(1, 20, 15)
    torch.testing.assert_close(modify(weight, COLS, modifier), blockwise(weight, modifier))


@pytest.mark.parametrize("kind", ["add_normal", "discretize"])
def test_gradients_pass_straight_through(kind, analog_of):
    config = create_rpu_config("ideal", modifier=kind, modifier_std=0.1)
    layer = nn.Linear(30, 20)
    analog = analog_of(layer, config).train()
    inputs = torch.randn(7, 30)
    analog(inputs).sum().backward()
    torch.testing.assert_close(analog.weight.grad, inputs.sum(0).expand(20, -1))


def test_evaluation_and_chips_see_no_training_noise(analog_of):
    analog = analog_of(nn.Linear(30, 20), create_rpu_config("ideal", modifier="add_normal"))
    inputs = torch.randn(7, 30)
    assert not torch.equal(analog.train()(inputs), analog(inputs))
    assert torch.equal(analog.eval()(inputs), analog(inputs))


def test_a_zero_tile_stays_finite():
    kind = WeightModifierType.DISCRETIZE
    modifier = WeightModifierParameter(type=kind, res=0.1, rel_to_actual_wmax=True)
    assert torch.equal(modify(torch.zeros(1, 20, 5), COLS, modifier), torch.zeros(1, 20, 5))
