"""Training with aihwkit's own layers: ranges, ramp, clipping, and conversion back."""

import copy

import pytest
import torch
from torch import nn

from analogmed.analog import (
    TrainingNoise,
    WeightClipper,
    calibrate,
    convert,
    create_rpu_config,
    from_aihwkit,
    to_aihwkit,
)
from analogmed.analog.aihwkit_backend.training import load_tensors, tensors_of, tiles_of
from analogmed.foundation.errors import ConfigError

IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
QUIET = {"out_noise": 0.0, "dac_steps": 0, "adc_steps": 0}


def digital():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(12, 4, 2, 2),
        nn.AdaptiveMaxPool2d(3),
        nn.Flatten(),
        nn.Linear(36, 3),
    )


def theirs(**options):
    model = convert(digital(), create_rpu_config("pcm", tile_size=(20, 5), **options))
    return calibrate(to_aihwkit(model), [IMAGES]).train()


def ranges_of(model):
    return [float(tile.input_range.detach()) for tile in tiles_of(model)]


def train(model, steps, *, learning_rate=3e-2):
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    clipper, noise = WeightClipper(model), TrainingNoise(model, ramp_steps=5)
    losses = []
    for step in range(steps):
        with noise.step(step):
            loss = nn.functional.cross_entropy(model(IMAGES), torch.tensor([0, 1, 2, 0]))
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        clipper.step()
        losses.append(loss.item())
    return losses


def test_calibration_gives_their_tiles_the_ranges_of_ours():
    own = convert(digital(), create_rpu_config("pcm", tile_size=(20, 5)))
    expected = ranges_of(to_aihwkit(calibrate(own, [IMAGES])))
    model = convert(digital(), create_rpu_config("pcm", tile_size=(20, 5)), backend="aihwkit")
    assert set(ranges_of(model)) == {3.0}
    assert calibrate(model, [IMAGES]) is model
    found = ranges_of(model)
    assert found == pytest.approx(expected)
    model.train()(IMAGES)
    assert ranges_of(model) == found


def test_a_network_learns_and_comes_back_as_it_was_trained():
    model = theirs(out_noise=0.0)
    before = ranges_of(model)
    losses = train(model, 40)
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]
    assert ranges_of(model) != before
    own = from_aihwkit(model)
    for theirs_, ours in zip((model[0], model[5]), (own[0], own[5]), strict=True):
        weight, bias = theirs_.get_weights()
        torch.testing.assert_close(ours.weight.flatten(), weight.flatten())
        assert torch.equal(ours.bias, bias)
    columns = len(own[0].grid.cols)
    assert own[0].input_range.tolist() == ranges_of(model[0])[::columns]
    with torch.no_grad():
        found, expected = own.eval()(IMAGES), model.eval()(IMAGES)
    torch.testing.assert_close(found, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_the_column_tiles_of_a_row_have_one_range_also_in_copies():
    for model in (theirs(), copy.deepcopy(theirs())):
        tiles = list(model[0].analog_tiles())
        assert len(tiles) == 2 * 3
        assert len({id(tile.input_range) for tile in tiles}) == 2
        assert tiles[0].input_range is tiles[2].input_range


def test_a_shared_range_learns_as_ours_does():
    """While no input is clipped; and without decay, which each tile adds to."""
    layer = nn.Sequential(nn.Linear(30, 12))
    config = create_rpu_config(
        "pcm", tile_size=(20, 5), modifier="none", input_range_decay=0.0, out_noise=0.0
    )
    own = convert(layer, config).train()
    own[0].input_range.data.fill_(5.0)
    other = to_aihwkit(own).train()
    inputs, weighting = torch.randn(6, 30), torch.randn(6, 12)
    for model in (own, other):
        (model(inputs) * weighting).sum().backward()
    found = [tile.input_range.grad for tile in other[0].analog_tiles()][:: len(own[0].grid.cols)]
    torch.testing.assert_close(torch.cat(found), own[0].input_range.grad, rtol=1e-4, atol=1e-5)


def test_the_ramp_begins_without_noise_and_leaves_the_modifier_as_it_was():
    model = theirs(**QUIET)
    noise = TrainingNoise(model, ramp_steps=2)
    modifiers = [tile.rpu_config.modifier for tile in tiles_of(model)]

    def output(step):
        with torch.no_grad(), noise.step(step):
            return model(IMAGES)

    with torch.no_grad():
        clean = copy.deepcopy(model).eval()(IMAGES)
    torch.testing.assert_close(output(0), clean, rtol=1e-5, atol=1e-6)
    assert torch.equal(output(2), output(2))
    assert (output(2) - clean).abs().max() > (output(1) - clean).abs().max() > 0
    assert all(
        tile.rpu_config.modifier is m for tile, m in zip(tiles_of(model), modifiers, strict=True)
    )


def test_clipping_and_remapping_follow_each_step():
    model = theirs(clip="layer_gaussian", clip_sigma=1.0, remap="layerwise")
    tile = tiles_of(model)[0]
    limit = tile.tile.weight.std() * tile.get_scales()
    WeightClipper(model).step()
    assert float(tile.tile.weight.detach().abs().max()) == pytest.approx(1.0)
    torch.testing.assert_close(tile.get_scales(), limit.detach().reshape(-1))


@pytest.mark.parametrize("remap", ["none", "layerwise", "channelwise"])
def test_a_network_that_is_loaded_trains_on_as_the_saved_one(remap):
    """After a remapping, aihwkit divides gradients by scales that its state dict lacks."""
    options = {"modifier": "none", "remap": remap, "clip": "layer_gaussian", **QUIET}

    def step(model):
        model.zero_grad()
        nn.functional.cross_entropy(model(IMAGES), torch.tensor([0, 1, 2, 0])).backward()
        gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
        torch.optim.SGD(model.parameters(), 0.1).step()
        WeightClipper(model).step()
        return gradients

    saved = theirs(**options)
    step(saved)
    loaded = theirs(**options)
    load_tensors(loaded, copy.deepcopy(tensors_of(saved)))
    for found, expected in zip(step(loaded), step(saved), strict=True):
        torch.testing.assert_close(found, expected)
    for found, expected in zip(tiles_of(loaded), tiles_of(saved), strict=True):
        torch.testing.assert_close(found.tile.weight, expected.tile.weight)


def test_chips_in_training_are_refused():
    with pytest.raises(ConfigError, match="'chips' is not for aihwkit's own layers"):
        TrainingNoise(theirs(), weights="chips")
