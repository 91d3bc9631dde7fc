"""Checkpoints of networks with recurrent layers of torch."""

import dataclasses
import sys
import types

import pytest
import torch
from torch import nn

from analogmed.analog import Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.training import CheckpointInfo, load_checkpoint, save_checkpoint
from analogmed.training.checkpoint.checkpoint import load_trained_ranges
from analogmed.training.checkpoint.tile_parameters import load_out_scales

FACTORY = "recurrent_networks:build"


class Network(nn.Module):
    """Reads each row of an image as one step."""

    def __init__(self):
        super().__init__()
        self.memory = nn.GRU(6, 5, batch_first=True, bidirectional=True)
        self.head = nn.Linear(10, 2)

    def forward(self, images):
        return self.head(self.memory(images.flatten(1, 2))[0][:, -1])


@pytest.fixture
def factory(monkeypatch):
    module = types.ModuleType("recurrent_networks")
    module.build = lambda in_channels, out_channels, spatial_dims: Network()
    monkeypatch.setitem(sys.modules, "recurrent_networks", module)


@pytest.mark.parametrize("scale", ["none", "column"])
def test_a_trained_analog_network_is_read_into_the_plain_one(factory, tmp_path, scale):
    hardware = Hardware(
        "pcm", tile_size=4, dac_steps=0, adc_steps=0, out_noise=0.0, learned_out_scale=scale
    )
    config = rpu_config_of(hardware)
    images = torch.rand(3, 1, 4, 6)
    analog = calibrate(convert(Network(), config, backend="torch"), [images])
    with torch.no_grad():
        for name, parameter in analog.named_parameters():
            parameter.add_(0.1 * torch.rand_like(parameter))
            if name.endswith("input_range"):
                parameter.mul_(4.0)  # nothing is clipped
    info = CheckpointInfo(
        model=FACTORY, in_channels=1, out_channels=2, spatial_dims=2, training="hwa", task="own",
        classes=("a", "b"), patients=("p",), hardware=dataclasses.asdict(hardware), seed=0,
    )  # fmt: skip
    path = save_checkpoint(tmp_path / "network.safetensors", analog, info)
    loaded = load_checkpoint(path, factories=[FACTORY])
    assert type(loaded.network.memory) is nn.GRU
    expected = analog.eval()(images)
    torch.testing.assert_close(loaded.network(images), expected, atol=1e-5, rtol=0)
    again = convert(loaded.network, config, backend="torch")
    assert load_out_scales(again, loaded.scaled_layers) == ()
    assert load_trained_ranges(again, loaded, config)
    torch.testing.assert_close(again(images), expected, atol=1e-6, rtol=0)
