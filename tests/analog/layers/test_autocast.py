"""Mixed precision: analog layers compute in the data type of their weight in any context."""

import pytest
import torch
from torch import nn

from analogmed.analog import Chip, TrainingNoise, calibrate, convert, create_rpu_config
from analogmed.models import build_model

BFLOAT16 = {"device_type": "cpu", "dtype": torch.bfloat16}
LAYERS = {
    "linear": (lambda: nn.Linear(30, 12), (5, 30)),
    "conv1d": (lambda: nn.Conv1d(6, 8, 3), (2, 6, 9)),
    "conv2d_reflected": (lambda: nn.Conv2d(6, 8, 3, 1, 1, padding_mode="reflect"), (2, 6, 9, 9)),
    "conv3d": (lambda: nn.Conv3d(4, 6, 3), (2, 4, 5, 5, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(12, 5, 3, 2, output_padding=1), (2, 12, 5, 5)),
    "transposed3d_shuffle": (lambda: nn.ConvTranspose3d(12, 5, 2, 2), (2, 12, 3, 3, 3)),
}  # fmt: skip
NETWORKS = {
    "unet": {"features": 8},
    "swin_unetr": {"feature_size": 12},
}


def layer_of(name, backend, **options):
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    inputs = torch.randn(shape).bfloat16()
    config = create_rpu_config("pcm", tile_size=20, **options)
    model = convert(nn.Sequential(build()), config, backend=backend)
    return calibrate(model, [inputs.float()]), inputs


def gradients(model, inputs, *, lowered):
    model.zero_grad()
    inputs = inputs.clone().requires_grad_()
    torch.manual_seed(1)
    with torch.autocast(**BFLOAT16, enabled=lowered):
        outputs = model(inputs)
        weighting = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(2))
        (outputs * weighting).sum().backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    return found | {"output": outputs.detach(), "input": inputs.grad}


@pytest.mark.parametrize("management", ["none", "abs_max"])
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("layer", LAYERS)
def test_outputs_are_those_in_float32_of_the_same_inputs(layer, backend, management):
    model, inputs = layer_of(layer, backend, noise_management=management)
    for mode in (model.train(), model.eval()):
        torch.manual_seed(3)
        with torch.no_grad():
            expected = mode(inputs.float())
        torch.manual_seed(3)
        with torch.no_grad(), torch.autocast(**BFLOAT16):
            found = mode(inputs)
        assert found.dtype is torch.float32
        assert torch.equal(found, expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_gradients_are_those_in_float32_also_of_a_backward_under_autocast(layer):
    """That of the input comes in the input's own type."""
    model, inputs = layer_of(layer, "auto", out_bound=2.0)
    model.train()
    expected = gradients(model, inputs.float(), lowered=False)
    found = gradients(model, inputs, lowered=True)
    assert found["input"].dtype is torch.bfloat16
    expected["input"] = expected["input"].bfloat16()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def analog_network(name):
    torch.manual_seed(0)
    model = build_model(name, in_channels=3, out_channels=2, spatial_dims=2, **NETWORKS[name])
    images = torch.randn(2, 3, 64, 64)
    return calibrate(convert(model, create_rpu_config("pcm")), [images]).train(), images


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["modifier", "chips"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_trains(name, kind):
    model, images = analog_network(name)
    with TrainingNoise(model, weights=kind).step(0):
        with torch.autocast(**BFLOAT16):
            outputs = model(images)
        outputs.float().square().mean().backward()
    assert outputs.shape == (2, 2, 64, 64)
    for name, parameter in model.named_parameters():
        assert parameter.dtype is torch.float32, name
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    assert sum(parameter.grad is not None for parameter in model.parameters()) > 20


@pytest.mark.slow
def test_attention_between_analog_layers_is_computed_in_bfloat16():
    model, images = analog_network("swin_unetr")
    seen = []
    for block in model.modules():
        if type(block).__name__ == "WindowAttention":
            block.proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.no_grad(), torch.autocast(**BFLOAT16):
        model(images)
    assert set(seen) == {torch.bfloat16}


@torch.no_grad()
def test_a_chip_programmed_under_autocast_is_the_same():
    model, _ = layer_of("linear", "auto", drift_compensation="global_exact")
    plain = Chip(model, seed=3).at(1e5).readings["0"].rows
    with torch.autocast(**BFLOAT16):
        lowered = Chip(model, seed=3).at(1e5).readings["0"].rows
    for one, other in zip(plain, lowered, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.scale, other.scale)


def test_other_types_are_refused_outside_of_autocast_as_torch_does():
    model, inputs = layer_of("linear", "torch")
    with pytest.raises(RuntimeError, match="dtype"):
        model(inputs)
