import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from analogmed.analog import Chip, calibrate, convert, create_rpu_config
from analogmed.analog.calibration import InputStatistics
from analogmed.foundation.errors import ConfigError, CoverageError, NonFiniteError, ShapeError


def analog_of(*layers, **options):
    return convert(nn.Sequential(*layers), create_rpu_config("pcm", **options)).eval()


def order_statistic(values, quantile):
    ordered = values.abs().flatten().sort().values
    return ordered[math.ceil(quantile * len(ordered)) - 1]


def assert_quantile(found, exact):
    """The upper edge of the bin of 12 bits that holds the exact quantile."""
    found, exact = found.detach(), exact.detach()
    assert (found >= exact).all()
    torch.testing.assert_close(found, exact, rtol=2**-12, atol=0)


@pytest.mark.parametrize("quantile", [0.5, 0.99, 1.0])
def test_a_range_is_the_quantile_of_all_batches_together(quantile):
    model = analog_of(nn.Conv2d(3, 4, 3))
    batches = [torch.randn(2, 3, 9, 9), 3 * torch.randn(4, 3, 8, 8)]
    calibrate(model, batches, quantile=quantile)
    pooled = torch.cat([batch.flatten() for batch in batches])
    assert_quantile(model[0].input_range, order_statistic(pooled, quantile).reshape(1))


class Twice(nn.Module):
    """One layer that sees two scales."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, x):
        return self.layer(x) + self.layer(input=10 * x)


def test_a_layer_that_is_called_twice_also_by_keyword_gets_the_quantile_of_both_calls():
    model = convert(Twice(), create_rpu_config("pcm")).eval()
    images = torch.randn(8, 3, 16, 16)
    calibrate(model, [images], quantile=0.9995)
    seen = torch.cat([images.flatten(), 10 * images.flatten()])
    assert_quantile(model.layer.input_range, order_statistic(seen, 0.9995).reshape(1))
    assert (seen.abs() <= model.layer.input_range).double().mean() >= 0.9995


@pytest.mark.parametrize("quantile", [0.9, 0.9995, 1.0])
def test_neither_the_size_nor_the_order_of_batches_changes_a_range(quantile):
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 2, 3))
    images = torch.rand(8, 3, 12, 12) * torch.logspace(-2, 1, 8).reshape(8, 1, 1, 1)
    found = []
    for batches in (images.split(8), images.split(3), images.split(1), images.flip(0).split(2)):
        model = convert(layers, create_rpu_config("pcm", tile_size=36)).eval()
        calibrate(model, batches, quantile=quantile)
        found.append(torch.cat([model[0].input_range, model[2].input_range]).detach())
    for ranges in found[1:]:
        torch.testing.assert_close(ranges, found[0], rtol=1e-5, atol=0)


def bin_quantile(values, quantile):
    """The quantile's bin by sorting: 12 bits of mantissa; its upper edge, or the largest value."""
    values = values.abs().flatten()
    bins = (values.view(torch.int32) >> 11).sort().values
    found = bins[max(1, math.ceil(quantile * len(bins))) - 1]
    edge = ((found + 1) << 11).view(torch.float32)
    return torch.where(found == 0, values.max(), edge.minimum(values.max()))


LARGEST, SMALLEST = torch.finfo(torch.float32).max, 2.0**-149
VALUES = {
    "normal": torch.randn(12, 50),
    "half zeros": torch.randn(12, 50).relu(),
    "all magnitudes": torch.randint(0, 0x7F800000, (12, 50), dtype=torch.int32).view(torch.float32),
    "subnormal": torch.randint(0, 0x800000, (12, 50), dtype=torch.int32).view(torch.float32),
    "growing": torch.logspace(-30, 30, 600).reshape(12, 50),
    "falling": torch.logspace(30, -30, 600).reshape(12, 50),
    "zeros before a value": torch.tensor([0.0] * 599 + [-0.3]).reshape(12, 50),
    "zeros behind a value": torch.tensor([-0.3] + [0.0] * 599).reshape(12, 50),
    "constant": torch.full((12, 50), -0.7),
    "limits": torch.tensor([LARGEST, SMALLEST, 0.0, 2.0**-126] * 150).reshape(12, 50),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_counts_of_calls_add_up_to_the_bit_whatever_their_size_order_and_magnitude(values):
    model = analog_of(nn.Linear(50, 2))
    for calls in (values.split(12), values.split(1), values.flip(0).split(5)):
        statistics = InputStatistics("layer", model[0])
        for number, inputs in enumerate(calls):
            with torch.inference_mode(number % 2 == 0):
                statistics.add(inputs)
        for quantile in (1e-9, 0.25, 0.5, 0.9, 0.9995, 1.0):
            found = statistics.ranges(quantile)
            assert torch.equal(found, bin_quantile(values, quantile).reshape(1)), quantile


def test_one_bright_image_counts_as_often_as_it_is_there():
    model = analog_of(nn.Conv2d(1, 1, 1))
    images = torch.cat([0.1 * torch.rand(7, 1, 32, 32), 3 * torch.rand(1, 1, 32, 32)])
    calibrate(model, images.split(1))
    assert_quantile(model[0].input_range, order_statistic(images, 0.9995).reshape(1))


def test_images_are_left_as_they_are_by_a_network_that_changes_its_input():
    class InPlace(nn.Sequential):
        def forward(self, x):
            return super().forward(x.sub_(0.5))

    model = convert(InPlace(nn.Conv2d(3, 4, 3)), create_rpu_config("pcm")).eval()
    images = torch.rand(2, 3, 8, 8)
    before = images.clone()
    calibrate(model, [images])
    assert torch.equal(images, before)


def test_a_loader_of_tuples_or_of_mappings_sets_the_ranges_of_its_images():
    images, labels = torch.rand(6, 3, 8, 8), torch.zeros(6, 1, 8, 8)
    model = convert(nn.Conv2d(3, 2, 3), "pcm")
    ranges = [
        calibrate(copy.deepcopy(model), loader, **options).input_range
        for loader, options in (
            ([images], {}),
            (DataLoader(TensorDataset(images, labels), batch_size=4), {}),
            ([{"image": images, "label": labels}], {}),
            ([{"scan": images}], {"key": "scan"}),
        )
    ]
    assert all(torch.equal(each, ranges[0]) for each in ranges)


def test_each_row_tile_gets_the_range_of_its_own_channels():
    model = analog_of(nn.Conv2d(8, 4, 3), tile_size=36)  # four channels a tile
    images = torch.randn(2, 8, 9, 9) * torch.arange(1, 9).reshape(1, 8, 1, 1)
    calibrate(model, [images], quantile=0.9)
    expected = [order_statistic(images[:, c], 0.9) for c in (slice(0, 4), slice(4, 8))]
    assert_quantile(model[0].input_range, torch.stack(expected))


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
    assert_quantile(model[2].input_range, order_statistic(seen, 0.9).reshape(1))


@pytest.mark.slow
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


def test_a_blank_batch_counts_as_its_zeros():
    model = analog_of(nn.Linear(1, 1))
    seen = [torch.full((4, 1), 0.2), torch.zeros(4, 1), torch.full((4, 1), 0.4)]
    calibrate(model, seen)
    assert_quantile(model[0].input_range, torch.tensor([0.4]))
    calibrate(model, seen, quantile=8 / 12)
    assert_quantile(model[0].input_range, torch.tensor([0.2]))


class WithHead(nn.Module):
    """A head that is not called in evaluation."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.body(x)) if self.training else self.body(x)


BACKENDS = pytest.mark.parametrize("backend", ["torch", "aihwkit"])


@BACKENDS
def test_a_network_whose_ranges_were_never_set_is_not_put_onto_a_chip(backend):
    model = convert(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)), create_rpu_config("pcm"),
                    backend=backend)  # fmt: skip
    with pytest.raises(ConfigError, match=r"never set.*analogmed\.calibrate\(model, batches\)"):
        Chip(model, seed=0)
    Chip(calibrate(model, [torch.rand(2, 3)]), seed=0)


@BACKENDS
def test_ranges_that_data_set_to_the_initial_value_are_set(backend):
    model = convert(nn.Sequential(nn.Linear(3, 2)), create_rpu_config("pcm"), backend=backend)
    calibrate(model, [torch.full((2, 3), 3.0)])
    Chip(model, seed=0)
    Chip(copy.deepcopy(model), seed=0)


def test_ranges_that_were_set_by_hand_or_loaded_are_set():
    by_hand = analog_of(nn.Linear(3, 3), nn.Linear(3, 2))
    with torch.no_grad():
        by_hand[0].input_range.fill_(2.0)
    Chip(by_hand, seed=0)
    calibrated = convert(WithHead(), create_rpu_config("pcm")).eval()
    calibrate(calibrated, [torch.rand(2, 3)])
    assert calibrated.head.input_range.item() == 3.0
    Chip(calibrated, seed=0)
    loaded = convert(WithHead(), create_rpu_config("pcm")).eval()
    loaded.load_state_dict(calibrated.state_dict())
    Chip(loaded, seed=0)


@pytest.mark.parametrize(("preset", "options"), [("analognas", {}), ("ideal", {}),
                                                 ("pcm", {"perfect": True})])  # fmt: skip
def test_hardware_without_input_ranges_needs_no_calibration(preset, options):
    Chip(convert(nn.Sequential(nn.Linear(3, 2)), create_rpu_config(preset, **options)), seed=0)


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
    with pytest.raises(ConfigError, match=r"above 0 and at most 1, got 1\.5"):
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
