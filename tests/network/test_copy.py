import threading
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from analogmed.foundation.errors import ConfigError
from analogmed.hardware import map_tiles
from analogmed.hardware.operations import record
from analogmed.network.copy import copy_network

pruned = partial(prune.l1_unstructured, name="weight", amount=0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # torch has a newer one
@pytest.mark.parametrize("changed", [pruned, nn.utils.weight_norm, nn.utils.spectral_norm])
def test_a_network_whose_weights_hooks_compute_is_copied(changed):
    model = nn.Sequential(changed(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 1))
    images = torch.rand(2, 3, 8, 8)
    model(images)  # leaves weights with a history of gradients
    twin = copy_network(model.eval())
    assert torch.equal(twin(images), model(images))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(2)
    assert not torch.allclose(twin(images), model(images))
    twin(images).sum().backward()
    assert all(parameter.grad is not None for parameter in twin.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_pruned_network_is_laid_on_tiles_and_its_operations_are_recorded():
    model = nn.Sequential(pruned(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 1))
    shape = (1, 3, 8, 8)
    mapped = map_tiles(model, shape, 64, digital_layers=["0"])
    assert [layer.name for layer in mapped.layers] == ["2"]
    assert sum(record(model, shape).counts.values()) == 3


def test_what_is_replaced_stands_in_the_copy():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    other = nn.Parameter(torch.zeros(3, 3))
    twin = copy_network(model, {id(model[1].weight): other})
    assert twin[1].weight is other
    assert torch.equal(twin[0].weight, model[0].weight)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([torch.ones(1, requires_grad=True) * 2], "deepcopy protocol"),
        (threading.Lock(), "cannot pickle"),
    ],
    ids=["tensor in a list", "lock"],
)
def test_what_cannot_be_copied_is_named(value, reason):
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model[1].kept = value
    with pytest.raises(ConfigError, match=rf"kept of layer '1' \(ReLU\): .*{reason}.*; detach it"):
        copy_network(model)
