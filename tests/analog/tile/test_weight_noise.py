import copy

import pytest
import torch
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    NoiseManagementType,
    WeightNoiseType,
)
from aihwkit.simulator.parameters.io import IOParameters
from torch import nn

from analogmed.analog import Chip, convert, create_rpu_config
from analogmed.analog.tile.product import disturbs_sums, has_weight_noise, weight_noise_std

DRAWS = 3000
EXACT = {  # converters, bounds and output noise off
    "dac_steps": 0,
    "adc_steps": 0,
    "inp_bound": 1e3,
    "out_bound": 1e6,
    "out_noise": 0.0,
    "input_range": False,
    "modifier": "none",
}
LAYERS = {
    "linear": (lambda: nn.Linear(50, 30), (7, 50)),
    "conv1d_grouped": (lambda: nn.Conv1d(16, 24, 5, 2, padding=2, groups=2), (2, 16, 20)),
    "conv2d": (lambda: nn.Conv2d(8, 20, 3, padding=1, dilation=2), (2, 8, 9, 9)),
    "conv2d_reflected": (
        lambda: nn.Conv2d(8, 20, 3, padding=1, padding_mode="reflect"),
        (2, 8, 9, 9),
    ),
    "conv3d": (lambda: nn.Conv3d(3, 12, 3), (1, 3, 5, 5, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(40, 6, 3, 2), (2, 40, 4, 4)),
    "transposed1d_grouped": (lambda: nn.ConvTranspose1d(40, 6, 2, 2, groups=2), (2, 40, 6)),
}


def hardware(kind, **arguments):
    return create_rpu_config(
        "pcm",
        weight_noise=kind,
        weight_noise_std=0.05,
        **(EXACT | {"tile_size": (32, 12)} | arguments),
    )


def expected_deviation(layer, inputs, kind):
    """By propagation of the noise of each weight: the layer, of squared inputs and variances."""
    scales = [row.scale[:, :, None].expand_as(row.weight) for row in layer.reference_rows()]
    mapped = [row.weight for row in layer.reference_rows()]
    if kind == "additive":
        variances = [scale.square() for scale in scales]
    else:
        variances = [w.abs() * scale.square() for w, scale in zip(mapped, scales, strict=True)]
    twin = copy.deepcopy(layer)
    twin.set_weight_matrix(0.05**2 * torch.cat(variances, 2))
    twin.bias = None
    base = next(c for c in type(layer).__mro__ if c.__module__.startswith("torch.nn.modules"))
    return base.forward(twin, inputs.square()).sqrt()


@pytest.mark.exhaustive
@pytest.mark.parametrize("management", ["none", "abs_max"])
@pytest.mark.parametrize("kind", ["additive", "pcm_read"])
@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_noise_of_the_weights_adds_up_over_rows_and_tiles(layer, kind, management, analog_of):
    build, shape = LAYERS[layer]
    analog = analog_of(build().eval(), hardware(kind, noise_management=management)).eval()
    inputs = torch.randn(shape)
    clean = build().eval()
    clean.load_state_dict(analog.state_dict())
    draws = torch.stack([analog(inputs) for _ in range(400)])
    expected = expected_deviation(analog, inputs, kind)
    standard = (draws - clean(inputs)) / expected
    assert standard.mean(0).abs().max() < 5.5 / 400**0.5
    assert abs(standard.square().mean() - 1) < 0.02
    assert standard.std(0).sub(1).abs().max() < 5.5 / 800**0.5


@pytest.mark.exhaustive
@torch.no_grad()
def test_columns_and_vectors_are_disturbed_independently(analog_of):
    analog = analog_of(nn.Conv2d(8, 20, 3).eval(), hardware("pcm_read")).eval()
    inputs = torch.randn(1, 8, 5, 5)
    draws = torch.stack([analog(inputs).flatten() for _ in range(DRAWS)])
    correlation = torch.corrcoef(draws.T).fill_diagonal_(0)
    assert correlation.abs().max() < 6 / DRAWS**0.5


@pytest.mark.parametrize("kind", [WeightNoiseType.ADDITIVE_CONSTANT, WeightNoiseType.PCM_READ])
@pytest.mark.parametrize("managed", [False, True])
def test_the_deviation_is_that_of_the_compiled_tile(kind, managed, compiled_tile):
    nm = NoiseManagementType.ABS_MAX if managed else NoiseManagementType.NONE
    io = IOParameters(
        w_noise=0.1,
        w_noise_type=kind,
        noise_management=nm,
        bound_management=BoundManagementType.NONE,
        inp_res=1 / 14,
        out_res=-1.0,
        out_bound=0.0,
        out_noise=0.0,
    )
    weight, inputs = torch.rand(12, 40) * 2 - 1, torch.randn(6, 40)
    tile = compiled_tile(weight, forward=io)
    found = torch.stack(
        [tile.tile.forward(inputs, False, False, False, True, False) for _ in range(DRAWS)]
    )
    scale = inputs.abs().amax(1, keepdim=True) if managed else torch.ones(6, 1)
    converted = (inputs / scale).mul(7).round().div(7).clamp(-1, 1)
    deviation = weight_noise_std(converted, weight[None], lambda x, w: x @ w[0].T, io) * scale
    assert (found.std(0) / deviation - 1).abs().max() < 5.5 / (2 * DRAWS) ** 0.5


def test_noise_of_the_weights_has_no_gradient(analog_of):
    analog = analog_of(nn.Linear(20, 10), hardware("pcm_read", tile_size=64)).train()
    inputs = torch.randn(4, 20, requires_grad=True)
    weights = torch.randn(4, 10)
    (analog(inputs) * weights).sum().backward()
    torch.testing.assert_close(inputs.grad, weights @ analog.weight.detach())
    torch.testing.assert_close(analog.weight.grad, weights.T @ inputs.detach())


def test_hardware_without_noise_of_the_weights_has_none():
    for arguments in (
        {},
        {"weight_noise": "additive"},
        {"weight_noise_std": 0.1},
        {"weight_noise": "additive", "weight_noise_std": 0.1, "perfect": True},
    ):
        io = create_rpu_config("pcm", **arguments).forward
        assert not has_weight_noise(io)
        assert not disturbs_sums(io)
    assert has_weight_noise(hardware("additive").forward)


@torch.no_grad()
def test_a_chip_draws_noise_of_its_weights_anew_in_each_product():
    model = convert(nn.Sequential(nn.Conv2d(4, 6, 3)).eval(), hardware("pcm_read"))
    reading = Chip(model).at(0.0)
    images = torch.randn(1, 4, 8, 8)
    first, second = reading(images), reading(images)
    assert not torch.equal(first, second)
    assert torch.equal(reading.restart()(images), first)
