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
    bits = {path: n.bits for n in experiment.NETWORKS for path in experiment.shipped_files(n)}
    assert sorted(bits) == sorted(experiment.SHIPPED.glob("*/*.safetensors"))
    for path, count in bits.items():
        experiment.ship(path, tmp_path / path.name, count)
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_shipped_network_has_weights_of_eight_bits_and_its_description(experiment, tmp_path):
    network = build_model("unet", in_channels=3, out_channels=1, features=2)
    info = CheckpointInfo("unet", 3, 1, 2, "digital", "mine", ("a",), options={"features": 2})
    trained = save_checkpoint(tmp_path / "trained.safetensors", network, info)
    experiment.ship(trained, tmp_path / "net.safetensors", 8)
    assert read_file(tmp_path / "net.safetensors")[0] == read_file(trained)[0]
    stored = read_file(tmp_path / "net.safetensors")[1]["encoder1.conv1.weight"]
    assert stored.dtype == torch.float16
    weight = network.encoder1.conv1.weight.detach()
    torch.testing.assert_close(stored.float(), weight.bfloat16().float(), rtol=0, atol=2**-24)
    load_checkpoint(tmp_path / "net.safetensors")


def test_weights_of_fewer_bits_are_rounded_to_the_nearest(experiment):
    values = torch.tensor([0.0, 1.0, -1.011, 3.017e-4, 1.9999])
    expected = [0.0, 1.0, -65 / 64, 79 / 64 * 2**-12, 2.0]
    assert experiment.rounded_to(values, 7).tolist() == expected
