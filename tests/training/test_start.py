"""Training from an existing network: its score, its learned ranges and scales."""

import logging
import math
from dataclasses import asdict, replace

import pandas as pd
import pytest
import torch

from analogmed.analog import Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.analog.layers.base import AnalogLayer
from analogmed.models import build_model, follows_window, model_names
from analogmed.models.settings import ModelConfig
from analogmed.training import (
    CheckpointInfo,
    NoiseConfig,
    TrainConfig,
    load_checkpoint,
    network_run,
    save_checkpoint,
    train,
)
from analogmed.training.distributed import Ranks
from analogmed.training.preparation import set_up
from analogmed.training.state.state import load_latest

HARDWARE = Hardware(tile_size=(32, 32), learned_out_scale="tile")


@pytest.fixture
def start(tiny_task, tmp_path):
    """An untrained network on tiles, with input ranges and scales of its own."""
    task = tiny_task.load()
    torch.manual_seed(0)
    model = build_model("unet", in_channels=3, out_channels=1, features=2)
    analog = convert(model, rpu_config_of(HARDWARE))
    calibrate(analog, [torch.rand(2, 3, 32, 32)])
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in analog.modules():
            if isinstance(layer, AnalogLayer):
                layer.input_range.uniform_(1.0, 2.0, generator=draws)
                layer.out_scale.uniform_(0.5, 1.5, generator=draws)
    info = CheckpointInfo(
        "unet",
        3,
        1,
        2,
        "hwa",
        task.name,
        task.classes,
        options={"features": 2},
        hardware=asdict(HARDWARE),
    )
    path = save_checkpoint(tmp_path / "start.safetensors", analog, info)
    return path, analog


@pytest.fixture
def config(start, tiny_task, tmp_path):
    return TrainConfig(
        task=tiny_task,
        training="hwa",
        init=start[0],
        hardware=HARDWARE,
        noise=NoiseConfig(ranges="learned"),
        epochs=2,
        batch_size=8,
        validate_every=1,
        validation_chips=1,
        out=tmp_path / "run",
    )


def scored(monkeypatch, *scores):
    """Let validations give these scores, one after the other."""
    given = iter(scores)
    monkeypatch.setattr(network_run, "Validation", lambda run: lambda model: next(given))


@pytest.mark.slow
def test_a_start_that_nothing_beats_is_kept(config, start, monkeypatch, caplog):
    scored(monkeypatch, 0.9, 0.2, 0.3)
    with caplog.at_level(logging.INFO, "analogmed.training"):
        kept = load_checkpoint(train(config))
    begun = load_checkpoint(start[0])
    assert (kept.info.score, kept.info.keeps_start) == (0.9, True)
    for name, value in begun.network.state_dict().items():
        torch.testing.assert_close(kept.network.state_dict()[name], value)
    log = pd.read_csv(config.folder / "log.csv")
    assert log["epoch"].tolist() == [0, 1, 2]
    assert log["dice"].tolist() == [0.9, 0.2, 0.3]
    assert math.isnan(log["loss"][0])
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "unet hwa on phantom_brain: start, validation Dice 0.900"
    assert "epoch 1/2" in lines[1]
    assert "validation Dice 0.200, best 0.900" in lines[1]


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "score"), [("last", 0.15), ("best", 0.2)])
def test_the_last_or_the_best_state_replaces_the_start(config, start, monkeypatch, keep, score):
    scored(monkeypatch, 0.1, 0.2, 0.15)
    kept = load_checkpoint(train(replace(config, keep=keep)))
    assert (kept.info.score, kept.info.keeps_start) == (score, False)
    begun = load_checkpoint(start[0]).network.state_dict()
    found = kept.network.state_dict()
    assert any(not torch.equal(found[name], value) for name, value in begun.items())


@pytest.mark.slow
def test_a_resumed_run_does_not_validate_its_start_again(config, monkeypatch):
    scored(monkeypatch, 0.5, 0.6)
    with pytest.raises(StopIteration):  # in the validation after the second epoch
        train(config)
    scored(monkeypatch, 0.4)
    assert load_checkpoint(train(config)).info.score == 0.6
    assert len(load_latest(config.folder).history) == 3


def test_learned_ranges_and_scales_of_the_start_go_on(config, start):
    """On the hardware of the start, training begins with what its tiles have learned."""
    found, trained = set_up(config, Ranks()).model, start[1]
    state = found.state_dict()
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(state[name], value)


def test_ranges_of_other_tiles_are_calibrated_with_a_warning(config):
    other = replace(config, hardware=replace(HARDWARE, tile_size=(16, 32)))
    with pytest.warns(UserWarning, match="learned input ranges of .*start.safetensors do not fit"):
        model = set_up(other, Ranks()).model
    assert all(len(model.encoder2.conv1.input_range) == 2 for _ in range(1))


@pytest.mark.parametrize("follows", [False, True])
def test_only_a_declared_network_is_built_for_the_window_of_the_task(
    tiny_task, tmp_path, monkeypatch, follows
):
    (tmp_path / f"own_window_{follows}.py").write_text(
        "from torch import nn\n"
        "def net(in_channels, out_channels, spatial_dims, window=7):\n"
        "    return nn.Conv2d(in_channels, out_channels, 3, padding='same')\n"
        f"net.window_of_task = {follows}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = ModelConfig(f"own_window_{follows}:net")
    config = TrainConfig(task=tiny_task, model=model, out=tmp_path / "run")
    found = set_up(config, Ranks()).config.model
    assert found.options == ({"window": [32, 32]} if follows else {})


def test_of_the_networks_in_the_package_those_built_for_one_size_follow_the_window():
    found = [name for name in model_names() if follows_window(name)]
    assert found == ["light_classifier", "region_of_interest"]
