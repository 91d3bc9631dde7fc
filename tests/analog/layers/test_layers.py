import copy

import pytest
import torch
from aihwkit.nn import AnalogConv2d
from torch import nn

from analogmed.analog import Chip, calibrate, convert, create_rpu_config
from analogmed.analog.tile.quantise import step_size
from analogmed.foundation.errors import ShapeError

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")

# layer, input shape; tiles of 48 x 20 cut most of them in rows and columns, unevenly
CASES = {
    "linear": (lambda: nn.Linear(130, 50), (40, 130)),
    "linear_without_bias": (lambda: nn.Linear(130, 50, bias=False), (2, 20, 130)),
    "conv1d": (lambda: nn.Conv1d(20, 30, 5, stride=2, padding=2), (3, 20, 30)),
    "conv2d": (lambda: nn.Conv2d(20, 30, 3, padding=1), (2, 20, 9, 10)),
    "conv2d_strided_dilated": (
        lambda: nn.Conv2d(20, 30, (3, 2), (2, 1), (2, 0), (2, 3)),
        (2, 20, 12, 11),
    ),
    "conv2d_pointwise": (lambda: nn.Conv2d(100, 30, 1), (2, 100, 7, 7)),
    "conv2d_grouped": (lambda: nn.Conv2d(24, 48, 3, padding=1, groups=2), (2, 24, 8, 8)),
    "conv2d_depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (2, 6, 8, 8)),
    "conv2d_same": (lambda: nn.Conv2d(8, 6, (4, 3), padding="same"), (2, 8, 9, 8)),
    "conv2d_circular": (
        lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular"),
        (2, 8, 8, 8),
    ),
    "conv2d_reflect": (
        lambda: nn.Conv2d(8, 6, 3, padding=2, padding_mode="reflect"),
        (2, 8, 8, 8),
    ),
    "conv2d_replicate": (
        lambda: nn.Conv2d(8, 6, 3, padding=1, padding_mode="replicate"),
        (2, 8, 8, 8),
    ),
    "conv3d": (lambda: nn.Conv3d(6, 10, 3, padding=1, dilation=1), (2, 6, 6, 5, 7)),
    "conv3d_grouped_dilated": (
        lambda: nn.Conv3d(6, 30, (1, 3, 3), dilation=(1, 2, 1), groups=3),
        (2, 6, 4, 8, 6),
    ),
    "transposed1d": (lambda: nn.ConvTranspose1d(60, 8, 5, 2, 1, dilation=2), (2, 60, 9)),
    "transposed2d_shuffle": (lambda: nn.ConvTranspose2d(60, 8, 2, 2), (2, 60, 6, 5)),
    "transposed2d_overlapping": (
        lambda: nn.ConvTranspose2d(20, 6, 3, 2, 1, output_padding=1),
        (2, 20, 6, 5),
    ),
    "transposed2d_grouped": (
        lambda: nn.ConvTranspose2d(20, 12, (2, 3), (2, 3), groups=2),
        (2, 20, 6, 5),
    ),
    "transposed3d": (
        lambda: nn.ConvTranspose3d(12, 6, 3, 2, 1, output_padding=1, groups=2),
        (2, 12, 4, 4, 3),
    ),
    "transposed3d_shuffle": (lambda: nn.ConvTranspose3d(12, 6, 2, 2), (2, 12, 4, 4, 3)),
}


def made(case):
    make, shape = CASES[case]
    return make(), torch.randn(shape)


def largest_step(layer, inputs):
    """Largest ADC step of any column, in units of the layer's output."""
    io = layer.rpu_config.forward
    scale = max(row.scale.max().item() for row in layer.reference_rows())
    full = inputs.abs().max() if layer.input_range is None else layer.input_range.max()
    return step_size(io.out_res, io.out_bound) * scale * float(full)


@pytest.mark.parametrize("remap", ["layerwise", "channelwise"])
@pytest.mark.parametrize("preset", ["pcm", "analognas"])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_without_noise_a_layer_equals_aihwkits_tiles_up_to_one_step(
    case, preset, remap, oracle, analog_of
):
    layer, inputs = made(case)
    config = create_rpu_config(preset, tile_size=(48, 20), out_noise=0.0, remap=remap)
    analog = analog_of(layer, config).eval()
    calibrate(analog, [inputs], quantile=0.99)  # one input in a hundred is clipped
    found, expected = analog(inputs), oracle(analog, inputs)
    difference = (found - expected).abs()
    rounding = 1e-5 * expected.abs().max()
    assert found.shape == layer(inputs).shape
    assert (difference > rounding).double().mean() < 2e-3
    assert difference.max() <= 1.01 * largest_step(analog, inputs)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("row_split", ["even", "channels"])
@torch.no_grad()
def test_ideal_hardware_computes_what_torch_computes(case, row_split, analog_of):
    layer, inputs = made(case)
    model = convert(
        nn.Sequential(layer), create_rpu_config("ideal", tile_size=(48, 20)), row_split=row_split
    ).eval()
    expected = layer(inputs)
    torch.testing.assert_close(model(inputs), expected, atol=1e-5, rtol=1e-5)
    chip = Chip(model, seed=3)
    torch.testing.assert_close(chip.at(86_400.0)(inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("preset", ["pcm", "analognas"])
@pytest.mark.parametrize(
    "case",
    ["linear", "conv1d", "conv2d", "conv2d_grouped", "conv3d", "transposed2d_overlapping"],
)
def test_training_gradients_equal_aihwkits(case, preset, oracle_tiles, analog_of):
    layer, inputs = made(case)
    config = create_rpu_config(preset, tile_size=(48, 20), out_noise=0.0, modifier="none")
    analog = analog_of(layer, config).train()
    calibrate(analog, [inputs], quantile=0.99)
    tiles_of, apply_tiles = oracle_tiles
    arrays = tiles_of(analog)
    ours, theirs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()
    outputs = analog(ours)
    weighting = torch.randn_like(outputs)
    (outputs * weighting).sum().backward()
    (apply_tiles(analog, arrays, theirs) * weighting).sum().backward()
    expected = torch.stack([weight_gradient(array) for array in arrays])
    found = matrix_gradient(analog)
    assert (ours.grad - theirs.grad).norm() < 1e-3 * theirs.grad.norm()
    assert (found - expected).norm() < 1e-3 * expected.norm()


def weight_gradient(array):
    """Of the digital weight: aihwkit's hook divides the mapped weight's by the squared scale."""
    rows = [
        torch.cat([t.tile.weight.grad * t.get_mapping_scales().reshape(-1, 1) for t in row])
        for row in array.array
    ]
    return torch.cat(rows, 1)


def matrix_gradient(analog):
    twin = copy.deepcopy(analog)
    twin.weight.data = analog.weight.grad
    return twin.weight_matrix().detach()


@pytest.mark.parametrize("quantile", [0.9, 1.0])
@pytest.mark.parametrize("case", ["linear", "conv2d_pointwise", "transposed3d_shuffle"])
def test_the_gradient_of_an_input_range_equals_aihwkits_on_one_column_tile(
    case, quantile, oracle_tiles, analog_of
):
    layer, inputs = made(case)
    config = create_rpu_config(
        "pcm", tile_size=(48, 400), out_noise=0.0, modifier="none", input_range_keep=0.95
    )
    analog = analog_of(layer, config).train()
    calibrate(analog, [inputs], quantile=quantile)
    tiles_of, apply_tiles = oracle_tiles
    arrays = tiles_of(analog)
    outputs = analog(inputs)
    weighting = torch.randn_like(outputs)
    (outputs * weighting).sum().backward()
    (apply_tiles(analog, arrays, inputs) * weighting).sum().backward()
    expected = torch.cat([row[0].input_range.grad for row in arrays[0].array])
    torch.testing.assert_close(analog.input_range.grad, expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_output_noise_has_the_mean_and_deviation_of_aihwkits(oracle, analog_of):
    draws = 4000
    analog = analog_of(nn.Linear(130, 50), create_rpu_config("pcm", tile_size=(48, 20))).eval()
    inputs = torch.randn(1, 130).expand(draws, -1)
    assert_same_statistics(analog(inputs), oracle(analog, inputs))


@pytest.mark.parametrize("noise", [{"inp_noise": 0.1}, {"inp_noise": 0.02, "out_noise": 0.04}])
@torch.no_grad()
def test_input_noise_is_drawn_for_each_vector_as_aihwkit_does(noise, oracle, analog_of):
    draws = 3000
    config = create_rpu_config("pcm", tile_size=(20, 20), **({"out_noise": 0.0} | noise))
    analog = analog_of(nn.Conv2d(3, 4, 3, padding=1), config).eval()
    inputs = torch.randn(1, 3, 3, 3).expand(draws, -1, -1, -1)
    found, expected = analog(inputs), oracle(analog, inputs)
    assert_same_statistics(found, expected)
    neighbours = [torch.corrcoef(y[:, 0, 1, :2].T)[0, 1] for y in (found, expected)]
    assert max(abs(r) for r in neighbours) < 5 / draws**0.5  # patches share pixels, not noise


def assert_same_statistics(found, expected):
    draws = len(found)
    error = ((found.var(0) + expected.var(0)) / draws).sqrt()
    assert ((found.mean(0) - expected.mean(0)).abs() / error).max() < 5
    log_ratio = (found.var(0) / expected.var(0)).log()  # deviation of each: 2 / sqrt(draws)
    assert log_ratio.abs().max() < 5 * 2 / draws**0.5
    assert abs(log_ratio.mean()) < 5 * 2 / (draws * log_ratio.numel()) ** 0.5


@pytest.mark.parametrize("managed", [False, True])
@torch.no_grad()
def test_a_conv2d_equals_aihwkits_own_layer(managed):
    config = create_rpu_config("analognas" if managed else "pcm", tile_size=64, out_noise=0.0)
    analog = convert(nn.Sequential(nn.Conv2d(20, 30, 3, 2, 1, 2)), config)[0].eval()
    inputs = torch.randn(2, 20, 15, 15)
    calibrate(analog, [inputs])
    theirs = AnalogConv2d(20, 30, 3, 2, 1, 2, rpu_config=config).eval()
    theirs.set_weights(analog.weight, analog.bias)
    if not managed:
        for tile, limit in zip(theirs.analog_tiles(), analog.input_range, strict=True):
            tile.input_range.data[:] = limit
    difference = (analog(inputs) - theirs(inputs)).abs()
    assert (difference > 1e-5).double().mean() < 2e-3


@pytest.mark.parametrize(
    "case", ["conv2d", "conv2d_circular", "transposed2d_overlapping", "linear"]
)
@torch.no_grad()
def test_an_input_without_batch_dimension_works_as_in_torch(case, analog_of):
    layer, inputs = made(case)
    analog = analog_of(layer, create_rpu_config("ideal")).eval()
    torch.testing.assert_close(analog(inputs[0]), layer(inputs[0]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 2, 3), (2, 2, 5, 5, 5)),
        (nn.Conv2d(2, 2, 3), (2, 3, 5, 5)),
        (nn.ConvTranspose3d(2, 2, 3), (2, 4, 5, 5, 5)),
        (nn.Linear(4, 2), (4, 8)),
    ],
)
def test_an_input_of_another_shape_is_refused(layer, shape, analog_of):
    analog = analog_of(layer, create_rpu_config("pcm"))
    with pytest.raises(ShapeError, match="got shape"):
        analog(torch.zeros(shape))


def test_the_output_size_of_a_transposed_convolution_can_be_asked_for(analog_of):
    layer = nn.ConvTranspose2d(3, 4, 3, 2, 1)
    analog = analog_of(layer, create_rpu_config("ideal"))
    inputs = torch.randn(1, 3, 5, 5)
    torch.testing.assert_close(analog(inputs, [10, 10]), layer(inputs, [10, 10]))


def test_a_zero_weight_gives_the_bias(analog_of):
    layer = nn.Conv2d(3, 4, 3)
    nn.init.zeros_(layer.weight)
    analog = analog_of(layer, create_rpu_config("pcm", out_noise=0.0, remap="channelwise")).eval()
    assert torch.equal(analog(torch.randn(1, 3, 5, 5)), layer(torch.randn(1, 3, 5, 5)))


def test_every_product_is_computed_by_the_engine_that_is_chosen(analog_of, use_engine):
    """The tests of Triton rest on this seam, which has to fail where Triton is missing, too."""

    class Ones:
        def product(self, layer, inputs, bias):
            return torch.ones(len(inputs), layer.out_features)

    layer = analog_of(nn.Linear(3, 2), create_rpu_config("pcm"))
    use_engine(lambda layer, inputs: Ones())
    assert torch.equal(layer(torch.randn(4, 3)), torch.ones(4, 2))
