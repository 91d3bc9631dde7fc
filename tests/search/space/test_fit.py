from pathlib import Path

import pytest
import torch

from analogmed.data import Task
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.models.subnet import Subnet
from analogmed.search.space.fit import check_space_fits
from analogmed.search.space.space import Space

SMALL = {"widths": (2,), "growths": (1,), "kernels": (3,)}


def task(*window):
    dims = len(window)
    return Task("brain", Path(), dims, ("t1",), ("tumour",), window, "px", (), (), (), read=None)


def runs(network, window):
    try:
        Subnet(1, 2, network.spatial_dims, genotype=network)(torch.zeros(1, 1, *window))
    except ShapeError:
        return False
    return True


@pytest.mark.parametrize(
    ("space", "window"),
    [
        (Space(depths=(1, 3), blocks=("identity", "A", "C"), **SMALL), (8, 4)),
        (Space(depths=(1, 3), blocks=("identity", "A", "C"), **SMALL), (4, 4)),
        (Space(depths=(1, 3), blocks=("identity", "A", "B"), **SMALL), (4, 4)),
        (Space(depths=(1, 3), blocks=("A", "C"), **SMALL), (12, 10)),
        (Space(spatial_dims=3, depths=(2,), blocks=("A", "H", "I"), **SMALL), (2, 2, 4)),
        (Space(spatial_dims=3, depths=(2,), blocks=("A", "H", "I"), **SMALL), (2, 2, 2)),
    ],
)
def test_a_space_fits_a_window_if_each_of_its_networks_processes_it(space, window):
    if all(runs(network, window) for network in space.enumerate()):
        check_space_fits(space, task(*window))
    else:
        expected = rf"^space\.depths: networks of \d levels do not fit .* got \[{window[0]}, "
        with pytest.raises(ConfigError, match=expected):
            check_space_fits(space, task(*window))


def test_the_dimensions_of_a_space_are_those_of_the_task():
    with pytest.raises(ConfigError, match=r"^space.spatial_dims: expected 2 for task brain, got 3"):
        check_space_fits(Space(spatial_dims=3), task(16, 16))
