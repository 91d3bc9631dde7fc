import numpy as np
import pytest
import torch

from analogmed.foundation.errors import ConfigError
from analogmed.models import Genotype, Level
from analogmed.search.space.space import Space
from analogmed.search.supernet.network import Supernet

SPACES = {
    "2d": Space(widths=(2, 3), kernels=(3, 5, 7)),
    "2d of both places": Space(widths=(2,), places=("analog", "digital")),
    "3d": Space(spatial_dims=3, depths=(1, 2, 3), widths=(2, 3)),
    "classification": Space(purpose="classification", widths=(2, 3)),
    "without identity": Space(blocks=("B", "E", "G"), growths=(1, 2, 3), widths=(1, 2)),
}


def images_of(space, channels, seed=0):
    sides = (2, channels, *((32, 32) if space.spatial_dims == 2 else (8, 8, 8)))
    return torch.randn(sides, generator=torch.Generator().manual_seed(seed))


def randomise(supernet, seed=0):
    """Norms start with scales of 1 and shifts of 0, which would look alike in every slice."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return supernet


@pytest.mark.slow
@pytest.mark.parametrize("name", SPACES)
def test_a_network_alone_computes_what_the_supernetwork_does(name):
    space = SPACES[name]
    supernet = randomise(Supernet(space, 3, 2))
    images, generator = images_of(space, 3), np.random.default_rng(1)
    genotypes = [space.random(generator) for _ in range(24)]
    blocks = {level.block for genotype in genotypes for level in genotype.levels}
    assert blocks == {*space.blocks, "zero"}
    with torch.no_grad():
        for genotype in genotypes:
            shared, alone = supernet(images, genotype), supernet.subnet(genotype)(images)
            torch.testing.assert_close(shared, alone, rtol=1e-6, atol=1e-6, msg=str(genotype))


def test_the_skip_and_what_comes_up_have_weights_of_their_own():
    space = Space(depths=(2,), blocks=("B",), widths=(2, 4), growths=(2,), kernels=(3, 5))
    supernet = Supernet(space, 1, 1)
    small = Genotype((Level("B", 2, 3), Level("B", 4, 3)))
    join = supernet.get_parameter("levels.0.join.B.0.weight")
    assert join.shape == (4, 4 + 4, 5, 5)
    taken = supernet.subnet(small).get_parameter("levels.0.join.0.weight")
    expected = torch.cat([join[:2, :2, 1:4, 1:4], join[:2, 4:6, 1:4, 1:4]], dim=1)
    assert torch.equal(taken, expected)
    up = supernet.get_parameter("levels.0.up.B.weight")
    assert torch.equal(supernet.subnet(small).get_parameter("levels.0.up.weight"), up[:4, :2])


def test_what_an_identity_joins_keeps_the_places_of_its_parts():
    """Levels B2, identity, B4k3 of at most B2, B4, B8: the middle passes on 2 of 4 and 4 of 8."""
    space = Space(depths=(3,), blocks=("identity", "B"), widths=(2,), growths=(1, 2), kernels=(3,))
    supernet = Supernet(space, 1, 1)
    genotype = Genotype((Level("B", 2, 3), Level("identity"), Level("B", 8, 3)))
    up = supernet.get_parameter("levels.0.up.B.weight")
    assert up.shape[:2] == (4 + 8, 2)
    taken = supernet.subnet(genotype).get_parameter("levels.0.up.weight")
    assert torch.equal(taken, torch.cat([up[:2], up[4:12]]))


def test_gradients_reach_the_weights_of_the_network_and_no_others():
    space = Space(depths=(2,), blocks=("B", "D"), widths=(2, 4), growths=(1,), kernels=(3, 5))
    supernet = randomise(Supernet(space, 1, 1))
    genotype = Genotype((Level("B", 2, 3), Level("D", 2, 5)))
    supernet(images_of(space, 1), genotype).square().sum().backward()
    gradients = {name: p.grad for name, p in supernet.named_parameters() if p.grad is not None}
    assert not [
        name for name in gradients if name.startswith(("levels.0.down.D", "levels.1.down.B"))
    ]
    own = gradients["levels.0.down.B.0.weight"]
    assert own[:2, :, 1:4, 1:4].ne(0).all()
    assert own.count_nonzero() == own[:2, :, 1:4, 1:4].numel()


def test_tasks_share_all_but_their_heads_and_their_image_channels():
    space = Space(depths=(1, 2), widths=(2, 3))
    supernet = randomise(Supernet(space, {"brain": 3, "spleen": 1}, {"brain": 1, "spleen": 4}))
    genotype = Genotype((Level("C", 3, 3), Level("B", 3, 5)))
    brain, spleen = (supernet.subnet(genotype, task) for task in ("brain", "spleen"))
    weights = dict(brain.named_parameters())
    differ = {n for n, p in spleen.named_parameters() if not torch.equal(p, weights[n])}
    assert differ == {"levels.0.down.0.weight", "head.weight", "head.bias"}
    first = supernet.get_parameter("levels.0.down.C.0.weight")[:3, :, 1:4, 1:4]
    assert torch.equal(weights["levels.0.down.0.weight"], first[:, :3])
    assert torch.equal(spleen.get_parameter("levels.0.down.0.weight"), first[:, 3:])
    for task, network, channels in (("brain", brain, 3), ("spleen", spleen, 1)):
        images = images_of(space, channels)
        torch.testing.assert_close(supernet(images, genotype, task), network(images))
    with pytest.raises(ConfigError, match="unknown task 'splen'; did you mean 'spleen'"):
        supernet(images_of(space, 1), genotype, "splen")
    with pytest.raises(ConfigError, match="unknown task None"):
        supernet.subnet(genotype)


def test_in_and_out_channels_are_of_the_same_tasks():
    with pytest.raises(ConfigError, match="the same ones"):
        Supernet(Space(), {"brain": 3}, {"spleen": 1})


def test_a_network_of_another_space_is_refused():
    supernet = Supernet(Space(depths=(1, 2), widths=(2,)), 1, 1)
    with pytest.raises(ConfigError, match="not of the supernetwork's space"):
        supernet.subnet(Genotype((Level("B", 64, 3),)))


def test_the_copy_of_a_network_does_not_change_the_shared_weights():
    space = Space(depths=(1,), widths=(2,), kernels=(3,))
    supernet = Supernet(space, 1, 1)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    network = supernet.subnet(Genotype((Level("B", 2, 3),)))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())


def test_networks_share_a_head_if_they_begin_with_the_same_block_and_width():
    space = Space(depths=(1, 2), widths=(2, 3), blocks=("B", "C"), kernels=(3,))
    supernet = randomise(Supernet(space, 1, 2))

    def head(*levels):
        return supernet.subnet(Genotype(levels)).head.weight

    of_b = head(Level("B", 2, 3))
    assert torch.equal(of_b, head(Level("B", 2, 3), Level("C", 4, 3)))
    assert not torch.equal(of_b, head(Level("C", 2, 3)))
    assert not torch.equal(of_b, head(Level("B", 3, 3))[:, :2])


def test_a_gate_passes_on_how_much_its_level_matters():
    """Of a network f(g * x) the derivative by g at 1 is that by a common factor on the output."""
    space = Space(depths=(1,), blocks=("B",), widths=(2,), kernels=(3,))
    supernet = randomise(Supernet(space, 1, 1))
    genotype, images = Genotype((Level("B", 2, 3),)), images_of(space, 1)
    gate = torch.ones((), requires_grad=True)
    logits = supernet(images, genotype, gates=[gate])
    torch.testing.assert_close(logits, supernet(images, genotype))
    logits.sum().backward()
    bias = supernet.get_parameter("heads.0.B2.bias")
    expected = (logits - bias).sum()  # the head is linear, so that g scales all but its bias
    torch.testing.assert_close(gate.grad, expected.detach())
