"""Two ranks on CPUs against one process, with torch's own DistributedDataParallel."""

import importlib.util
from pathlib import Path

import programs
import pytest
import torch
from torch import nn

from analogmed.analog import convert, create_rpu_config, ignore_unused_parameters

pytestmark = pytest.mark.slow

_SCRIPT = Path(__file__).with_name("ddp_rank.py")


SETTINGS = ["numba-off", "numba-chips", "torch-modifier", "aihwkit-off"]


def in_one_process(setting):
    spec = importlib.util.spec_from_file_location("ddp_rank", _SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.gradients(*setting.split("-"))


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """The gradients that each of two ranks has, by setting."""
    folder = tmp_path_factory.mktemp("ranks")
    processes = [programs.start(_SCRIPT, folder, rank, 2, *SETTINGS) for rank in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=180)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_two_ranks_have_the_gradients_of_one_process(ranks, setting):
    expected = in_one_process(setting)
    for rank in ranks:
        found = rank[setting]
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert (found[name] - gradient).norm() <= 1e-5 * gradient.norm() + 1e-8, name


def test_only_the_two_scalars_of_aihwkits_tiles_are_left_out():
    digital = nn.Sequential(nn.Conv2d(3, 12, 3), nn.Conv3d(2, 2, 3))
    config = create_rpu_config("pcm", tile_size=(27, 6))
    assert ignore_unused_parameters(convert(digital, config)) == set()
    found = ignore_unused_parameters(convert(digital, config, backend="aihwkit"))
    assert found == {
        f"0.analog_module.array.0.{tile}.{name}"
        for tile in (0, 1)
        for name in ("analog_ctx", "input_range_update_idx")
    }
