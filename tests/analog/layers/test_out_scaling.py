import pytest
import torch
from torch import nn

from analogmed.analog import Chip, convert, create_rpu_config, from_aihwkit, to_aihwkit
from analogmed.foundation.errors import ConfigError

LAYERS = {
    "linear": (lambda: nn.Linear(50, 30), (7, 50)),
    "conv2d": (lambda: nn.Conv2d(8, 30, 3, padding=1), (2, 8, 9, 9)),
    "conv1d_grouped": (lambda: nn.Conv1d(16, 30, 5, groups=2), (2, 16, 20)),
    "conv3d": (lambda: nn.Conv3d(3, 12, 3), (1, 3, 5, 5, 5)),
    "transposed2d": (lambda: nn.ConvTranspose2d(40, 6, 2, 2), (2, 40, 5, 5)),
}
HARDWARE = {"tile_size": (32, 12), "out_noise": 0.0, "modifier": "none", "input_range": False}


def scaled(analog, seed=1):
    with torch.no_grad():
        draws = torch.Generator().manual_seed(seed)
        analog.out_scale.uniform_(0.5, 1.5, generator=draws)
    return analog


@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_has_learned_scales_only_where_the_hardware_asks_for_them(kind, analog_of):
    layer, _ = LAYERS[kind]
    names = {name for name, _ in layer().named_parameters()}
    for choice, extra in (("none", set()), ("tile", {"out_scale"}), ("column", {"out_scale"})):
        analog = analog_of(layer(), create_rpu_config("pcm", learned_out_scale=choice, **HARDWARE))
        assert set(analog.state_dict()) == names | extra
        groups, columns, _ = analog.weight_matrix().shape
        if choice != "none":
            each = columns if choice == "column" else len(analog.grid.cols)
            assert analog.out_scale.shape == (len(analog.grid.rows), groups, each)
            assert (analog.out_scale == 1).all()


@pytest.mark.parametrize("choice", ["tile", "column"])
@pytest.mark.parametrize("kind", LAYERS)
def test_outputs_and_gradients_are_those_of_aihwkits_tiles(kind, choice, analog_of, oracle_tiles):
    tiles_of, apply_tiles = oracle_tiles
    layer, shape = LAYERS[kind]
    config = create_rpu_config("pcm", learned_out_scale=choice, **HARDWARE)
    analog = scaled(analog_of(layer(), config, backend="torch"))
    arrays = tiles_of(analog)
    found = []
    for group, array in enumerate(arrays):
        for index, row in enumerate(array.array):
            for number, tile in enumerate(row):
                start, stop = (
                    analog.grid.cols[number] if choice == "column" else (number, number + 1)
                )
                tile.set_learned_out_scales(analog.out_scale[index, group, start:stop])
                found.append((tile, (index, group, slice(start, stop))))
    inputs = torch.randn(shape)
    outputs, expected = analog(inputs), apply_tiles(analog, arrays, inputs)
    assert ((outputs - expected).abs() > 1e-5).double().mean() < 5e-3
    weights = torch.randn_like(outputs)
    (outputs * weights).sum().backward()
    (expected * weights).sum().backward()
    for tile, place in found:
        difference = analog.out_scale.grad[place] - tile.out_scaling_alpha.grad
        assert difference.abs().max() < 1e-2 * tile.out_scaling_alpha.grad.abs().max() + 1e-2


def test_learned_scales_are_trained(analog_of):
    config = create_rpu_config("ideal", learned_out_scale="column")
    analog = analog_of(nn.Linear(10, 4, bias=False), config).train()
    wanted = torch.tensor([0.5, 1.5, 2.0, -1.0])
    start = analog.weight.detach().clone()
    optimizer = torch.optim.Adam([analog.out_scale], lr=0.05)
    for _ in range(300):
        inputs = torch.randn(64, 10)
        loss = (analog(inputs) - inputs @ start.T * wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.allclose(analog.out_scale.detach()[0, 0], wanted, atol=0.02)


@pytest.mark.parametrize("choice", ["tile", "column"])
def test_a_chip_keeps_the_learned_scales(choice):
    noiseless = {"prog_noise_scale": 0.0, "read_noise_scale": 0.0, "drift_scale": 0.0}
    hardware = HARDWARE | noiseless | {"drift_compensation": "none"}
    config = create_rpu_config("pcm", learned_out_scale=choice, **hardware)
    model = convert(nn.Sequential(nn.Conv2d(8, 30, 3)).eval(), config)
    scaled(model[0])
    images = torch.randn(2, 8, 9, 9)
    with torch.no_grad():
        difference = (Chip(model).at(0.0)(images) - model(images)).abs()
    assert (difference > 1e-4).double().mean() < 5e-3


def test_the_way_to_aihwkit_and_back_keeps_outputs_and_scales():
    config = create_rpu_config("pcm", learned_out_scale="column", **HARDWARE)
    layers = [nn.Conv2d(8, 30, 3), nn.Flatten(), nn.Linear(30 * 49, 40)]
    model = convert(nn.Sequential(*layers).eval(), config)
    for layer in (model[0], model[2]):
        scaled(layer)
    images = torch.randn(2, 8, 9, 9)
    theirs = to_aihwkit(model)
    back = from_aihwkit(theirs)
    for ours, copy in ((model[0], back[0]), (model[2], back[2])):
        assert torch.equal(ours.out_scale, copy.out_scale)
        torch.testing.assert_close(ours.weight, copy.weight)
    with torch.no_grad():
        first = model[0](images)
        assert ((theirs[0](images) - first).abs() > 1e-5).double().mean() < 5e-3


@pytest.mark.parametrize("choice", ["tile", "column"])
@pytest.mark.parametrize("kind", ["conv1d_grouped", "transposed2d"])
def test_a_layer_that_aihwkit_lacks_keeps_its_scales_in_its_digital_weight(kind, choice):
    layer, shape = LAYERS[kind]
    config = create_rpu_config("ideal", learned_out_scale=choice, tile_size=(32, 12))
    model = convert(nn.Sequential(layer()).eval(), config)
    scaled(model[0])
    digital = to_aihwkit(model)
    assert type(digital[0]) is type(layer())
    assert set(digital[0].state_dict()) == {"weight", "bias"}
    inputs = torch.randn(shape)
    torch.testing.assert_close(digital(inputs), model(inputs), atol=1e-5, rtol=1e-4)


def test_hardware_that_aihwkits_torch_tile_lacks_is_refused_on_the_way_there():
    config = create_rpu_config("pcm", weight_noise="additive", weight_noise_std=0.01)
    model = convert(nn.Sequential(nn.Linear(5, 3)), config)
    with pytest.raises(ConfigError, match="layer '0': aihwkit's torch tile"):
        to_aihwkit(model)
