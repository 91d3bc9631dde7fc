import math

import pytest
import torch
from torch import nn

from analogmed.analog import (
    WeightClipper,
    calibrate,
    convert,
    create_rpu_config,
    from_aihwkit,
)

LAYERS = {
    "linear": lambda: nn.Linear(90, 70),
    "conv2d_grouped": lambda: nn.Conv2d(24, 40, 3, groups=2),
    "transposed3d": lambda: nn.ConvTranspose3d(50, 6, 2, 2),
}


def step_both(analog, arrays, clipper, noise):
    """The same step of an optimizer and of the clipping on our layer and on aihwkit's tiles."""
    for array, part in zip(arrays, noise, strict=True):
        rows = part.split(array.in_sizes, 1)
        for row, block_row in zip(array.array, rows, strict=True):
            for tile, block in zip(row, block_row.split(array.out_sizes), strict=True):
                tile.tile.weight.data += block / tile.get_mapping_scales().reshape(-1, 1)
                tile.post_update_step()
    with torch.no_grad():
        analog.set_weight_matrix(analog.weight_matrix() + noise)
    clipper.step()


@pytest.mark.parametrize("remap", ["none", "layerwise", "channelwise"])
@pytest.mark.parametrize("clip", ["layer_gaussian", "fixed"])
@pytest.mark.parametrize("kind", LAYERS)
def test_clipping_follows_aihwkits_tiles_over_several_steps(
    kind, clip, remap, analog_of, oracle_tiles
):
    config = create_rpu_config(
        "pcm", tile_size=(48, 20), clip=clip, clip_sigma=1.5, clip_value=0.9, remap=remap
    )
    analog = analog_of(LAYERS[kind](), config)
    arrays = oracle_tiles[0](analog)
    clipper = WeightClipper(analog)
    before = analog.weight.detach().clone()
    for _ in range(3):
        step_both(analog, arrays, clipper, 0.05 * torch.randn_like(analog.weight_matrix()))
        expected = torch.stack([a.get_weights(apply_weight_scaling=True)[0] for a in arrays])
        torch.testing.assert_close(analog.weight_matrix().detach(), expected, atol=1e-6, rtol=1e-5)
    assert analog.weight.abs().max() < (before + 0.15).abs().max()


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(8, 12, 3), nn.ConvTranspose2d(8, 12, 3), nn.Conv2d(8, 12, 3, groups=2)]
)
def test_weights_in_channels_last_are_clipped_just_as_others(layer, analog_of):
    config = create_rpu_config("pcm", clip_sigma=1.0)
    plain = analog_of(layer, config)
    last = analog_of(layer, config).to(memory_format=torch.channels_last)
    assert not last.weight.is_contiguous()
    for analog in (plain, last):
        WeightClipper(analog).step()
    assert torch.equal(last.weight, plain.weight)
    assert last.weight.abs().max() < layer.weight.abs().max()


def test_hardware_without_clipping_leaves_the_weights(analog_of):
    analog = analog_of(nn.Linear(20, 10), create_rpu_config("pcm", clip="none"))
    before = analog.weight.clone()
    WeightClipper(analog).step()
    assert torch.equal(analog.weight, before)


def test_a_fixed_value_clips_gaussian_clipping_too(analog_of, oracle_tiles):
    config = create_rpu_config("pcm", clip_sigma=2.0)
    config.clip.fixed_value = 0.8  # aihwkit: "if > 0 it will be also applied during other types"
    analog = analog_of(nn.Linear(20, 10), config)
    arrays = oracle_tiles[0](analog)
    step_both(analog, arrays, WeightClipper(analog), torch.zeros(1, 10, 20))
    expected = arrays[0].get_weights(apply_weight_scaling=True)[0]
    torch.testing.assert_close(analog.weight.detach(), expected)


@pytest.mark.parametrize("backend", ["auto", "aihwkit"])
def test_a_learned_range_stays_positive_whatever_adam_does(backend):
    """Inputs that nearly vanish let it decay; a step of Adam is as large as the learning rate."""
    config = create_rpu_config("pcm", out_noise=0.0)
    model = convert(nn.Sequential(nn.Linear(8, 4)), config, backend=backend).train()
    inputs = torch.randn(16, 8)
    calibrate(model, [1e-2 * inputs])
    ranges = [p for name, p in model.named_parameters() if name.endswith("input_range")]
    start = torch.cat([each.detach().clone() for each in ranges])
    optimizer = torch.optim.AdamW(ranges, 2e-3)
    clipper = WeightClipper(model)
    lowest = math.inf
    for _ in range(30):
        optimizer.zero_grad()
        model(1e-9 * inputs).square().sum().backward()
        optimizer.step()
        clipper.step()
        lowest = min(lowest, float(torch.cat([each.detach() for each in ranges]).min()))
    assert lowest == pytest.approx(1e-3 * float(start.min()))
    assert torch.isfinite(model(inputs)).all()


@pytest.mark.parametrize("backend", ["torch", "aihwkit"])
def test_frozen_layers_are_not_clipped(backend):
    model = nn.Sequential(nn.Linear(40, 40), nn.Linear(40, 40))
    for layer in model:
        nn.init.normal_(layer.weight)
    analog = convert(model, create_rpu_config("pcm", clip_sigma=1.0), backend=backend).train()
    for parameter in analog[0].parameters():
        parameter.requires_grad_(False)
    WeightClipper(analog).step()
    digital = from_aihwkit(analog) if backend == "aihwkit" else analog
    torch.testing.assert_close(digital[0].weight, model[0].weight)  # aihwkit rescales
    assert digital[1].weight.abs().max() < 0.5 * model[1].weight.abs().max()
