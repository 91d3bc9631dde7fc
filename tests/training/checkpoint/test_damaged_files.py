"""Damaged checkpoints and bundles: each is read, or rejected with a message that names the file."""

import copy
import dataclasses
import json
import math
import random
import resource
import signal
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from monai.networks import nets

from analogmed.analog import Hardware, calibrate, convert
from analogmed.analog.description.aihwkit_config import rpu_config_of
from analogmed.foundation.errors import AnalogmedError
from analogmed.models import build_model
from analogmed.training import CheckpointInfo, load_checkpoint, save_checkpoint
from analogmed.training.checkpoint.file import read_file, write_file

MUTATIONS = 400
LONGEST_S = 10
MOST_BYTES = 2 * 2**30
VALUES = (
    None,
    True,
    -1,
    0,
    1,
    7,
    12_345,
    10**9,
    10**30,
    1.5,
    -1e308,
    math.nan,
    "",
    "x",
    "../../outside",
    "/etc/passwd",
    "os:system",
    "bundle:/etc",
    "@network_def",
    "$__import__('os').mkdir('outside')",
    "\ud800",
    [],
    [[]],
    [3, 3],
    {},
    {"a": 1},
    {"_target_": "UNet"},
)


@contextmanager
def limited(folder):
    """Fail on a hang, on more than 2 GB above the start, and on a file outside the folder."""

    def too_long(*_):
        raise TimeoutError(f"longer than {LONGEST_S} s")

    outside = {p for p in folder.parent.rglob("*") if folder not in p.parents}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert grown < MOST_BYTES
    assert {p for p in folder.parent.rglob("*") if folder not in p.parents} == outside


def is_refused(read, folder, what):
    """Whether reading ends in a sentence that names a file of the folder, else the file is read."""
    with limited(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except AnalogmedError as error:
            assert str(folder) in str(error), f"{what}: {error}"
            return True
        except Exception as error:
            raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return False


def damaged_bytes(content, draw):
    """A few bytes of a file changed, removed, repeated or inserted, most often near its start."""
    content = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8))):
        place = min(int(len(content) * draw.random() ** draw.choice((1, 8))), len(content) - 1)
        length = draw.choice((1, 1, 8, 300))
        match draw.randrange(4):
            case 0:
                content[place] ^= 1 << draw.randrange(8)
            case 1:
                del content[place : place + length]
            case 2:
                content[place:place] = content[place : place + length]
            case 3:
                content[place:place] = draw.randbytes(length)
        if not content:
            return b""
    return bytes(content)


def damaged_value(value, draw):
    """One value of nested dictionaries and lists replaced, removed or renamed."""
    value = copy.deepcopy(value)
    place, key = None, None
    node = value
    while isinstance(node, dict | list) and node and (place is None or draw.random() < 0.7):
        place, key = node, draw.choice(list(node) if isinstance(node, dict) else range(len(node)))
        node = node[key]
    match draw.randrange(5):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place["surplus"] = place.pop(key)
        case 2 if isinstance(node, int | float):
            place[key] = node * draw.choice((-1, 0, 3, 1000, 10**6))
        case 3:
            place[key] = [node] * draw.choice((0, 2, 50))
        case _:
            place[key] = draw.choice(VALUES)
    return value


def damaged_tensors(tensors, draw):
    """One tensor with other values, shape, type or name, or none."""
    tensors = dict(tensors)
    name = draw.choice(sorted(tensors))
    tensor = tensors[name].clone()
    match draw.randrange(6):
        case 0:
            del tensors[name]
        case 1:
            tensors[draw.choice(("surplus", f"{name}.input_range", "a.out_scale"))] = tensor
        case 2:
            kinds = (torch.int8, torch.bool, torch.complex64, torch.float16, torch.float8_e4m3fn)
            tensors[name] = tensor.to(draw.choice(kinds))
        case 3:
            tensors[name] = draw.choice((tensor.flatten(), tensor[None], torch.zeros(0)))
        case 4:
            flat = tensor.flatten().double()
            flat[draw.randrange(len(flat))] = draw.choice((math.nan, math.inf, -math.inf, -1e30))
            tensors[name] = flat.reshape(tensor.shape).to(
                tensor.dtype if tensor.is_floating_point() else torch.float64
            )
        case 5:
            tensors[name] = torch.full_like(tensor, draw.choice((0, -1, 100)))
    return tensors


@pytest.fixture
def checkpoint(tmp_path):
    """A small hardware-aware network, in a folder of its own."""
    torch.manual_seed(0)
    model = build_model("unet", in_channels=3, out_channels=1, features=2)
    hardware = Hardware(tile_size=(16, 16), learned_out_scale="tile")
    analog = convert(model, rpu_config_of(hardware))
    calibrate(analog, [torch.rand(2, 3, 32, 32)])
    info = CheckpointInfo(
        "unet",
        3,
        1,
        2,
        "hwa",
        "phantom_brain",
        ("tumour",),
        options={"features": 2},
        hardware=dataclasses.asdict(hardware),
    )
    return save_checkpoint(tmp_path / "folder" / "net.safetensors", analog, info)


@pytest.mark.exhaustive
def test_no_damaged_checkpoint_ends_in_a_traceback(checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    content, (description, tensors) = checkpoint.read_bytes(), read_file(checkpoint)
    refused = 0
    for seed in range(MUTATIONS):
        draw = random.Random(seed)
        kind = ("bytes", "header", "tensors")[seed % 3]
        if kind == "bytes":
            checkpoint.write_bytes(damaged_bytes(content, draw))
        elif kind == "header":
            header = damaged_value(json.loads(description), draw)
            write_file(checkpoint, json.dumps(header), tensors)
        else:
            write_file(checkpoint, description, damaged_tensors(tensors, draw))
        refused += is_refused(lambda: load_checkpoint(checkpoint), checkpoint.parent, (seed, kind))
    assert refused > MUTATIONS / 2


@pytest.mark.exhaustive
@pytest.mark.parametrize("pretrained", [True, False])
def test_no_damaged_bundle_ends_in_a_traceback(tmp_path, monkeypatch, pretrained):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bundle"
    for name in ("configs", "models"):
        (folder / name).mkdir(parents=True)
    network = {
        "_target_": "UNet",
        "spatial_dims": 2,
        "in_channels": 1,
        "out_channels": 2,
        "channels": "@sizes::channels",
        "strides": [2, 2],
        "num_res_units": 2,
        "norm": ["batch", {"eps": 1e-5}],
        "act": "PRELU",
        "dropout": 0.1,
    }
    config = {"network_def": network, "sizes": {"channels": [4, 8, 16]}}
    path, weights = folder / "configs/inference.json", folder / "models/model.pt"
    model = nets.UNet(2, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=2)
    torch.save(model.state_dict(), weights)
    state, refused = weights.read_bytes(), 0
    for seed in range(MUTATIONS):
        draw = random.Random(seed)
        if seed % 4 == 0:
            path.write_bytes(damaged_bytes(json.dumps(config, indent=1).encode(), draw))
        else:
            path.write_text(json.dumps(damaged_value(config, draw)))
        weights.write_bytes(damaged_bytes(state, draw) if seed % 8 == 0 else state)

        def build():
            build_model(
                f"bundle:{folder}",
                in_channels=1,
                out_channels=2,
                spatial_dims=2,
                pretrained=pretrained,
            )

        refused += is_refused(build, folder, (seed, path.read_bytes()))
    assert refused > MUTATIONS / 4
    assert not Path("outside").exists()
