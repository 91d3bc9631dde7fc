"""The compiled direct engine against the reference engine."""

import copy

import pytest
import torch
from torch import nn

from analogmed.analog import Chip, calibrate, convert, create_rpu_config
from analogmed.analog.engines import direct as direct_engine
from analogmed.analog.engines import select as engines
from analogmed.analog.engines.cpu.ops import NumbaOps
from analogmed.analog.tile.quantise import step_size
from analogmed.foundation.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")

# layer, input shape; tiles of 48 x 20 cut most of them in rows and columns, unevenly
CASES = {
    "linear": (lambda: nn.Linear(130, 50), (40, 130)),
    "linear_tokens": (lambda: nn.Linear(130, 50, bias=False), (2, 3, 20, 130)),
    "conv1d": (lambda: nn.Conv1d(20, 30, 5, stride=2, padding=2), (3, 20, 30)),
    "conv2d": (lambda: nn.Conv2d(20, 30, 3, padding=1), (3, 20, 19, 17)),
    "conv2d_wide": (lambda: nn.Conv2d(70, 30, 3, padding=1), (3, 70, 9, 10)),
    "conv2d_unbatched": (lambda: nn.Conv2d(20, 30, 3, padding=1), (20, 9, 10)),
    "conv2d_strided_dilated": (
        lambda: nn.Conv2d(20, 30, (3, 2), (2, 1), (2, 0), (2, 3)),
        (2, 20, 12, 11),
    ),
    "conv2d_one_position": (lambda: nn.Conv2d(20, 30, 3), (2, 20, 3, 3)),
    "conv2d_one_column": (lambda: nn.Conv2d(40, 1, 1), (2, 40, 5, 6)),
    "conv2d_grouped": (lambda: nn.Conv2d(24, 48, 3, padding=1, groups=2), (2, 24, 8, 8)),
    "conv2d_depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (2, 6, 8, 8)),
    "conv2d_same": (lambda: nn.Conv2d(8, 6, (4, 3), padding="same"), (2, 8, 9, 8)),
    "conv2d_reflect": (
        lambda: nn.Conv2d(8, 6, 3, padding=2, padding_mode="reflect"),
        (2, 8, 8, 8),
    ),
    "conv3d": (lambda: nn.Conv3d(6, 10, 3, padding=1), (2, 6, 6, 5, 7)),
    "conv3d_one_volume": (lambda: nn.Conv3d(6, 10, 3, padding=1), (1, 6, 6, 5, 7)),
    "conv3d_one_volume_dilated": (
        lambda: nn.Conv3d(6, 10, (3, 1, 2), padding=(2, 1, 0), dilation=(2, 1, 1), groups=2),
        (1, 6, 8, 5, 7),
    ),
    "conv3d_one_slice": (lambda: nn.Conv3d(6, 4, (1, 3, 3), padding=1), (1, 6, 1, 5, 7)),
    "conv3d_more_padding_than_kernel": (
        lambda: nn.Conv3d(6, 4, (2, 3, 3), padding=(4, 1, 1)),
        (1, 6, 2, 5, 7),
    ),
    "conv3d_one_volume_unpadded": (lambda: nn.Conv3d(6, 10, 3, (1, 2, 1)), (1, 6, 4, 5, 7)),
    "transposed1d": (lambda: nn.ConvTranspose1d(60, 8, 5, 2, 1, dilation=2), (2, 60, 9)),
    "transposed2d_shuffle": (lambda: nn.ConvTranspose2d(60, 8, 2, 2), (2, 60, 6, 5)),
    "transposed2d_grouped": (
        lambda: nn.ConvTranspose2d(20, 12, 3, 2, 1, output_padding=1, groups=2),
        (2, 20, 6, 5),
    ),
    "transposed3d_shuffle": (lambda: nn.ConvTranspose3d(12, 6, 2, 2), (2, 12, 4, 4, 3)),
}
LAYOUTS = {
    "as it comes": lambda x: x,
    "channels last": lambda x: x.transpose(1, -1).contiguous().transpose(1, -1),
    "every other": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "backwards": lambda x: x.flip(0).T.contiguous().T.flip(0) if x.ndim == 2 else x.mT.clone().mT,
}
HARDWARE = {
    "8 bits": {},
    "3 bits, 5 bits, channelwise": {"dac_steps": 7, "adc_steps": 31, "remap": "channelwise"},
    "half a step at the bound": {"dac_steps": 15, "adc_steps": 15, "out_bound": 2.0},
    "no DAC": {"dac_steps": 0},
    "no ADC": {"adc_steps": 0},
}


def pair(case, hardware=None, *, out_noise=0.0, layout="as it comes"):
    """The same layer on the compiled engine and on torch, calibrated, and its input."""
    make, shape = CASES[case]
    inputs = LAYOUTS[layout](torch.randn(shape))
    config = create_rpu_config(
        "pcm", tile_size=(48, 20), out_noise=out_noise, **HARDWARE[hardware or "8 bits"]
    )
    model = nn.Sequential(make()).eval()
    compiled, plain = (convert(model, config, backend=name) for name in ("numba", "torch"))
    batch = inputs[None] if case.endswith("unbatched") else inputs
    calibrate(compiled, [batch], quantile=0.99)
    plain.load_state_dict(compiled.state_dict())
    return compiled, plain, inputs


def flips(found, expected):
    """Share of other codes, but for two: values between two codes round as the processor has it."""
    others = (found - expected).abs() > 1e-5 * expected.abs().max()
    return max(0, int(others.sum()) - 2) / others.numel()


def largest_step(layer):
    io = layer.rpu_config.forward
    scale = max(row.scale.max().item() for row in layer.reference_rows())
    return step_size(io.out_res, io.out_bound) * scale * float(layer.input_range.max())


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_without_noise_both_engines_agree_up_to_one_step(case):
    for hardware in HARDWARE:
        torch.default_generator.manual_seed(0)
        compiled, plain, inputs = pair(case, hardware)
        found, expected = compiled(inputs), plain(inputs)
        assert found.shape == expected.shape, hardware
        assert flips(found, expected) < 2e-3, hardware
        largest = 1.01 * largest_step(plain[0]) + 1e-5
        assert (found - expected).abs().max() <= largest, hardware


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", ["linear", "conv1d", "conv2d_wide", "conv3d", "transposed1d"])
@torch.no_grad()
def test_the_memory_order_of_the_input_does_not_matter(case, layout):
    compiled, plain, inputs = pair(case, layout=layout)
    before = inputs.clone()
    assert flips(compiled(inputs), plain(inputs)) < 2e-3
    assert torch.equal(inputs, before)


@torch.no_grad()
def test_channels_last_stays_channels_last():
    compiled, _, inputs = pair("conv2d")
    assert compiled(inputs.contiguous(memory_format=torch.channels_last)).is_contiguous(
        memory_format=torch.channels_last
    )
    up, _, taps = pair("transposed2d_shuffle")
    assert up(taps.contiguous(memory_format=torch.channels_last)).is_contiguous(
        memory_format=torch.channels_last
    )


@pytest.mark.parametrize("elements", [1, 1000, 4000])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_large_maps_are_cut_into_parts_without_a_trace(monkeypatch, case, elements):
    """Converters all but off: rounding would let the last bit of a convolution decide."""
    monkeypatch.setitem(HARDWARE, "fine", {"dac_steps": 1 << 20, "adc_steps": 1 << 20})
    compiled, _, inputs = pair(case, "fine", out_noise=0.04)
    monkeypatch.setattr(NumbaOps, "part_elements", None)
    torch.default_generator.manual_seed(1)
    whole = compiled(inputs)
    monkeypatch.setattr(NumbaOps, "part_elements", elements)
    monkeypatch.setattr(direct_engine, "_LEAST_REACHES", 1)
    torch.default_generator.manual_seed(1)
    assert (compiled(inputs) - whole).abs().max() < 1e-4 * whole.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["linear", "conv2d_wide", "transposed2d_shuffle", "conv3d"])
@torch.no_grad()
def test_noise_has_the_mean_and_deviation_of_the_definition(case):
    compiled, plain, inputs = pair(case, out_noise=0.04)
    draws = 300
    found = torch.stack([compiled(inputs) for _ in range(draws)]).double()
    expected = torch.stack([plain(inputs) for _ in range(draws)]).double()
    deviation = expected.std(0)
    # the difference of two means of 300 draws, over all outputs (correlated ones: not below 4)
    z = (found.mean(0) - expected.mean(0)) / (deviation * (2 / draws) ** 0.5)
    assert z.abs().max() < 6
    assert abs(z.square().mean() - 1) < 6 * (2 / z.numel()) ** 0.5
    ratio = found.var(0).mean().sqrt() / expected.var(0).mean().sqrt()
    assert abs(ratio - 1) < 6 / (2 * draws * z.numel()) ** 0.5 + 1e-3
    kurtosis = [((d - d.mean(0)) ** 4).mean() / d.var(0).square().mean() for d in (found, expected)]
    assert abs(kurtosis[0] / kurtosis[1] - 1) < 0.05


@torch.no_grad()
def test_outputs_of_one_read_are_independent_of_each_other():
    compiled, _, inputs = pair("conv2d", "no ADC", out_noise=0.04)
    draws = torch.stack([compiled(inputs).flatten() for _ in range(64)])
    centred = (draws - draws.mean(0)) / draws.std(0)
    for lag in (1, 30, 19 * 17, 30 * 19 * 17):
        products = centred[:, :-lag] * centred[:, lag:]
        assert abs(products.mean()) < 5 / products.numel() ** 0.5


def network():
    torch.default_generator.manual_seed(0)
    shared = nn.Conv2d(16, 16, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), shared, nn.ReLU(), shared,
        nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(8, 2, 1),
    ).eval()  # fmt: skip


def reading(**options):
    images = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    analog = convert(network(), create_rpu_config("pcm", tile_size=48, **options))
    return Chip(calibrate(analog, [images]), seed=1).at(3600.0), images


@pytest.mark.parametrize("split", [[7], [1, 6], [3, 3, 1], [1] * 7])
def test_the_noise_of_an_image_does_not_depend_on_the_batch_that_it_is_in(split):
    """Converters off: rounding would let the last bit of a convolution decide."""
    read, images = reading(dac_steps=0, adc_steps=0)
    whole = read.restart("case")(images)
    parts = torch.cat(list(map(read.restart("case"), images.split(split))))
    assert (parts - whole).abs().max() < 1e-5 * whole.abs().max()
    assert (read(images) - whole).abs().max() > 1e-3 * whole.abs().max()


def test_threads_do_not_change_the_logits():
    read, images = reading()
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(read.restart("case")(images))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


def test_restart_makes_the_order_of_cases_irrelevant():
    read, images = reading()
    forwards = {case: read.restart(case)(images) for case in ("a", "b")}
    assert torch.equal(read.restart("b")(images), forwards["b"])
    assert torch.equal(read.restart("a")(images), forwards["a"])
    assert not torch.equal(forwards["a"], forwards["b"])


@torch.no_grad()
def test_without_a_chip_noise_follows_torchs_seed():
    compiled, _, inputs = pair("conv2d", out_noise=0.04)
    torch.default_generator.manual_seed(3)
    first, second = compiled(inputs), compiled(inputs)
    torch.default_generator.manual_seed(3)
    assert torch.equal(compiled(inputs), first)
    assert not torch.equal(first, second)


def test_where_a_gradient_is_asked_for_the_training_engine_computes_it():
    compiled, plain, inputs = pair("conv2d")
    for model in (compiled, plain):
        model.train()
        torch.default_generator.manual_seed(1)
        model(inputs).square().sum().backward()
    weights, ranges = zip(
        *((model[0].weight.grad, model[0].input_range.grad) for model in (compiled, plain)),
        strict=True,
    )
    assert (weights[0] - weights[1]).norm() < 1e-2 * weights[1].norm()
    assert (ranges[0] - ranges[1]).norm() < 1e-2 * ranges[1].norm()


@pytest.mark.parametrize(
    "change",
    [
        {"inp_noise": 0.01},
        {"perfect": True},
    ],
)
@torch.no_grad()
def test_hardware_that_it_does_not_compute_is_left_to_torch_or_refused(change):
    model, config = nn.Sequential(nn.Linear(5, 3)).eval(), create_rpu_config("pcm", **change)
    analog = convert(model, config)
    inputs = torch.randn(4, 5)
    assert engines.engine_for(analog[0], inputs) is engines._TORCH
    with pytest.raises(ConfigError, match="backend='auto'"):
        convert(model, config, backend="numba")


@pytest.mark.parametrize("field", ["inp_sto_round", "out_sto_round"])
@torch.no_grad()
def test_stochastic_rounding_is_left_to_torch(field):
    config = create_rpu_config("pcm")
    setattr(config.forward, field, True)
    analog = convert(nn.Sequential(nn.Linear(5, 3)).eval(), config)
    assert engines.engine_for(analog[0], torch.randn(4, 5)) is engines._TORCH


@torch.no_grad()
def test_it_computes_where_it_can_and_only_there():
    compiled, plain, inputs = pair("linear")
    assert engines.engine_for(compiled[0], inputs) is engines._compiled_engine("cpu")
    assert engines.engine_for(plain[0], inputs) is engines._TORCH
    assert engines.engine_for(compiled[0].double(), inputs.double()) is engines._TORCH
    training = engines._training_engine("cpu")
    assert engines.engine_for(compiled[0].float().train(), inputs) is training
    with torch.enable_grad():
        assert engines.engine_for(compiled[0].eval(), inputs) is training


@torch.no_grad()
def test_an_empty_batch_gives_an_empty_output():
    compiled, plain, inputs = pair("linear")
    assert compiled(inputs[:0]).shape == plain(inputs[:0]).shape == (0, 50)


@torch.no_grad()
def test_nan_stays_nan():
    compiled, _, inputs = pair("conv2d")
    inputs[0, 0, 0, 0] = float("nan")
    outputs = compiled(inputs)
    assert outputs[0, :, 0, 0].isnan().all()
    assert not outputs[1:].isnan().any()


@torch.no_grad()
def test_changed_input_ranges_and_weights_are_seen():
    compiled, plain, inputs = pair("conv2d_wide")
    compiled(inputs)
    for model in (compiled, plain):
        model[0].input_range.mul_(0.5)
        model[0].weight.mul_(torch.linspace(0.5, 1, 30)[:, None, None, None])
    assert flips(compiled(inputs), plain(inputs)) < 2e-3


@pytest.mark.parametrize("case", ["linear", "conv2d", "conv2d_grouped"])
@torch.no_grad()
def test_a_negative_input_range_is_treated_as_the_definition_does(case):
    compiled, plain, inputs = pair(case)
    for model in (compiled, plain):
        model[0].input_range[0] *= -1
    found, expected = compiled(inputs), plain(inputs)
    assert flips(found, expected) < 2e-3
    assert (found - expected).abs().max() <= 1.01 * largest_step(plain[0]) + 1e-5


@torch.inference_mode()
def test_it_runs_in_inference_mode_and_in_a_copy():
    compiled, plain, inputs = pair("conv2d")
    assert flips(copy.deepcopy(compiled)(inputs), plain(inputs)) < 2e-3


@pytest.fixture(params=[torch.float64, torch.bfloat16])
def default_type(request):
    torch.set_default_dtype(request.param)
    yield
    torch.set_default_dtype(torch.float32)


def in_float32(**hardware):
    config = create_rpu_config("pcm", tile_size=32, **hardware)
    layers = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(8, 4, 3, groups=2)
    return convert(nn.Sequential(*layers).float(), config, backend="numba")


@pytest.mark.parametrize(
    "hardware", [{}, {"noise_management": "abs_max"}, {"weight_noise": "pcm_read"}]
)
def test_networks_in_float32_do_not_care_for_torchs_default_type(default_type, hardware):
    model, images = in_float32(weight_noise_std=0.01, **hardware), torch.rand(2, 6, 9, 9).float()
    calibrate(model, [images])
    found = Chip(model).at(0.0)(images)
    torch.set_default_dtype(torch.float32)
    assert torch.equal(found, Chip(model).at(0.0)(images))


def test_gradients_in_float32_do_not_care_for_torchs_default_type(default_type):
    model = in_float32(modifier="none").train()
    images = torch.rand(2, 6, 9, 9).float()

    def gradients():
        torch.default_generator.manual_seed(1)
        model.zero_grad()
        model(images).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    found = gradients()
    torch.set_default_dtype(torch.float32)
    assert all(map(torch.equal, found, gradients()))


@pytest.mark.parametrize("batch", [1, 2])
def test_an_image_smaller_than_the_kernel_gets_torchs_error(batch):
    model = convert(nn.Sequential(nn.Conv2d(3, 8, 5)), create_rpu_config(), backend="numba")
    calibrate(model, [torch.rand(batch, 3, 8, 8)])
    with pytest.raises(RuntimeError, match="Kernel size"):
        Chip(model).at(0.0)(torch.rand(batch, 3, 4, 4))
