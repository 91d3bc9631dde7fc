import json
import re
import shlex

import pytest
import safetensors.torch
import torch
from monai.networks import nets
from torch import nn

from analogmed.cli.main import main
from analogmed.cli.parse import parse
from analogmed.config import Experiment
from analogmed.data import load_task
from analogmed.foundation.errors import ConfigError
from analogmed.models import build_model
from analogmed.training import Checkpoint, CheckpointInfo, load_checkpoint, save_checkpoint
from analogmed.training.checkpoint.exchange import export_weights
from analogmed.training.distributed import Ranks
from analogmed.training.preparation import set_up
from analogmed.training.settings import TrainConfig

FACTORY = "trained_elsewhere:network"
SOURCE = """
from torch import nn

def network(in_channels, out_channels, spatial_dims):
    return nn.Sequential(nn.Conv2d(in_channels, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU(),
                         nn.Conv2d(2, out_channels, 1))

def sigmoid(in_channels, out_channels, spatial_dims):
    return nn.Sequential(*network(in_channels, out_channels, 2), nn.Sigmoid())
"""
OPTIONS = "{phantom_patients: 6, phantom_size: 32}"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return root, load_task("phantom_brain", root, phantom_patients=6, phantom_size=32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the module of the network, as the working directory."""
    (tmp_path / "trained_elsewhere.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def theirs():
    """Return the network as it was trained: with statistics that differ from the initial ones."""
    torch.manual_seed(4)
    namespace = {}
    exec(SOURCE, namespace)
    network = namespace["network"](3, 1, 2)
    network(torch.randn(4, 3, 32, 32))
    return network.eval()


def logits(network):
    with torch.no_grad():
        return network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))


def imported(data, file, *words, out="mine.safetensors", model=FACTORY):
    given = ["--task", "Phantom-Brain", "--task.root", str(data[0]), "--task.options", OPTIONS]
    model = ["--model", model] if model else []
    return main(["models", "import", str(file), *given, *model, *words, "--out", out])


PREFIXES = ("", "module.", "model.", "net._orig_mod.")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_weights_under_any_prefix_give_the_same_logits_to_the_bit(here, data, capsys, prefix):
    state = {prefix + name: weight for name, weight in theirs().state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state} if prefix else state, "theirs.pt")
    assert imported(data, "theirs.pt", "--expected_score", "0.5") == 0
    checkpoint = load_checkpoint("mine.safetensors", factories=(FACTORY,))
    assert torch.equal(logits(checkpoint.network), logits(theirs()))
    task = data[1]
    seen = {case.patient_id for case in (*task.train, *task.validation)}
    assert set(checkpoint.info.patients) == seen and checkpoint.info.expected_score == 0.5
    assert (checkpoint.info.task, checkpoint.info.classes) == ("phantom_brain", task.classes)
    command = capsys.readouterr().out.splitlines()[-1]
    experiment = parse(Experiment, shlex.split(command)[2:], prog="eval")
    assert experiment.task.name == "phantom_brain" and experiment.factories == (FACTORY,)


def test_safetensors_and_a_network_by_name_become_a_checkpoint_that_training_starts_from(
    here, data
):
    network = build_model("unet", in_channels=3, out_channels=1, features=2)
    safetensors.torch.save_file(network.state_dict(), "theirs.safetensors")
    words = ("--model.options.features", "2", "--patients", "p1", "p2")
    assert imported(data, "theirs.safetensors", *words, model="U-Net") == 0
    info = load_checkpoint("mine.safetensors").info
    assert (info.model, info.options, info.patients) == ("unet", {"features": 2}, ("p1", "p2"))
    assert main(["hardware", "mine.safetensors"]) == 0


def test_a_bundle_becomes_a_checkpoint(here, data):
    definition = {
        "_target_": "UNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1,
        "channels": [4, 8], "strides": [2],
    }  # fmt: skip
    for folder in ("configs", "models"):
        (here / "bundle" / folder).mkdir(parents=True)
    (here / "bundle/configs/inference.json").write_text(json.dumps({"network_def": definition}))
    network = nets.UNet(2, 3, 1, channels=(4, 8), strides=(2,)).eval()
    torch.save({"model": network.state_dict()}, "bundle/models/model.pt")
    assert imported(data, "bundle", "--patients", model="") == 0
    (here / "bundle/models/model.pt").unlink()  # the weights are in the checkpoint now
    checkpoint = load_checkpoint("mine.safetensors", factories=("bundle:bundle",))
    assert torch.equal(logits(checkpoint.network), logits(network))
    assert checkpoint.info.patients == ()


class Anything:
    """A class of the user, which a pickle would import."""


def without(state, name):
    return {key: weight for key, weight in state.items() if key != name}


WRONG = {
    "a missing weight": (lambda s: without(s, "3.bias"), "missing weights: 3.bias"),
    "another weight": (lambda s: s | {"x": torch.ones(1)}, "unexpected weights: x"),
    "another shape": (
        lambda s: s | {"3.bias": torch.ones(4)},
        r"for the task \(channels .*, classes tumour\) does not fit: .*3.bias \(4,\) instead of",
    ),
    "not finite": (lambda s: s | {"3.bias": torch.tensor([torch.nan])}, "NaN or Inf.*3.bias"),
    "a whole network": (
        lambda s: nn.Sequential(nn.Linear(2, 2)),
        r"torch.nn.modules.*refused, since loading it would run code. Save the weights alone",
    ),
    "an object": (lambda s: s | {"x": Anything()}, r"holds more than weights \(.*Anything\)"),
    "a list": (lambda s: [1], "expected a state dict of tensors, found list"),
    "other values": (lambda s: s | {"lr": 0.1}, "expected a state dict of tensors, or one of"),
    "nothing": (lambda s: {}, "found an empty one"),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=WRONG)
def test_weights_that_do_not_fit_end_in_a_sentence(here, data, capsys, change, message):
    torch.save(change(theirs().state_dict()), "theirs.pt")
    assert imported(data, "theirs.pt") in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and re.search(message, error), error
    assert not (here / "mine.safetensors").exists()


def test_counters_of_batches_may_be_missing(here, data):
    torch.save(without(theirs().state_dict(), "1.num_batches_tracked"), "theirs.pt")
    assert imported(data, "theirs.pt") == 0


MISTAKES = {
    "no such file": ("none.pt", {}, "there is no such file"),
    "no weights": ("text.pt", {}, "damaged, or "),
    "no pickle": ("junk.pt", {}, "damaged, or no state dict. Save it again"),
    "another kind of file": ("theirs.pt", {"out": "mine.pt"}, "expected a file with .safetensors"),
    "probabilities": ("theirs.pt", {"model": "trained_elsewhere:sigmoid"}, "probabilities"),
    "an unknown network": ("theirs.pt", {"model": "nnunet"}, "did you mean 'dynunet'"),
    "no factory": ("theirs.pt", {"model": "trained_elsewhere:net"}, "did you mean 'network'"),
    "a score in per cent": ("theirs.pt", {"words": ("--expected_score", "86")}, "from 0 to 1"),
}


@pytest.mark.parametrize("file, given, message", MISTAKES.values(), ids=MISTAKES)
def test_mistakes_of_an_import_end_in_a_sentence(here, data, capsys, file, given, message):
    torch.save(theirs().state_dict(), "theirs.pt")
    (here / "text.pt").write_text("no weights")
    (here / "junk.pt").write_text("junk\n")
    words = given.get("words", ())
    others = {name: value for name, value in given.items() if name != "words"}
    assert imported(data, file, *words, **others) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error


def stored(tmp_path):
    """Write a checkpoint of a small U-Net."""
    torch.manual_seed(2)
    network = build_model("unet", in_channels=3, out_channels=1, features=2)
    info = CheckpointInfo(
        "unet", 3, 1, 2, "digital", "t", ("a",), options={"features": 2}, window=(32, 32)
    )
    return load_checkpoint(save_checkpoint(tmp_path / "net.safetensors", network, info))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
def test_an_exported_state_dict_gives_the_plain_network_its_logits(here, capsys, suffix):
    checkpoint = stored(here)
    assert main(["models", "export", "net.safetensors", "--out", f"net-weights{suffix}"]) == 0
    call = capsys.readouterr().out.splitlines()[-1]
    state = eval(call, {"torch": torch, "safetensors": safetensors})
    plain = build_model("unet", in_channels=3, out_channels=1, features=2).eval()
    assert not torch.equal(logits(plain), logits(checkpoint.network))
    plain.load_state_dict(state)
    assert torch.equal(logits(plain), logits(checkpoint.network))


def test_an_exported_network_needs_no_analogmed_and_gives_the_same_logits(here, capsys):
    checkpoint = stored(here)
    assert main(["models", "export", "net.safetensors", "--out", "net.pt2"]) == 0
    call = capsys.readouterr().out.splitlines()[-1]
    network = eval(call, {"torch": torch})
    images = torch.randn(3, 3, 32, 32)  # another number of images than in the export
    with torch.no_grad():
        assert torch.equal(network(images), checkpoint.network(images))


def test_what_cannot_be_exported_ends_in_a_sentence(here, monkeypatch):
    checkpoint = stored(here)
    with pytest.raises(ConfigError, match=r"expected a file with one of .safetensors, .*, got"):
        export_weights(here / "net.onnx", checkpoint)
    with pytest.raises(ConfigError, match="expected another file than the checkpoint"):
        export_weights(here / "net.safetensors", checkpoint)

    class Branching(nn.Module):
        def forward(self, images):
            return images if float(images.mean()) > 0 else -images

    odd = Checkpoint(checkpoint.info, Branching(), {}, here / "odd.safetensors")
    with pytest.raises(ConfigError, match=r"torch.export does not support the network unet: .+"):
        export_weights(here / "net.pt2", odd)
    assert not (here / "net.pt2").exists()


def test_training_starts_from_an_imported_network(here, data):
    torch.save(theirs().state_dict(), "theirs.pt")
    assert imported(data, "theirs.pt") == 0
    options = {"phantom_patients": 6, "phantom_size": 32}
    config = TrainConfig(
        task={"name": "phantom_brain", "root": data[0], "options": options},
        model=FACTORY,
        init="mine.safetensors",
        training="hwa",
    )
    analog = set_up(config, Ranks()).model
    assert torch.equal(analog.get_submodule("0").weight.flatten(), theirs()[0].weight.flatten())
