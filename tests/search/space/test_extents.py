import numpy as np
import pytest
import torch

from analogmed.hardware import map_tiles
from analogmed.models import Genotype, Level
from analogmed.models.subnet import Subnet
from analogmed.search.space.sizes import operation_sizes
from analogmed.search.space.space import Space
from analogmed.search.space.unions import Candidates
from analogmed.search.supernet.network import Supernet

SPACE = Space(depths=(1, 2, 3), blocks=("identity", "A", "C", "F"), widths=(2, 4), kernels=(3, 5))
TASKS = {"brain": 4, "spleen": 1}


def union_size(networks, unit="parameters", image_channels=(1,), tile_size=16):
    sizes = [
        operation_sizes(
            Subnet(image_channels[0], 2, genotype=network),
            unit,
            tile_size=tile_size,
            image_channels=image_channels,
        )
        for network in networks
    ]
    scores = {str(task): [0.5] * len(networks) for task in range(len(networks))}
    return Candidates(list(map(str, networks)), scores, sizes).union_size(range(len(networks)))


def shared_weights(supernet, networks, task):
    """Number of weights of the levels that any of the networks uses, by their gradients."""
    supernet.zero_grad()
    for network in networks:
        sum(weight.sum() for weight in supernet.weights(network, task).values()).backward()
    grads = [parameter.grad for parameter in supernet.levels.parameters()]
    return sum(int((grad != 0).sum()) for grad in grads if grad is not None)


def chain(*levels):
    return Genotype(tuple(Level(block, channels, kernel) for block, channels, kernel in levels))


def test_one_block_serves_the_wider_and_the_larger_kernel():
    narrow, wide = chain(("F", 4, 5), ("F", 8, 5)), chain(("F", 8, 3), ("F", 8, 3))
    both = chain(("F", 8, 5), ("F", 8, 5))
    for unit in ("parameters", "tiles"):
        assert union_size([narrow, wide], unit) == union_size([both], unit)
    assert union_size([narrow]) == 4296
    assert union_size([wide]) == 3888


@pytest.mark.parametrize("seed", range(20))
def test_the_size_of_one_network_is_its_weights_in_the_supernetwork(seed):
    network = SPACE.random(np.random.default_rng(seed))
    supernet = Supernet(SPACE, 1, 2)
    assert union_size([network]) == shared_weights(supernet, [network], "")


@pytest.mark.parametrize("seed", range(20))
def test_a_union_has_room_for_all_weights_that_its_networks_share(seed):
    generator = np.random.default_rng(seed)
    networks = [SPACE.random(generator) for _ in range(2)]
    supernet = Supernet(SPACE, 1, 2)
    used = shared_weights(supernet, networks, "")
    own = [union_size([network]) for network in networks]
    assert max(max(own), used) <= union_size(networks) <= 2.5 * used
    assert union_size([networks[0], networks[0]]) == own[0]


def test_the_first_level_has_inputs_of_its_own_for_each_task():
    network = chain(("C", 4, 3), ("C", 4, 3))
    alone, together = union_size([network]), union_size([network], image_channels=(4, 1))
    assert together - alone == 4 * 4 * 9
    supernet = Supernet(SPACE, TASKS, dict.fromkeys(TASKS, 2))
    for parameter in supernet.parameters():
        parameter.grad = None
    for task in TASKS:
        sum(weight.sum() for weight in supernet.weights(network, task).values()).backward()
    grads = [parameter.grad for parameter in supernet.levels.parameters()]
    assert together == sum(int((grad != 0).sum()) for grad in grads if grad is not None)


@pytest.mark.parametrize("tile_size", [8, 16, 64])
@pytest.mark.parametrize("seed", range(8))
def test_tiles_are_those_of_the_mapped_network(seed, tile_size):
    network = SPACE.random(np.random.default_rng(seed))
    model = Subnet(1, 2, genotype=network)
    mapped = map_tiles(model, (1, 1, 16, 16), tile_size, row_split="even")
    expected = sum(layer.tiles for layer in mapped.layers if layer.name != "head")
    assert union_size([network], "tiles", tile_size=tile_size) == expected


def test_digital_layers_take_no_tiles():
    network = Genotype((Level("C", 4, 3, "digital", "digital"), Level("C", 4, 3)))
    with torch.device("meta"):
        sizes = operation_sizes(Subnet(1, 2, genotype=network), "tiles")
    assert (float(sizes[0, "C"]), float(sizes[1, "C"])) == (0.0, 1.0)
