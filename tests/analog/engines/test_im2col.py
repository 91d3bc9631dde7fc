"""The compiled engine with unfolded input vectors against the reference engine."""

import pytest
import torch
from aihwkit.simulator.parameters.enums import NoiseManagementType
from torch import nn

from analogmed.analog import Chip, calibrate, convert, create_rpu_config
from analogmed.analog.engines import im2col as vector_engine
from analogmed.analog.engines import select as engines
from analogmed.analog.engines.vectors import KernelWindow
from analogmed.analog.tile.quantise import step_size
from analogmed.foundation.errors import ShapeError

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")

# layer, input shape; tiles of 48 x 20 cut most of them in rows and columns, within a channel too
CASES = {
    "linear": (lambda: nn.Linear(130, 50), (40, 130)),
    "linear_tokens": (lambda: nn.Linear(130, 50, bias=False), (2, 3, 20, 130)),
    "conv1d": (lambda: nn.Conv1d(20, 30, 5, stride=2, padding=2), (3, 20, 61)),
    "conv2d": (lambda: nn.Conv2d(20, 30, 3, padding=1), (3, 20, 19, 17)),
    "conv2d_few_channels": (lambda: nn.Conv2d(3, 30, 3, padding=1), (3, 3, 19, 17)),
    "conv2d_wide": (lambda: nn.Conv2d(70, 30, 3, padding=1), (3, 70, 19, 10)),
    "conv2d_unbatched": (lambda: nn.Conv2d(20, 30, 3, padding=1), (20, 19, 17)),
    "conv2d_strided_dilated": (
        lambda: nn.Conv2d(20, 30, (3, 2), (2, 1), (2, 0), (2, 3)),
        (3, 20, 22, 21),
    ),
    "conv2d_one_position": (lambda: nn.Conv2d(20, 30, 3), (50, 20, 3, 3)),
    "conv2d_one_column": (lambda: nn.Conv2d(40, 1, 1), (2, 40, 25, 26)),
    "conv2d_grouped": (lambda: nn.Conv2d(24, 48, 3, padding=1, groups=2), (2, 24, 18, 18)),
    "conv2d_depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (2, 6, 18, 18)),
    "conv2d_same": (lambda: nn.Conv2d(8, 6, (4, 3), padding="same"), (2, 8, 19, 18)),
    "conv2d_reflect": (
        lambda: nn.Conv2d(8, 6, 3, padding=2, padding_mode="reflect"),
        (2, 8, 18, 18),
    ),
    "conv3d": (lambda: nn.Conv3d(6, 10, 3, padding=1), (2, 6, 6, 5, 7)),
    "conv3d_one_volume_dilated": (
        lambda: nn.Conv3d(6, 10, (3, 1, 2), (1, 2, 1), (2, 1, 0), (2, 1, 1), groups=2),
        (1, 6, 12, 9, 10),
    ),
    "transposed1d": (lambda: nn.ConvTranspose1d(60, 8, 5, 2, 1, dilation=2), (2, 60, 40)),
    "transposed2d_shuffle": (lambda: nn.ConvTranspose2d(60, 8, 2, 2), (2, 60, 12, 11)),
    "transposed2d_grouped": (
        lambda: nn.ConvTranspose2d(20, 12, 3, 2, 1, output_padding=1, groups=2),
        (2, 20, 12, 11),
    ),
    "transposed3d_shuffle": (lambda: nn.ConvTranspose3d(12, 6, 2, 2), (2, 12, 4, 4, 3)),
}
NONE, CONSTANT, ABS_MAX, MAX = (
    NoiseManagementType[name] for name in ("NONE", "CONSTANT", "ABS_MAX", "MAX")
)
# preset's arguments, how vectors are scaled, largest scale
HARDWARE = {
    "abs_max": ({}, ABS_MAX, 0.0),
    "abs_max within a range": ({"input_range": True}, ABS_MAX, 0.0),
    "abs_max up to a threshold": ({}, ABS_MAX, 1.5),
    "abs_max within a range, up to a threshold": ({"input_range": True}, ABS_MAX, 0.7),
    "max": ({}, MAX, 0.0),
    "constant": ({}, CONSTANT, 2.0),
    "constant within a range": ({"input_range": True}, CONSTANT, 0.0),
    "4 bits, 5 bits, channelwise": (
        {"dac_steps": 14, "adc_steps": 31, "remap": "channelwise"},
        ABS_MAX,
        0.0,
    ),
    "half a step at the bound": ({"dac_steps": 15, "adc_steps": 15}, ABS_MAX, 0.0),
    "narrow converters": ({"inp_bound": 0.75, "out_bound": 0.5}, ABS_MAX, 0.0),
    "no DAC": ({"dac_steps": 0}, ABS_MAX, 0.0),
    "no ADC": ({"adc_steps": 0, "dac_steps": 0}, ABS_MAX, 0.0),
}
WEIGHT_NOISE = {"weight_noise_std": 0.05, "input_range": True}
NOISY = {
    "abs_max": ({}, ABS_MAX),
    "abs_max, additive": (WEIGHT_NOISE | {"weight_noise": "additive"}, ABS_MAX),
    "additive": (WEIGHT_NOISE | {"weight_noise": "additive"}, NONE),
    "pcm_read": (WEIGHT_NOISE | {"weight_noise": "pcm_read"}, NONE),
}


def pair(case, arguments, management, threshold=0.0, *, out_noise=0.0):
    """The same layer on the compiled engine and on torch, and its input."""
    make, shape = CASES[case]
    inputs = torch.randn(shape)
    settings = {"tile_size": (48, 20), "input_range": False, "out_noise": out_noise} | arguments
    config = create_rpu_config("pcm", **settings)
    config.forward.noise_management, config.forward.nm_thres = management, threshold
    model = nn.Sequential(make()).eval()
    compiled, plain = (convert(model, config, backend=name) for name in ("numba", "torch"))
    batch = inputs[None] if case.endswith("unbatched") else inputs
    calibrate(compiled, [batch], quantile=0.99)
    plain.load_state_dict(compiled.state_dict())
    return compiled, plain, inputs


def flips(found, expected, columns=1):
    """Share of outputs with another code, but for those of two values.

    A value between two codes rounds as the processor has it: an output by itself, or an input of a
    vector, which all its columns see.
    """
    others = (found - expected).abs() > 1e-5 * expected.abs().max()
    return max(0, int(others.sum()) - 2 * columns) / others.numel()


def largest_step(layer, inputs):
    """Of the ADC, and of the DAC, whose step all columns of a vector share."""
    io = layer.rpu_config.forward
    step = step_size(io.out_res, io.out_bound) + step_size(io.inp_res, io.inp_bound)
    scale = max(row.scale.max().item() for row in layer.reference_rows())
    full = inputs.abs().max() if layer.input_range is None else layer.input_range.max()
    return step * scale * float(full) * max(1.0, io.nm_thres)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_without_noise_it_agrees_with_the_definition_up_to_one_step(case):
    for hardware, settings in HARDWARE.items():
        torch.default_generator.manual_seed(0)
        compiled, plain, inputs = pair(case, *settings)
        engine = engines.engine_for(compiled[0], inputs)
        assert type(engine) is vector_engine.Im2colEngine, hardware
        before = inputs.clone()
        found, expected = compiled(inputs), plain(inputs)
        assert torch.equal(inputs, before), hardware
        assert found.shape == expected.shape, hardware
        columns = plain[0].weight_matrix().shape[1]
        assert flips(found, expected, columns) < 2e-3, hardware
        largest = 1.01 * largest_step(plain[0], inputs) + 1e-5
        assert (found - expected).abs().max() <= largest, hardware


@pytest.mark.slow
@pytest.mark.parametrize("case", ["linear", "conv2d", "conv2d_grouped", "transposed3d_shuffle"])
@pytest.mark.parametrize("hardware", NOISY)
@torch.no_grad()
def test_noise_has_the_mean_and_deviation_of_the_definition(case, hardware):
    """Rounding off, so that each output is normal; its deviation differs from place to place."""
    arguments, management = NOISY[hardware]
    arguments = arguments | {"adc_steps": 0, "out_bound": 100.0}
    compiled, plain, inputs = pair(case, arguments, management, out_noise=0.04)
    draws = 150
    found = torch.stack([compiled(inputs) for _ in range(draws)]).double()
    expected = torch.stack([plain(inputs) for _ in range(draws)]).double()
    z = (found.mean(0) - expected.mean(0)) / (expected.var(0) / draws * 2).sqrt()
    assert abs(z.square().mean() - 1) < 6 * (2 / z.numel()) ** 0.5 + 0.01
    ratio = (found.var(0) / expected.var(0)).log()  # normal, with a variance of 4 / draws
    assert abs(ratio.mean()) < 6 * (4 / draws / z.numel()) ** 0.5 + 1e-3
    assert abs(ratio.var() * draws / 4 - 1) < 6 * (2 / z.numel()) ** 0.5 + 0.03


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["additive", "pcm_read"])
@torch.no_grad()
def test_weight_noise_has_the_deviation_of_its_closed_form(kind):
    compiled, _, inputs = pair(
        "linear",
        WEIGHT_NOISE | {"weight_noise": kind, "dac_steps": 0, "adc_steps": 0, "out_bound": 100.0},
        NONE,
        out_noise=0.04,
    )
    layer = compiled[0]
    variance = 0.0
    for row, span, limit in zip(
        layer.reference_rows(), layer.grid.rows, layer.input_range, strict=True
    ):
        power = inputs[:, slice(*span)].clamp(-limit, limit).div(limit).square()
        size = row.weight[0].abs() if kind == "pcm_read" else torch.ones_like(row.weight[0])
        variance += (0.04**2 + 0.05**2 * power @ size.T) * (row.scale[0] * limit) ** 2
    draws = torch.stack([compiled(inputs) for _ in range(1000)])
    z = (draws.var(0) / variance - 1) / (2 / 999) ** 0.5
    assert abs(z.mean()) < 6 / z.numel() ** 0.5
    assert abs(z.var() - 1) < 0.2


@pytest.mark.parametrize("case", ["linear", "conv2d", "conv2d_grouped"])
@pytest.mark.parametrize("management", [ABS_MAX, MAX])
@torch.no_grad()
def test_a_vector_of_zeros_gives_the_bias_and_nothing_else(case, management):
    """As aihwkit's compiled tile, which skips such vectors; next to them, noise is as ever."""
    compiled, plain, inputs = pair(case, {"adc_steps": 0}, management, out_noise=0.04)
    inputs[0] = 0.0
    for model in (compiled, plain):
        layer = model[0]
        bias = layer.bias.reshape(-1, *(1,) * (inputs.ndim - 2))
        outputs = model(inputs)
        assert torch.equal(outputs[0], bias.expand_as(outputs[0]))
        assert not torch.equal(outputs[1], model(inputs)[1])


@torch.no_grad()
def test_a_vector_without_a_value_above_zero_has_the_unit_scale_of_aihwkits_torch_tile():
    compiled, plain, inputs = pair("linear", {"adc_steps": 0}, MAX)
    inputs = -inputs.abs() / inputs.abs().max()
    assert plain(inputs).std() > 0.01
    assert flips(compiled(inputs), plain(inputs)) < 2e-3


def reading(arguments, management):
    torch.default_generator.manual_seed(0)
    shared = nn.Conv2d(16, 16, 3, padding=1)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), shared, nn.ReLU(), shared,
        nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(8, 2, 1),
    ).eval()  # fmt: skip
    images = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    settings = {"tile_size": 48, "dac_steps": 0, "adc_steps": 0, "input_range": False} | arguments
    config = create_rpu_config("pcm", **settings)
    config.forward.noise_management = management
    analog = convert(network, config, backend="numba")
    return Chip(calibrate(analog, [images]), seed=1).at(3600.0), images


@pytest.mark.exhaustive
@pytest.mark.parametrize("hardware", NOISY)
def test_blocks_batches_and_threads_do_not_change_the_noise(hardware, monkeypatch):
    """Converters off: rounding would let the last bit of a sum decide."""
    read, images = reading(*NOISY[hardware])
    whole = read.restart("case")(images)
    assert (read(images) - whole).abs().max() > 1e-3 * whole.abs().max()

    def is_the_same(found):
        return (found - whole).abs().max() < 1e-5 * whole.abs().max()

    for split in ([1, 6], [3, 3, 1]):
        assert is_the_same(torch.cat(list(map(read.restart("case"), images.split(split)))))
    for elements in (1, 9999):
        monkeypatch.setattr(vector_engine, "_BLOCK_ELEMENTS", elements)
        assert is_the_same(read.restart("case")(images))
    monkeypatch.undo()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 - min(threads, 2))
        assert is_the_same(read.restart("case")(images))
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def test_static_ranges_with_weight_noise_draw_as_without_it():
    """Noise of weights and outputs shares one address, so that only its size differs."""
    size = {"adc_steps": 0, "dac_steps": 0, "out_bound": 100.0, "input_range": True}
    draws = []
    for noise in ({}, {"weight_noise": "additive", "weight_noise_std": 1e-9}):
        torch.default_generator.manual_seed(0)
        compiled, _, inputs = pair("conv2d", size | noise, NONE, out_noise=0.04)
        torch.default_generator.manual_seed(1)
        last = inputs.contiguous(memory_format=torch.channels_last)
        draws.append((engines.engine_for(compiled[0], last), compiled(last)))
    assert type(draws[0][0]) is not type(draws[1][0])
    assert (draws[0][1] - draws[1][1]).abs().max() < 1e-5 * draws[0][1].abs().max()


@torch.no_grad()
def test_nan_stays_where_it_is_seen():
    compiled, plain, inputs = pair("conv2d", {}, ABS_MAX)
    inputs[0, 3, 5, 5] = float("nan")
    found, expected = compiled(inputs), plain(inputs)
    assert torch.equal(found.isnan(), expected.isnan())
    assert found.isnan().any()


@torch.no_grad()
def test_tiny_and_huge_inputs_are_scaled_to_the_same_codes():
    compiled, _, inputs = pair("conv2d", {}, ABS_MAX)
    compiled[0].bias.zero_()
    outputs = compiled(inputs)
    for scale in (2.0**-60, 2.0**60):
        assert torch.equal(compiled(inputs * scale), outputs * scale)
    assert compiled(inputs * 1e-42).isfinite().all()


@torch.no_grad()
def test_an_empty_batch_gives_an_empty_output():
    compiled, _, inputs = pair("linear", {}, ABS_MAX)
    assert compiled(inputs[:0]).shape == (0, 50)


@torch.no_grad()
def test_a_kernel_larger_than_its_input_is_refused():
    compiled, _, _ = pair("conv2d", {}, ABS_MAX)
    compiled[0].padding = (0, 0)
    compiled[0]._reversed_padding_repeated_twice = [0, 0, 0, 0]
    with pytest.raises(ShapeError, match="does not fit"):
        compiled(torch.randn(1, 20, 2, 5))


@pytest.mark.parametrize("case", ["conv2d", "conv2d_grouped", "transposed2d_shuffle", "conv3d"])
@torch.no_grad()
def test_the_memory_order_of_the_input_is_that_of_the_output_and_changes_nothing_else(case):
    compiled, _, inputs = pair(case, {}, ABS_MAX)
    last = torch.channels_last if inputs.ndim == 4 else torch.channels_last_3d
    outputs, outputs_last = compiled(inputs), compiled(inputs.contiguous(memory_format=last))
    assert outputs.is_contiguous()
    assert outputs_last.is_contiguous(memory_format=last)
    assert torch.equal(outputs, outputs_last)
    strided = inputs.repeat_interleave(2, -1)[..., ::2]
    assert torch.equal(compiled(strided), outputs)


@torch.no_grad()
def test_changed_weights_and_ranges_are_seen():
    compiled, plain, inputs = pair("conv2d", {"input_range": True}, ABS_MAX)
    compiled(inputs)
    for model in (compiled, plain):
        model[0].input_range.mul_(0.5)
        model[0].weight.mul_(torch.linspace(0.5, 1, 30)[:, None, None, None])
    assert flips(compiled(inputs), plain(inputs)) < 2e-3


@torch.no_grad()
def test_two_chips_keep_their_own_weights():
    compiled, _, inputs = pair("conv2d", {}, ABS_MAX)
    chips = [Chip(compiled, seed=seed).at(3600.0) for seed in (1, 2)]
    first = [chip.restart("case")(inputs) for chip in chips]
    again = [chip.restart("case")(inputs) for chip in chips]
    assert all(map(torch.equal, first, again))
    assert not torch.equal(*first)


@torch.no_grad()
def test_preset_analognas_is_compiled():
    analog = convert(nn.Sequential(nn.Conv2d(3, 8, 3)).eval(), create_rpu_config("analognas"))
    inputs = torch.randn(1, 3, 8, 8)
    assert type(engines.engine_for(analog[0], inputs)) is vector_engine.Im2colEngine


@pytest.mark.parametrize("rows", [(0, 63), (0, 20), (20, 41), (41, 63), (30, 31)])
def test_the_rows_of_a_tile_are_laid_out_pixel_by_pixel(rows):
    """7 channels of a window of 9 pixels: row 9 c + k."""
    patch = KernelWindow((3, 3))
    order = patch.order(*rows) + rows[0]
    assert sorted(order) == list(range(*rows))
    assert list(order) == sorted(order, key=lambda row: (row % 9, row // 9))
