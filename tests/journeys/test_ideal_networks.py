"""Every network of the registry on perfect analog hardware is the digital network."""

import pytest
import torch

from analogmed.analog import Chip, convert, coverage, create_rpu_config
from analogmed.models import build_model

SMALL = {
    "unet": {"features": 4},
    "unetpp": {"features": (4, 4, 8, 8, 8, 4)},
    "swin_unetr": {"feature_size": 12, "window_size": 4},
    "attention_unet": {"channels": (4, 8, 8), "strides": (2, 2)},
    "dynunet": {"window": 32, "filters": (4, 8, 8, 8)},
}
CASES = [(name, dims) for name in SMALL for dims in (2, 3)]


def network(name, spatial_dims):
    torch.manual_seed(0)
    model = build_model(
        name, in_channels=2, out_channels=2, spatial_dims=spatial_dims, **SMALL[name]
    )
    side = 64 if name == "swin_unetr" else 32
    return model.eval(), torch.rand(1, 2, *(side,) * spatial_dims)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spatial_dims"), CASES)
@torch.no_grad()
def test_ideal_hardware_gives_the_digital_logits(name, spatial_dims):
    model, images = network(name, spatial_dims)
    expected = model(images)
    analog = convert(model, create_rpu_config("ideal", tile_size=64))
    largest = expected.abs().max().item()
    torch.testing.assert_close(analog(images), expected, rtol=1e-5, atol=1e-5 * largest)
    aged = Chip(analog, seed=0).at(86_400.0)(images)
    torch.testing.assert_close(aged, expected, rtol=1e-5, atol=1e-5 * largest)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "spatial_dims"), CASES)
def test_all_weights_that_multiply_are_analog(name, spatial_dims):
    model, images = network(name, spatial_dims)
    report = coverage(convert(model, create_rpu_config("pcm")), tuple(images.shape))
    matrices = sum(p.numel() for n, p in model.named_parameters() if is_a_matrix(n, p))
    assert report.weight_share == report.mac_share == 1.0
    assert report.digital_layers == {}
    analog = sum(model.get_submodule(n).weight.numel() for n in report.analog_layers)
    assert analog == matrices


def is_a_matrix(name, parameter):
    """Swin's relative position bias is a table that is added, not multiplied."""
    return parameter.ndim > 1 and not name.endswith("relative_position_bias_table")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_two_chips_of_noisy_hardware_disagree_with_each_other_and_with_the_digital_logits(name):
    model, images = network(name, 2)
    analog = convert(model, create_rpu_config("analognas"))
    digital = model(images)
    first, second = (Chip(analog, seed=seed).at(0.0)(images) for seed in (0, 1))
    assert torch.isfinite(first).all()
    assert not torch.equal(first, second)
    assert not torch.allclose(first, digital, rtol=1e-3)
