import copy
import dataclasses
import json
import warnings
from functools import cache

import pytest
import torch
from safetensors.torch import load_file

from analogmed.analog import Chip, Hardware, calibrate, convert, from_aihwkit, to_aihwkit
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.analog.layers.base import AnalogLayer
from analogmed.config import Experiment, SweepConfig
from analogmed.evaluation.deploy import make_analog
from analogmed.evaluation.preparation import warn_on_mismatch
from analogmed.evaluation.session import Cases, Deployment
from analogmed.evaluation.studies.robustness.sweep import run_unit
from analogmed.foundation.errors import CheckpointError
from analogmed.models import build_model
from analogmed.training import (
    CheckpointInfo,
    load_checkpoint,
    load_input_ranges,
    load_out_scales,
    save_checkpoint,
)
from analogmed.training.checkpoint.file import write_file

TILES = {"tile_size": (32, 6), "modifier_std": 0.02, "clip_sigma": 2.5}
INFO = CheckpointInfo(
    model="unet",
    in_channels=3,
    out_channels=1,
    spatial_dims=2,
    training="hwa",
    task="phantom_brain",
    classes=("tumour",),
    options={"features": 4},
)
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
QUIET = {
    "prog_noise_scale": 0.0,
    "read_noise_scale": 0.0,
    "drift_scale": 0.0,
    "drift_compensation": "none",
    "out_noise": 0.0,
    "input_range": False,
    "adc_steps": 0,
    "dac_steps": 0,
    "out_bound": 1e6,
}


def info_for(hardware, **changes):
    return dataclasses.replace(INFO, hardware=dataclasses.asdict(hardware), **changes)


def trained(hardware, *, row_split="even", steps=6):
    """A small analog network whose weights, ranges, scales and norms have been trained a little."""
    return copy.deepcopy(_trained(hardware, row_split, steps))


@cache
def _trained(hardware, row_split, steps):
    torch.manual_seed(0)
    model = build_model("unet", in_channels=3, out_channels=1, features=4)
    model = convert(model, rpu_config_of(hardware), row_split=row_split)
    if hardware.input_range:
        calibrate(model, [IMAGES])
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(steps):
        loss = (model(IMAGES) - IMAGES.mean(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    draws = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, AnalogLayer) and layer.out_scale is not None:
                layer.out_scale.uniform_(0.5, 1.5, generator=draws)
            if isinstance(layer, AnalogLayer) and layer.input_range is not None:
                layer.input_range.abs_()  # plain SGD does not keep them above 0
    return model.eval()


def on_chip(model, time_s=86_400.0):
    with torch.no_grad():
        return Chip(model, seed=3).at(time_s)(IMAGES)


def put_on_tiles(found, hardware, row_split="even"):
    analog = convert(found.network, rpu_config_of(hardware), row_split=row_split)
    return analog, load_out_scales(analog, found.scaled_layers)


@pytest.mark.slow
@pytest.mark.parametrize("row_split", ["even", "channels"])
@pytest.mark.parametrize("scale", ["none", "tile", "column"])
def test_a_loaded_network_has_the_outputs_of_the_saved_one_bit_by_bit(tmp_path, scale, row_split):
    hardware = Hardware(learned_out_scale=scale, **TILES)
    model = trained(hardware, row_split=row_split)
    info = info_for(hardware, row_split=row_split)
    found = load_checkpoint(save_checkpoint(tmp_path / "net.safetensors", model, info))
    assert found.info.is_for(hardware, row_split)
    again = Hardware(**found.info.hardware)
    analog, others = put_on_tiles(found, again, found.info.row_split)
    assert others == ()
    assert load_input_ranges(analog, found.input_ranges)
    state, back = model.state_dict(), analog.state_dict()
    assert state.keys() == back.keys()
    assert all(torch.equal(back[name], value) for name, value in state.items())
    assert any(name.endswith("running_mean") and value.any() for name, value in back.items())
    assert torch.equal(on_chip(analog), on_chip(model))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "backend"),
    [("none", "auto"), ("tile", "auto"), ("column", "auto"), ("column", "aihwkit")],
)
def test_an_evaluation_gives_the_dice_of_before_saving(tmp_path, tiny_task, scale, backend):
    hardware = Hardware(learned_out_scale=scale, **TILES)
    sweep = SweepConfig(chips=1, times_s=(86_400.0,))
    experiment = Experiment(task=tiny_task, hardware=hardware, sweep=sweep, backend=backend)
    task = tiny_task.load()
    model = trained(hardware)
    path = save_checkpoint(tmp_path / "network.safetensors", model, info_for(hardware))
    found = load_checkpoint(path.parent)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_on_mismatch(found, task, experiment)
    assert len(told) == (backend == "aihwkit")  # which has no transposed convolutions
    assert all("upconv4 on tiles, here digital" in str(each.message) for each in told)
    analog = make_analog(found, experiment, task)
    model = to_aihwkit(model) if backend == "aihwkit" else model
    before, after = (
        run_unit(Deployment(found, 0), network, Cases(task), experiment, lambda: None)
        for network in (model, analog)
    )
    assert before == after
    assert {row["metric"] for row in before} == {"dice"}
    assert len({row["value"] for row in before}) > 1


@pytest.mark.slow
def test_scales_of_other_tiles_are_told_before_an_evaluation(tmp_path, tiny_task):
    hardware = Hardware(learned_out_scale="column", **TILES)
    path = save_checkpoint(tmp_path / "n.safetensors", trained(hardware), info_for(hardware))
    found, task = load_checkpoint(path), tiny_task.load()
    for change in ({"hardware": Hardware()}, {"hardware": hardware, "row_split": "channels"}):
        with pytest.warns(
            UserWarning, match=r"output scales.*multiplied into.*'column'.*\[32, 6\]"
        ):
            warn_on_mismatch(found, task, Experiment(task=tiny_task, **change))


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["tile", "column"])
def test_the_digital_network_computes_what_ideal_tiles_with_their_scales_compute(tmp_path, scale):
    ideal = Hardware("ideal", learned_out_scale=scale, tile_size=(32, 6))
    model = trained(ideal)
    found = load_checkpoint(save_checkpoint(tmp_path / "net.safetensors", model, info_for(ideal)))
    with torch.no_grad():
        torch.testing.assert_close(found.network(IMAGES), model(IMAGES), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [
        {"tile_size": (16, 16), "learned_out_scale": "column"},
        {"tile_size": (32, 6), "learned_out_scale": "tile"},
        {"tile_size": (32, 6), "learned_out_scale": "none"},
    ],
    ids=["other tiles", "other scales", "no scales"],
)
def test_on_other_tiles_the_network_stays_the_same_function(tmp_path, other):
    hardware = Hardware(learned_out_scale="column", tile_size=(32, 6), **QUIET)
    model = trained(hardware)
    found = load_checkpoint(save_checkpoint(tmp_path / "n.safetensors", model, info_for(hardware)))
    analog, others = put_on_tiles(found, Hardware(**QUIET, **other))
    assert others
    assert set(others) <= found.scaled_layers.keys()
    torch.testing.assert_close(on_chip(analog), on_chip(model), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_scales_of_tiles_can_be_told_from_the_weights_of_tiles_without(tmp_path):
    """A scale of a whole tile is in its mapping scale: devices hold the same."""
    hardware = Hardware(learned_out_scale="tile", **TILES)
    model = trained(hardware)
    found = load_checkpoint(save_checkpoint(tmp_path / "n.safetensors", model, info_for(hardware)))
    analog, _ = put_on_tiles(found, dataclasses.replace(hardware, learned_out_scale="none"))
    for name in found.scaled_layers:
        rows = analog.get_submodule(name).reference_rows()
        for own, asked in zip(rows, model.get_submodule(name).reference_rows(), strict=True):
            torch.testing.assert_close(own.weight, asked.weight)
            torch.testing.assert_close(own.scale, asked.scale)


@pytest.mark.slow
def test_a_layer_that_is_left_digital_keeps_its_scales(tmp_path):
    hardware = Hardware(learned_out_scale="column", tile_size=(32, 6), **QUIET)
    model = trained(hardware)
    found = load_checkpoint(save_checkpoint(tmp_path / "n.safetensors", model, info_for(hardware)))
    left = sorted(found.scaled_layers)[1]
    analog = convert(found.network, rpu_config_of(hardware), digital_layers=[left])
    assert load_out_scales(analog, found.scaled_layers) == ()
    torch.testing.assert_close(on_chip(analog), on_chip(model), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_a_network_of_aihwkits_layers_is_kept_as_analogmeds(tmp_path):
    hardware = Hardware(learned_out_scale="column", **TILES)
    theirs = to_aihwkit(trained(hardware))
    path = save_checkpoint(tmp_path / "net.safetensors", theirs, info_for(hardware))
    found = load_checkpoint(path)
    analog, others = put_on_tiles(found, hardware)
    own = from_aihwkit(theirs).state_dict()
    assert others == ()
    assert found.input_ranges
    for name, value in analog.state_dict().items():
        if name in own and not name.endswith(".input_range"):
            assert torch.equal(own[name], value), name


@pytest.mark.slow
def test_a_network_that_registers_its_layers_twice_keeps_its_scales(tmp_path):
    hardware = Hardware("ideal", learned_out_scale="column", tile_size=64)
    shape = {"in_channels": 1, "out_channels": 2, "spatial_dims": 2}
    torch.manual_seed(0)
    plain = build_model("dynunet", **shape).eval()
    model = convert(plain, rpu_config_of(hardware))
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, AnalogLayer):
                layer.out_scale.uniform_(0.5, 1.5)
    info = info_for(hardware, model="dynunet", options={}, **shape)
    found = load_checkpoint(save_checkpoint(tmp_path / "net.safetensors", model, info))
    analog, others = put_on_tiles(found, hardware)
    images = torch.rand(1, 1, 128, 128)
    assert others == ()
    with torch.no_grad():
        assert torch.equal(analog(images), model(images))
        torch.testing.assert_close(found.network(images), model(images), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "info",
    [
        INFO,
        info_for(Hardware(learned_out_scale="column")),
        info_for(Hardware(learned_out_scale="tile", **TILES)),
        info_for(Hardware(learned_out_scale="column", **TILES), row_split="channels"),
    ],
    ids=["no hardware", "other tiles", "other scales", "other split"],
)
def test_scales_whose_tiles_are_not_described_are_not_written(tmp_path, info):
    model = trained(Hardware(learned_out_scale="column", **TILES), steps=0)
    with pytest.raises(
        CheckpointError,
        match=r"cannot write .*learned output scales for tiles of 32 x 6.*give info",
    ):
        save_checkpoint(tmp_path / "net.safetensors", model, info)
    assert list(tmp_path.iterdir()) == []


def test_scales_that_do_not_fit_the_hardware_of_the_header_are_refused(tmp_path):
    hardware = Hardware(learned_out_scale="column", **TILES)
    path = save_checkpoint(
        tmp_path / "net.safetensors", trained(hardware, steps=0), info_for(hardware)
    )
    tensors = load_file(path)
    others = (
        (Hardware(learned_out_scale="column", tile_size=8), "learned output scales of layer '.*'"),
        (Hardware(**TILES), "on the hardware it names they have None"),
    )
    for other, message in others:
        header = {"format": 1, **dataclasses.asdict(info_for(other))}
        write_file(path, json.dumps(header), tensors)
        with pytest.raises(CheckpointError, match=rf"net\.safetensors: .*{message}"):
            load_checkpoint(path)
