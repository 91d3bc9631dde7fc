import copy

import pytest
import torch
from aihwkit.nn import AnalogConv2d, AnalogLinear
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import nn

from analogmed.analog import (
    calibrate,
    convert,
    coverage,
    create_rpu_config,
    from_aihwkit,
    to_aihwkit,
)
from analogmed.analog.layers.base import AnalogLayer
from analogmed.foundation.errors import ConfigError

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def digital():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=2, padding=1),
        nn.ConvTranspose2d(8, 4, 2, 2),
        nn.Flatten(),
        nn.Linear(1024, 30),
    )


def analog(**options):
    config = create_rpu_config("pcm", tile_size=100, **({"out_noise": 0.0} | options))
    return calibrate(convert(digital(), config), [IMAGES]).eval()


@pytest.mark.slow
def test_what_aihwkits_torch_tile_has_becomes_aihwkits_and_the_rest_digital():
    theirs = to_aihwkit(analog())
    kinds = [type(layer) for layer in theirs]
    assert kinds == [
        AnalogConv2d, nn.ReLU, nn.Conv2d, nn.ConvTranspose2d, nn.Flatten, AnalogLinear,
    ]  # fmt: skip
    assert set(theirs[3].state_dict()) == {"weight", "bias"}
    assert set(coverage(theirs).digital_layers) == {"2", "3"}
    assert coverage(theirs).analog_layers == ("0", "5")


def test_the_backend_of_convert_is_the_same_way():
    model = convert(digital(), create_rpu_config("pcm"), backend="aihwkit")
    assert isinstance(model[0], AnalogConv2d)


def test_there_and_back_gives_the_same_weights_ranges_and_outputs():
    ours = analog()
    theirs = to_aihwkit(ours)
    back = from_aihwkit(theirs)
    assert isinstance(back[0], AnalogLayer)
    for index in (0, 5):
        torch.testing.assert_close(back[index].weight, ours[index].weight)
        assert torch.equal(back[index].bias, ours[index].bias)
        assert torch.equal(back[index].input_range, ours[index].input_range)
        assert back[index].grid == ours[index].grid
    inputs = torch.randn(40, 1024)
    with torch.no_grad():
        outputs = [model[5](inputs) for model in (ours, theirs, back)]
    for other in outputs[1:]:
        assert ((other - outputs[0]).abs() > 1e-4).double().mean() < 2e-3


def test_neither_way_changes_the_given_model():
    ours = analog()
    before = copy.deepcopy(ours.state_dict())
    theirs = to_aihwkit(ours)
    from_aihwkit(theirs)
    assert isinstance(theirs[0], AnalogConv2d)
    assert isinstance(ours[0], AnalogLayer)
    assert all(torch.equal(v, before[k]) for k, v in ours.state_dict().items())


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(3, 8, 3), nn.Linear(6, 4), nn.ConvTranspose2d(3, 8, 3)]
)
def test_a_bare_layer_goes_both_ways(layer):
    ours = convert(layer, create_rpu_config("pcm")).eval()
    back = from_aihwkit(to_aihwkit(ours))
    torch.testing.assert_close(back.weight, layer.weight)


def test_layers_that_aihwkits_torch_tile_lacks_become_digital():
    layers = nn.ModuleList(
        [
            nn.Conv2d(4, 4, 3, padding="same"),
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
            nn.Conv3d(4, 4, 3),
            nn.Conv1d(4, 4, 3),
        ]
    )
    theirs = to_aihwkit(convert(layers, create_rpu_config("pcm")))
    assert [type(layer) for layer in theirs] == [nn.Conv2d, nn.Conv2d, nn.Conv3d, nn.Conv1d]


def test_the_channel_split_is_not_aihwkits():
    split = convert(nn.Sequential(nn.Linear(6, 4)), create_rpu_config("pcm"), row_split="channels")
    assert type(to_aihwkit(split)[0]) is nn.Linear


def test_different_ranges_in_one_row_of_tiles_are_refused_with_the_layer():
    theirs = to_aihwkit(analog())
    wide = AnalogLinear(20, 150, rpu_config=create_rpu_config("pcm", tile_size=100))
    list(wide.analog_tiles())[1].input_range.data[:] = 9.0
    theirs.append(wide)
    with pytest.raises(ConfigError, match="layer '6': its column tiles have different"):
        from_aihwkit(theirs)


def test_what_the_layers_do_not_compute_is_refused_on_the_way_back():
    model = nn.Sequential(AnalogLinear(4, 3, rpu_config=TorchInferenceRPUConfig()))
    with pytest.raises(ConfigError, match=r"layer '0': .*bound_management"):
        from_aihwkit(model)


def test_a_shared_layer_stays_shared():
    shared = nn.Linear(4, 4)
    ours = convert(nn.Sequential(shared, nn.ReLU(), shared), create_rpu_config("pcm"))
    theirs = to_aihwkit(ours)
    assert theirs[0] is theirs[2]
    back = from_aihwkit(theirs)
    assert back[0] is back[2]
