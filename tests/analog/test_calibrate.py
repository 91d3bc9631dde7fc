import copy
import math

import pytest
import torch
from torch import nn

from analogmed.analog import calibrate, convert, create_rpu_config
from analogmed.errors import ConfigError, CoverageError, NonFiniteError, ShapeError


def analog_of(*layers, **options):
    return convert(nn.Sequential(*layers), create_rpu_config("pcm", **options)).eval()


def order_statistic(values, quantile):
    ordered = values.abs().flatten().sort().values
    return ordered[math.ceil(quantile * len(ordered)) - 1]


@pytest.mark.parametrize("quantile", [0.5, 0.99, 1.0])
def test_a_range_is_the_mean_of_the_batches_quantiles(quantile):
    model = analog_of(nn.Conv2d(3, 4, 3))
    batches = [torch.randn(2, 3, 9, 9), 3 * torch.randn(4, 3, 8, 8)]
    calibrate(model, batches, quantile=quantile)
    expected = sum(order_statistic(batch, quantile) for batch in batches) / 2
    torch.testing.assert_close(model[0].input_range, expected.reshape(1), check_dtype=False)


def test_each_row_tile_gets_the_range_of_its_own_channels():
    model = analog_of(nn.Conv2d(8, 4, 3), tile_size=36)  # four channels a tile
    images = torch.randn(2, 8, 9, 9) * torch.arange(1, 9).reshape(1, 8, 1, 1)
    calibrate(model, [images], quantile=0.9)
    expected = [order_statistic(images[:, c], 0.9) for c in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(model[0].input_range.detach(), torch.stack(expected))


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (nn.Linear(6, 4), torch.randn(3, 5, 6)),
        (nn.Linear(6, 4), torch.randn(6)),
        (nn.ConvTranspose3d(4, 4, 2, 2, groups=2), torch.randn(2, 4, 3, 3, 3)),
        (nn.Conv1d(4, 4, 3), torch.randn(4, 9)),
    ],
)
def test_every_kind_of_layer_and_input_is_calibrated(layer, inputs):
    model = analog_of(layer)
    calibrate(model, [inputs], quantile=1.0)
    torch.testing.assert_close(model[0].input_range.detach(), inputs.abs().max().reshape(1))


def test_a_bright_image_is_not_clipped():
    images = 0.5 + 0.5 * torch.rand(4, 3, 32, 32)
    model = analog_of(nn.Conv2d(3, 4, 3))
    calibrate(model, [images])
    assert (images > model[0].input_range).double().mean() < 0.001
    assert images.std() * 3 < 0.5  # aihwkit's three standard deviations would clip every pixel


def test_later_layers_see_what_the_digital_network_computes():
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    model = convert(layers, create_rpu_config("pcm", out_noise=1.0)).eval()
    images = torch.randn(2, 3, 12, 12)
    calibrate(model, [images], quantile=0.9)
    seen = layers[1](layers[0](images))
    torch.testing.assert_close(
        model[2].input_range.detach(), order_statistic(seen, 0.9).detach().reshape(1)
    )


def test_more_values_than_torch_quantile_takes():
    model = analog_of(nn.Linear(2, 1))
    inputs = torch.linspace(-1, 1, 2 * 10_500_000).reshape(-1, 2)
    with pytest.raises(RuntimeError, match="too large"):
        torch.quantile(inputs, 0.5)
    calibrate(model, [inputs], quantile=0.25)
    torch.testing.assert_close(model[0].input_range.item(), 0.25, atol=1e-4, rtol=0)


def test_a_dead_input_gets_a_range_that_divides():
    model = analog_of(nn.Linear(3, 2))
    calibrate(model, [torch.zeros(4, 3)])
    assert model[0].input_range.item() == 1.0
    sparse = torch.zeros(1000, 3)
    sparse[0, 0] = 7.0
    calibrate(model, [sparse], quantile=0.5)
    assert model[0].input_range.item() == 7.0


def test_a_blank_batch_tells_nothing_of_the_range():
    model = analog_of(nn.Linear(1, 1))
    seen = [torch.full((4, 1), 0.2), torch.zeros(4, 1), torch.full((4, 1), 0.4)]
    calibrate(model, seen)
    torch.testing.assert_close(model[0].input_range.item(), 0.3)


def test_model_and_configuration_are_otherwise_as_they_were():
    config = create_rpu_config("pcm")
    model = convert(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 1, 3)), config
    )
    model.train()
    model[1].eval()
    described, before = str(model[0].rpu_config), copy.deepcopy(model.state_dict())
    assert calibrate(model, [torch.rand(2, 1, 9, 9)]) is model
    assert [m.training for m in model] == [True, False, True]
    assert str(model[0].rpu_config) == described == str(config)
    assert not any(m._forward_pre_hooks for m in model.modules())
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) != key.endswith("input_range"), key
    assert isinstance(model[0].input_range, nn.Parameter)


def test_a_failing_batch_leaves_the_ranges():
    model = analog_of(nn.Conv2d(1, 2, 3))
    before = model[0].input_range
    with pytest.raises(ShapeError, match="1 channels"):
        calibrate(model, [torch.rand(2, 3, 9, 9)])
    assert model[0].input_range is before
    assert not model[0].rpu_config.forward.is_perfect


def test_hardware_that_scales_each_vector_needs_no_ranges():
    model = convert(nn.Sequential(nn.Linear(3, 2)), create_rpu_config("analognas"))
    assert calibrate(model, [torch.rand(2, 3)])[0].input_range is None


def test_what_cannot_be_calibrated_is_refused():
    model = analog_of(nn.Linear(3, 2))
    with pytest.raises(ConfigError, match="no batch"):
        calibrate(model, [])
    with pytest.raises(ConfigError, match=r"\(0, 1\], got 1.5"):
        calibrate(model, [torch.rand(2, 3)], quantile=1.5)
    with pytest.raises(NonFiniteError, match="layer '0'"):
        calibrate(model, [torch.tensor([[1.0, float("nan"), 0.0]])])
    with pytest.raises(CoverageError, match="convert it first"):
        calibrate(nn.Linear(3, 2), [torch.rand(2, 3)])


def test_an_empty_batch_is_refused_and_changes_nothing():
    model = analog_of(nn.Conv2d(3, 4, 3))
    before = model[0].input_range.detach().clone()
    with pytest.raises(ConfigError, match=r"empty.*\(0, 3, 8, 8\)"):
        calibrate(model, [torch.rand(2, 3, 8, 8), torch.zeros(0, 3, 8, 8)])
    assert torch.equal(model[0].input_range.detach(), before)
