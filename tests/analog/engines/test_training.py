"""The training engine against the reference engine, whose gradients are autograd's."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from analogmed.analog import calibrate, convert, create_rpu_config
from analogmed.analog.engines import select as engines
from analogmed.analog.engines.cpu.training_ops import NumbaTrainingOps
from analogmed.analog.tile.noise_stream import NoiseStream
from analogmed.analog.tile.rows import LayerSnapshot, TileRow

pytestmark = [
    pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel"),
    pytest.mark.filterwarnings("ignore:calibrate. sums of"),  # bounds are small on purpose
]

# layer, input shape; tiles of 48 x 20 cut most of them in rows and columns, many within a channel
CASES = {
    "linear": (lambda: nn.Linear(130, 50), (40, 130)),
    "linear_tokens": (lambda: nn.Linear(130, 50, bias=False), (2, 3, 20, 130)),
    "conv1d": (lambda: nn.Conv1d(20, 30, 5, stride=2, padding=2), (3, 20, 30)),
    "conv2d": (lambda: nn.Conv2d(20, 30, 3, padding=1), (3, 20, 19, 17)),
    "conv2d_pointwise": (lambda: nn.Conv2d(60, 30, 1), (3, 60, 9, 7)),
    "conv2d_unbatched": (lambda: nn.Conv2d(20, 30, 3, padding=1), (20, 9, 10)),
    "conv2d_large_kernel": (lambda: nn.Conv2d(3, 8, 11, padding=5), (2, 3, 14, 15)),
    "conv2d_strided_dilated": (
        lambda: nn.Conv2d(20, 30, (3, 2), (2, 1), (2, 0), (2, 3)),
        (2, 20, 12, 11),
    ),
    "conv2d_grouped": (lambda: nn.Conv2d(24, 48, 3, padding=1, groups=2), (2, 24, 8, 8)),
    "conv2d_depthwise": (lambda: nn.Conv2d(6, 6, 3, groups=6), (2, 6, 8, 8)),
    "conv2d_one_channel": (lambda: nn.Conv2d(1, 8, 9, padding=4), (2, 1, 12, 11)),
    "conv2d_large_depthwise": (
        lambda: nn.Conv2d(4, 4, 9, padding=4, groups=4),
        (2, 4, 9, 10),
    ),
    "conv3d_one_channel": (lambda: nn.Conv3d(1, 4, 5, padding=2), (2, 1, 6, 5, 7)),
    "conv3d_two_channels": (lambda: nn.Conv3d(2, 4, 5, padding=2), (2, 2, 6, 5, 7)),
    "conv2d_same": (lambda: nn.Conv2d(8, 6, (4, 3), padding="same"), (2, 8, 9, 8)),
    "conv2d_reflect": (
        lambda: nn.Conv2d(8, 6, 3, padding=2, padding_mode="reflect"),
        (2, 8, 8, 8),
    ),
    "conv3d": (lambda: nn.Conv3d(6, 10, 3, padding=1), (2, 6, 6, 5, 7)),
    "conv3d_one_volume": (lambda: nn.Conv3d(6, 10, (3, 1, 2), groups=2), (1, 6, 6, 5, 7)),
    "transposed1d": (lambda: nn.ConvTranspose1d(60, 8, 5, 2, 1, dilation=2), (2, 60, 9)),
    "transposed2d_shuffle": (lambda: nn.ConvTranspose2d(60, 8, 2, 2), (2, 60, 6, 5)),
    "transposed2d_grouped": (
        lambda: nn.ConvTranspose2d(120, 12, 3, 2, 1, output_padding=1, groups=2),
        (2, 120, 6, 5),
    ),
    "transposed3d_shuffle": (lambda: nn.ConvTranspose3d(60, 6, 2, 2), (2, 60, 4, 4, 3)),
}
HARDWARE = {
    "8 bits": {},
    "ADC clips": {"out_bound": 1.0},
    "some ADCs clip": {"out_bound": 2.5},
    "3 bits, 5 bits, channelwise": {"dac_steps": 7, "adc_steps": 31, "remap": "channelwise"},
    "half a step at the bound": {"dac_steps": 15, "adc_steps": 15, "out_bound": 2.0},
    "DAC clips": {"inp_bound": 0.75, "out_bound": 1.5},
    "no DAC": {"dac_steps": 0},
    "no ADC": {"adc_steps": 0, "out_bound": 1.5},
    "no range": {"input_range": False, "out_bound": 2.0},
    "fixed weights": {"modifier": "none", "row_split": "channels"},
    "learned scales": {"learned_out_scale": "column", "out_bound": 2.0},
}
FINE = {"dac_steps": 0, "adc_steps": 0}


def pair(case, *, out_noise=0.0, row_split="even", **options):
    """The same layer on both engines, in training; its row tiles have ranges of their own."""
    torch.default_generator.manual_seed(7)
    make, shape = CASES[case]
    inputs = torch.randn(shape)
    options = {"input_range_keep": 0.95} | options
    config = create_rpu_config("pcm", tile_size=(48, 20), out_noise=out_noise, **options)
    model = nn.Sequential(make())
    compiled, plain = (
        convert(model, config, backend=name, row_split=row_split) for name in ("numba", "torch")
    )
    batch = inputs[None] if case.endswith("unbatched") else inputs
    calibrate(compiled, [batch], quantile=0.99)
    ranges = compiled[0].input_range
    if ranges is not None:
        ranges.data *= torch.linspace(0.5, 1.2, len(ranges))
    if compiled[0].out_scale is not None:
        compiled[0].out_scale.data.uniform_(0.5, 1.5)
    plain.load_state_dict(compiled.state_dict())
    return compiled.train(), plain.train(), inputs


def gradients(model, inputs, *, seed=3):
    """The output, and what its weighted sum gives back to inputs and parameters."""
    model.zero_grad()
    inputs = inputs.clone(memory_format=torch.preserve_format).requires_grad_()
    torch.default_generator.manual_seed(seed)
    outputs = model(inputs)
    weighting = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    (outputs * weighting).sum().backward()
    found = {"output": outputs.detach(), "input": inputs.grad}
    return found | {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_equal(found, expected, tolerance, hardware=""):
    """Relative to the norm; a rounding that flips, by the last bit of a convolution, shows."""
    assert found.keys() == expected.keys()
    for name in found:
        if found[name] is None or expected[name] is None:
            assert found[name] is expected[name], (name, hardware)
            continue
        difference = (found[name] - expected[name]).norm()
        assert difference <= tolerance * expected[name].norm(), (name, hardware)


@pytest.mark.parametrize("case", CASES)
def test_output_and_all_gradients_equal_the_definition(case):
    for hardware, settings in HARDWARE.items():
        compiled, plain, inputs = pair(case, **settings)
        engine = engines.engine_for(compiled[0], inputs)
        assert isinstance(engine, engines.TrainingEngine), hardware
        assert_equal(gradients(compiled, inputs), gradients(plain, inputs), 5e-3, hardware)


@pytest.mark.parametrize("case", CASES)
def test_without_rounding_they_are_equal_to_float_precision(case):
    compiled, plain, inputs = pair(case, out_bound=1.5, **FINE)
    assert_equal(gradients(compiled, inputs), gradients(plain, inputs), 1e-5)


@pytest.mark.parametrize("case", ["linear", "conv2d", "conv3d", "transposed2d_shuffle"])
def test_in_evaluation_they_are_equal_too(case):
    compiled, plain, inputs = pair(case, out_bound=1.5, **FINE)
    assert_equal(gradients(compiled.eval(), inputs), gradients(plain.eval(), inputs), 1e-5)


def test_a_negative_input_range_is_treated_as_the_definition_does():
    compiled, plain, inputs = pair("conv2d", **FINE)
    for model in (compiled, plain):
        model[0].input_range.data[1] *= -1
    assert_equal(gradients(compiled, inputs), gradients(plain, inputs), 1e-5)


def test_ranges_that_are_not_learned_have_no_gradient_and_change_no_other():
    compiled, plain, inputs = pair("conv2d", out_bound=1.5, **FINE)
    for model in (compiled, plain):
        model[0].input_range.requires_grad_(False)
    found = gradients(compiled, inputs)
    assert found["0.input_range"] is None
    assert_equal(found, gradients(plain, inputs), 1e-5)


def exact_layer(**options):
    """Weights 1 and 1/2, range 1, no noise and no rounding: outputs and gradients by hand."""
    config = create_rpu_config("pcm", out_noise=0.0, modifier="none", **(FINE | options))
    layer = convert(nn.Linear(2, 1, bias=False), config, backend="numba").train()
    layer.weight.data = torch.tensor([[1.0, 0.5]])
    layer.input_range.data.fill_(1.0)
    return layer


def test_an_input_outside_of_its_range_has_no_gradient_and_one_at_the_range_has():
    inputs = torch.tensor([[1.0, -1.0], [1.001, 0.3], [0.2, -1.001]], requires_grad=True)
    exact_layer()(inputs).sum().backward()
    assert inputs.grad.tolist() == [[1.0, 0.5], [0.0, 0.5], [1.0, 0.0]]


def test_an_output_that_the_adc_clips_gives_no_gradient():
    layer = exact_layer(out_bound=1.25)
    inputs = torch.tensor([[1.0, 1.0], [1.0, 0.5], [-1.0, -1.0]], requires_grad=True)
    outputs = layer(inputs)
    assert outputs.flatten().tolist() == [1.25, 1.25, -1.25]
    outputs.sum().backward()
    assert inputs.grad.tolist() == [[0.0, 0.0], [1.0, 0.5], [0.0, 0.0]]
    assert layer.weight.grad.tolist() == [[1.0, 0.5]]


@pytest.mark.parametrize("elements", [1, 2000, None])
@pytest.mark.parametrize("case", ["linear", "conv2d", "conv3d"])
def test_a_large_batch_is_cut_into_parts_without_a_trace(monkeypatch, case, elements):
    compiled, _, inputs = pair(case, out_bound=1.5, out_noise=0.04, **FINE)
    whole = gradients(compiled, inputs)
    monkeypatch.setattr(NumbaTrainingOps, "part_elements", elements)
    assert_equal(gradients(compiled, inputs), whole, 1e-5)


@pytest.mark.parametrize("case", ["conv2d", "conv3d", "transposed2d_shuffle"])
def test_the_memory_format_changes_nothing_but_that_of_outputs_and_gradients(case):
    compiled, _, inputs = pair(case, out_bound=1.5, **FINE)
    last = torch.channels_last if inputs.ndim == 4 else torch.channels_last_3d
    expected = gradients(compiled, inputs)
    found = gradients(compiled, inputs.contiguous(memory_format=last))
    assert_equal(found, expected, 1e-5)
    for name in ("output", "input"):
        assert expected[name].is_contiguous()
        assert found[name].is_contiguous(memory_format=last)


@pytest.mark.slow
def test_strided_inputs_and_expanded_gradients_are_taken():
    compiled, plain, inputs = pair("conv2d", **FINE)
    wide = inputs.repeat_interleave(2, -1)[..., ::2]
    for model in (compiled, plain):
        torch.default_generator.manual_seed(3)
        model(wide).sum().backward()
    torch.testing.assert_close(compiled[0].weight.grad, plain[0].weight.grad, rtol=1e-4, atol=1e-3)


def test_threads_do_not_change_sums_beyond_rounding():
    compiled, _, inputs = pair("conv2d", out_noise=0.04, out_bound=1.5, **FINE)
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(gradients(compiled, inputs))
    finally:
        torch.set_num_threads(threads)
    assert_equal(*found, 1e-5)


def test_torchs_seed_decides_the_noise_of_weights_and_outputs():
    compiled, _, inputs = pair("conv2d", out_noise=0.04)
    first, second = gradients(compiled, inputs), gradients(compiled, inputs)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["output"], gradients(compiled, inputs, seed=4)["output"])


def test_without_a_gradient_training_gives_the_same_outputs():
    compiled, _, inputs = pair("conv2d", out_noise=0.04)
    expected = gradients(compiled, inputs)["output"]
    torch.default_generator.manual_seed(3)
    with torch.no_grad():
        assert torch.equal(compiled(inputs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"modifier": "none"}, {"out_noise": 0.0}], ids=str)
@torch.no_grad()
def test_noise_has_the_mean_and_deviation_of_the_definition(options):
    options = {"out_noise": 0.04} | options
    compiled, plain, inputs = pair("linear", **options)
    draws = 300
    found = torch.stack([compiled(inputs) for _ in range(draws)]).double()
    expected = torch.stack([plain(inputs) for _ in range(draws)]).double()
    # the difference of two means of 300 draws; outputs of one draw share the weights' noise
    z = (found.mean(0) - expected.mean(0)) / (expected.std(0) * (2 / draws) ** 0.5)
    assert z.abs().max() < 6
    ratio = found.var(0).mean().sqrt() / expected.var(0).mean().sqrt()
    assert abs(ratio - 1) < 0.02


def lend(layer):
    """A reading whose weights are not the layer's, as a chip's are not."""
    rows = tuple(
        TileRow(row.weight.detach() * 0.9, row.scale.detach() * 1.1)
        for row in layer.reference_rows()
    )
    layer.reading = LayerSnapshot(rows, NoiseStream())
    return layer


@pytest.mark.parametrize("case", ["linear", "conv2d", "transposed2d_grouped"])
def test_a_chip_that_is_read_gives_gradients_by_inputs(case):
    compiled, plain, inputs = pair(case, out_bound=1.5, **FINE)
    for model in (compiled, plain):
        lend(model[0].eval())
    found, expected = gradients(compiled, inputs), gradients(plain, inputs)
    assert found["0.weight"] is None
    assert_equal(found, expected, 1e-5)


def test_a_checkpointed_layer_and_a_copy_give_the_same_gradients():
    compiled, _, inputs = pair("conv2d", out_noise=0.04)
    expected = gradients(compiled, inputs)
    assert_equal(gradients(copy.deepcopy(compiled), inputs), expected, 0.0)
    model = copy.deepcopy(compiled)
    inner = model[0].forward
    model[0].forward = lambda x: checkpoint(inner, x, use_reentrant=False)
    assert_equal(gradients(model, inputs), expected, 0.0)


def test_a_second_derivative_is_refused():
    compiled, _, inputs = pair("linear")
    inputs.requires_grad_()
    loss = compiled(inputs).square().sum()
    (slope,) = torch.autograd.grad(loss, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def network():
    torch.default_generator.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(8, 1, 1),
    )  # fmt: skip


def loss_curve(backend, *, steps, **options):
    """Losses of a network that learns where an image is above its blurred self."""
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 16, 16, generator=draw)
    target = (images.mean(1, keepdim=True) > 0).float()
    config = create_rpu_config("pcm", tile_size=48, **options)
    model = calibrate(convert(network(), config, backend=backend), [images]).train()
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    torch.default_generator.manual_seed(2)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(model(images), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses)


@pytest.mark.slow
def test_a_network_learns_step_by_step_as_with_the_definition():
    """With the same weight noise, and output noise off; rounding flips bring a little chaos."""
    found, expected = (loss_curve(b, steps=40, out_noise=0.0) for b in ("numba", "torch"))
    assert expected[-5:].mean() < 0.8 * expected[0]
    assert (found[:5] - expected[:5]).abs().max() < 0.01
    assert (found - expected).abs().max() < 0.05


@pytest.mark.slow
def test_with_all_noise_a_network_learns_as_well_as_with_the_definition():
    found, expected = (loss_curve(b, steps=60) for b in ("numba", "torch"))
    assert expected[-10:].mean() < 0.7 * expected[0]
    assert abs(found[-10:].mean() - expected[-10:].mean()) < 0.05


@pytest.mark.parametrize(
    "change", [{"noise_management": "abs_max"}, {"inp_noise": 0.01}, {"perfect": True}], ids=str
)
def test_other_hardware_is_left_to_torch(change):
    layer = convert(nn.Sequential(nn.Linear(5, 3)), create_rpu_config("pcm", **change))[0]
    assert engines.engine_for(layer.train(), torch.randn(4, 5)) is engines._TORCH


def test_double_precision_is_left_to_torch():
    compiled, plain, inputs = pair("linear")
    assert engines.engine_for(plain[0], inputs) is engines._TORCH
    assert engines.engine_for(compiled[0].double(), inputs.double()) is engines._TORCH
