"""Weights stored several times on a tile, against the same network with its rows written out."""

import copy
import math

import pytest
import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfigIRDropT
from torch import nn

from analogmed.analog import (
    Chip,
    TrainingNoise,
    calibrate,
    convert,
    create_rpu_config,
    to_aihwkit,
)
from analogmed.foundation.errors import ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:calibrate. sums of")  # bounds are small on purpose

NOISELESS = {"out_noise": 0.0, "prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0}
EXACT = {"dac_steps": 0, "adc_steps": 0, "out_bound": 1e6, "out_noise": 0.0}


def linear():
    torch.manual_seed(0)
    return nn.Linear(9, 400), torch.rand(50, 9) - 0.3


def convolution():
    torch.manual_seed(0)
    return nn.Conv2d(3, 40, 3, padding=1), torch.rand(4, 3, 12, 12) - 0.3


def grouped():
    torch.manual_seed(0)
    return nn.Conv2d(6, 40, 3, groups=2), torch.rand(4, 6, 12, 12) - 0.3


def transposed():
    torch.manual_seed(0)
    return nn.ConvTranspose2d(5, 8, 2, 2), torch.rand(4, 5, 6, 6) - 0.3


def analog(layer, images, **arguments):
    return calibrate(convert(layer, create_rpu_config("pcm", **arguments)), [images])


def written_out(layer, copies):
    """The layer with that many copies of its inputs, on rows of their own, and their sum."""
    twin = copy.deepcopy(layer)
    channels = 0 if getattr(layer, "transposed", False) else 1
    repeats = [copies if axis == channels else 1 for axis in range(layer.weight.ndim)]
    twin.weight = nn.Parameter(layer.weight.detach().repeat(repeats))
    if isinstance(layer, nn.Linear):
        twin.in_features *= copies
    else:
        twin.in_channels *= copies
    twin.bias = None
    return twin


REFERENCES = [(case, b) for case in (linear, convolution) for b in ("numba", "torch", "aihwkit")]
REFERENCES += [(transposed, "numba"), (transposed, "torch")]  # aihwkit has none on tiles


@pytest.mark.parametrize(("case", "backend"), REFERENCES)
def test_a_layer_with_copies_is_the_layer_with_its_rows_written_out(case, backend):
    layer, inputs = case()
    own = analog(layer, inputs, row_copies=4, out_bound=4.0, **NOISELESS).eval()
    assert own.copies == 4
    config = create_rpu_config("pcm", out_bound=4.0, **NOISELESS)
    repeated = inputs.repeat(1, 4, *(1,) * (inputs.ndim - 2))
    long = calibrate(convert(written_out(layer, 4), config, backend=backend), [repeated])
    sums = long.eval()(repeated)
    bias = layer.bias.detach().reshape(1, -1, *(1,) * (inputs.ndim - 2))
    with torch.no_grad():
        torch.testing.assert_close(own(inputs), sums / 4 + bias, atol=2e-6, rtol=1e-5)
        clipped = (sums.abs() >= sums.abs().max() - 1e-6).float().mean()
        assert 0.001 < clipped < 0.5  # so that the converter's bound is compared too


@pytest.mark.parametrize("case", [linear, convolution, grouped])
def test_the_errors_of_the_devices_average_over_the_copies(case):
    layer, images = case()

    def error(copies):
        model = analog(layer, images, row_copies=copies, **EXACT)
        with torch.no_grad():
            chip = Chip(model, seed=1).at("1 day")
            return model.copies, (chip(images) - layer(images)).std()

    (one, single), (copies, averaged) = error(1), error(4)
    assert (one, copies) == (1, 4)
    assert single / averaged == pytest.approx(math.sqrt(copies), rel=0.15)


def test_output_noise_falls_with_the_number_of_copies():
    layer, inputs = linear()
    quiet = {"dac_steps": 0, "adc_steps": 0, "out_bound": 1e6, "prog_noise_scale": 0.0}

    def noise(copies):
        model = analog(layer, inputs, row_copies=copies, read_noise_scale=0.0, **quiet)
        chip = Chip(model).at(0)
        return (chip(torch.zeros(100, 9)) - layer.bias.detach()).std()

    assert noise(1) / noise(7) == pytest.approx(7, rel=0.03)


def test_the_noise_of_training_averages_over_the_copies():
    layer, inputs = linear()
    for weights in ("modifier", "chips"):
        found = []
        for copies in (1, 4):
            model = nn.Sequential(analog(layer, inputs, row_copies=copies))
            with TrainingNoise(model, weights=weights).step(3):
                (perturbed,) = model[0].disturbance.weights
                gains = model[0].disturbance.gains
                gain = 1 if gains is None else gains[0][:, :, None]
                exact = model[0].reference_rows()[0].weight.detach()
                found.append(float((perturbed * gain - exact).std()))
        assert found[0] / found[1] == pytest.approx(2, rel=0.15)


def test_the_layers_own_modifier_averages_over_the_copies():
    layer, inputs = linear()
    rows = [
        analog(layer, inputs, row_copies=copies, modifier_std=0.1).train().tile_rows()[0].weight
        for copies in (1, 4)
    ]
    exact = analog(layer, inputs).reference_rows()[0].weight
    one, four = (float((weight - exact).detach().std()) for weight in rows)
    assert one / four == pytest.approx(2, rel=0.1)


def test_both_engines_train_copies_alike():
    layer, inputs = convolution()
    gradients = []
    for backend in ("numba", "torch"):
        config = create_rpu_config("pcm", row_copies=4, out_bound=4.0, modifier="none", **NOISELESS)
        model = calibrate(convert(layer, config, backend=backend), [inputs]).train()
        images = inputs.clone().requires_grad_()
        model(images).square().sum().backward()
        gradients.append((images.grad, model.weight.grad, model.input_range.grad))
    for mine, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, reference, atol=1e-3, rtol=1e-3)


def test_a_full_tile_and_a_layer_of_several_tiles_have_one_copy():
    for rows, tile, copies in ((512, 512, 1), (600, 512, 1), (200, 512, 1), (128, 512, 2)):
        config = create_rpu_config("pcm", tile_size=tile, row_copies=8)
        assert convert(nn.Linear(rows, 4), config).copies == copies


def test_copies_are_refused_where_they_are_not_computed():
    layer, _ = linear()
    config = create_rpu_config("pcm", row_copies=4)
    for on_aihwkit in (
        lambda: convert(nn.Sequential(layer), config, backend="aihwkit"),
        lambda: to_aihwkit(convert(nn.Sequential(layer), config)),
    ):
        with pytest.raises(ConfigError, match=r"row_copies: aihwkit's own .* layer '0' 4 times"):
            on_aihwkit()
    pulses = TorchInferenceRPUConfigIRDropT()
    pulses.mapping.row_copies = 4
    pulses.forward.ir_drop = 1.0
    with pytest.raises(ConfigError, match=r"mapping.row_copies = 4 \(with IR drop\)"):
        convert(layer, pulses)
    assert convert(layer, create_rpu_config("pcm", row_copies=4), backend="torch").copies == 4
