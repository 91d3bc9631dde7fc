"""Checkpoints whose weights are stored in half precision."""

from dataclasses import asdict

import pytest
import torch

from analogmed.analog import Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.models import build_model
from analogmed.training import CheckpointInfo, TrainConfig, load_checkpoint, save_checkpoint
from analogmed.training.checkpoint.file import read_file
from analogmed.training.distributed import Ranks
from analogmed.training.preparation import set_up

HARDWARE = Hardware(tile_size=(16, 16), learned_out_scale="column")
INFO = CheckpointInfo(
    "unet",
    3,
    1,
    2,
    "hwa",
    "phantom_brain",
    ("tumour",),
    options={"features": 4},
    hardware=asdict(HARDWARE),
)
HALF = pytest.mark.parametrize("dtype", ["float16", "bfloat16"])


@pytest.fixture(scope="module")
def analog():
    """An untrained network on tiles, with running variances beyond the range of float16."""
    torch.manual_seed(0)
    plain = build_model("unet", in_channels=3, out_channels=1, features=4)
    plain.encoder1.norm1.running_var.fill_(123_456.7)
    network = convert(plain, rpu_config_of(HARDWARE))
    calibrate(network, [torch.rand(2, 3, 32, 32)])
    return network


@HALF
def test_kernels_are_stored_in_half_precision_and_all_else_as_it_was(analog, tmp_path, dtype):
    full = save_checkpoint(tmp_path / "full.safetensors", analog, INFO)
    half = save_checkpoint(tmp_path / "half.safetensors", analog, INFO, dtype=dtype)
    before, after = read_file(full)[1], read_file(half)[1]
    halved = {name for name in after if after[name].dtype == getattr(torch, dtype)}
    assert halved == {
        name for name, values in before.items() if values.ndim > 1 and "out_scale" not in name
    }
    for name in before.keys() - halved:
        assert torch.equal(before[name], after[name]), name
    assert half.stat().st_size < 0.62 * full.stat().st_size


@HALF
def test_a_network_from_half_precision_has_the_rounded_weights_in_float32(analog, tmp_path, dtype):
    found = load_checkpoint(save_checkpoint(tmp_path / "x.safetensors", analog, INFO, dtype=dtype))
    kind = getattr(torch, dtype)
    for name, layer in found.scaled_layers.items():
        trained = analog.get_submodule(name)
        assert layer.weight.dtype == torch.float32
        assert torch.equal(layer.weight, trained.weight.to(kind).float())
        assert torch.equal(found.input_ranges[name], trained.input_range)
    assert {weight.dtype for weight in found.network.parameters()} == {torch.float32}
    assert found.network.encoder1.norm1.running_var[0] == pytest.approx(123_456.7)


def test_half_precision_is_written_as_equal_bytes_with_a_digest(analog, tmp_path):
    files = [
        save_checkpoint(tmp_path / name, analog, INFO, dtype=dtype)
        for name, dtype in (("a", "float16"), ("b", torch.float16))
    ]
    content = bytearray(files[0].read_bytes())
    assert content == files[1].read_bytes()
    content[-5] ^= 1
    files[0].write_bytes(content)
    with pytest.raises(CheckpointError, match="the content has changed since it was written"):
        load_checkpoint(files[0])


@pytest.mark.parametrize("dtype", ["half", "int8", "float8_e4m3fn", "", 16, torch.float64])
def test_another_type_is_refused(analog, tmp_path, dtype):
    path = tmp_path / "net.safetensors"
    with pytest.raises(ConfigError, match=r"dtype: expected one of float32, .* got"):
        save_checkpoint(path, analog, INFO, dtype=dtype)
    assert not path.exists()


def test_weights_outside_the_range_of_the_type_are_refused(tmp_path):
    network = build_model("unet", in_channels=3, out_channels=1, features=4)
    with torch.no_grad():
        network.head.weight.fill_(-70_000.0)
    path = tmp_path / "net.safetensors"
    expected = r"dtype: expected weights of at most 6\.55e\+04, got 7e\+04 in 'head\.weight'"
    with pytest.raises(CheckpointError, match=expected):
        save_checkpoint(path, network, INFO, dtype="float16")
    assert not path.exists()
    save_checkpoint(path, network, INFO, dtype="bfloat16")
    assert load_checkpoint(path).network.head.weight.max().item() == pytest.approx(
        -70_000, rel=4e-3
    )


def test_a_training_starts_from_half_precision_in_float32(analog, tiny_task, tmp_path):
    path = save_checkpoint(tmp_path / "start.safetensors", analog, INFO, dtype="bfloat16")
    config = TrainConfig(
        task=tiny_task, training="hwa", init=path, hardware=HARDWARE, batch_size=8,
        out=tmp_path / "run",
    )  # fmt: skip
    model = set_up(config, Ranks()).model
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    for name, layer in load_checkpoint(path).scaled_layers.items():
        torch.testing.assert_close(model.get_submodule(name).weight, layer.weight)
