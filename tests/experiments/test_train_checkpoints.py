"""The shipped networks are those that the experiment writes: half precision, of bounded size."""

import pytest
import torch

from analogmed.models import build_model
from analogmed.training import CheckpointInfo, load_checkpoint, save_checkpoint
from analogmed.training.checkpoint.file import read_file


@pytest.fixture(scope="module")
def experiment(program):
    return program("experiments", "train_checkpoints")


def test_the_shipped_networks_are_written_again_as_the_same_bytes(experiment, tmp_path):
    shipped = sorted(experiment.SHIPPED.glob("*.safetensors"))
    assert [path.stem for path in shipped] == sorted(
        f"{model}-{training}" for model in experiment.MODELS for training in ("digital", "hwa")
    )
    for path in shipped:
        experiment.ship(path, tmp_path / path.name)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_shipped_network_has_weights_of_eight_bits_and_its_description(experiment, tmp_path):
    network = build_model("unet", in_channels=3, out_channels=1, features=2)
    info = CheckpointInfo("unet", 3, 1, 2, "digital", "mine", ("a",), options={"features": 2})
    trained = save_checkpoint(tmp_path / "trained.safetensors", network, info)
    experiment.ship(trained, tmp_path / "net.safetensors")
    assert read_file(tmp_path / "net.safetensors")[0] == read_file(trained)[0]
    stored = read_file(tmp_path / "net.safetensors")[1]["encoder1.conv1.weight"]
    assert stored.dtype == torch.float16
    weight = network.encoder1.conv1.weight.detach()
    torch.testing.assert_close(stored.float(), weight.bfloat16().float(), rtol=0, atol=2**-24)
    load_checkpoint(tmp_path / "net.safetensors")
