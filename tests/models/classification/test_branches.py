"""Networks with joined branches compute what the network computes."""

import pytest
import torch
from monai.networks import nets
from torch import nn

import analogmed as am
from analogmed.foundation.errors import ConfigError
from analogmed.models.classification.branches import join_branches
from analogmed.models.classification.repacking import fold_norms

MATRICES = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


def joined_and_same(network, inputs, **options):
    """Join the branches of a network, check its outputs, and return its layers by name."""
    joined = join_branches(network.eval(), **options)
    with torch.no_grad():
        torch.testing.assert_close(joined(inputs), network(inputs), rtol=1e-5, atol=1e-5)
    return {name: layer for name, layer in joined.named_modules() if isinstance(layer, MATRICES)}


class Sum(nn.Module):
    """Branches whose outputs are added."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, inputs):
        first, *others = (branch(inputs) for branch in self.branches)
        for other in others:
            first = first + other
        return first


class Cat(Sum):
    """Branches whose outputs are concatenated."""

    def __init__(self, *branches, dim=1):
        super().__init__(*branches)
        self.dim = dim

    def forward(self, inputs):
        return torch.cat([branch(inputs) for branch in self.branches], dim=self.dim)


def test_added_kernels_become_one_of_the_largest_size():
    network = Sum(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.Conv2d(3, 4, 1, stride=2, bias=False),
        nn.Conv2d(3, 4, (1, 5), stride=2, padding=(0, 2), bias=False),
    )
    layers = joined_and_same(network, images(2, 3, 9, 12))
    (layer,) = layers.values()
    assert layer.weight.shape == (4, 3, 3, 5) and layer.padding == (1, 2)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.Conv1d(2, 3, 5, padding=4, dilation=2), nn.Conv1d(2, 3, 3, padding="same", dilation=2)),
        (nn.Conv3d(2, 3, 3, padding="same"), nn.Conv3d(2, 3, 1, padding="valid")),
        (
            nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
            nn.Conv2d(2, 3, 1, padding_mode="zeros"),
        ),
        (nn.Conv2d(2, 3, 4, padding=2), nn.Conv2d(2, 3, 2, padding=1)),
        (nn.Linear(8, 3, bias=False), nn.Linear(8, 3)),
    ],
)
def test_branches_of_all_kinds_are_added(first, second):
    shape = {nn.Conv1d: (2, 2, 11), nn.Conv3d: (1, 2, 5, 6, 4), nn.Linear: (2, 5, 8)}
    layers = joined_and_same(Sum(first, second), images(*shape.get(type(first), (2, 2, 8, 7))))
    assert list(layers) == ["branches.0_joined"]


@pytest.mark.parametrize("dim", [1, -1])
def test_linear_layers_of_one_tensor_become_one(dim):
    layers = joined_and_same(Cat(nn.Linear(8, 3), nn.Linear(8, 3), dim=dim), images(2, 5, 8))
    assert [layer.weight.shape for layer in layers.values()] == [(6, 8)]


def test_a_concatenation_reads_the_joined_layer_itself():
    network = Cat(nn.Conv2d(3, 4, 3), nn.Conv2d(3, 2, 3)).eval()
    joined = join_branches(network)
    assert {torch.cat, torch.narrow}.isdisjoint(node.target for node in joined.graph.nodes)
    torch.testing.assert_close(joined(images(1, 3, 8, 8)), network(images(1, 3, 8, 8)))


def test_branches_of_other_readers_are_parts_of_one_layer():
    class Inception(nn.Module):
        """Branches of 1 x 1 before larger kernels, and one of 3 x 3."""

        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = (nn.Conv2d(4, n, 1) for n in (2, 3, 4))
            self.large, self.wide = nn.Conv2d(3, 4, 5, padding=2), nn.Conv2d(4, 2, 3, padding=1)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, inputs):
            others = self.relu(self.large(self.relu(self.two(inputs)))), self.three(inputs)
            return torch.cat([self.relu(self.one(inputs)), *others, self.wide(inputs)], 1)

    layers = joined_and_same(Inception(), images(1, 4, 9, 9))
    assert sorted(layers) == ["large", "two_joined", "wide"]
    assert layers["two_joined"].weight.shape == (9, 4, 1, 1)
    layers = joined_and_same(Inception(), images(1, 4, 9, 9), embed=True)
    assert sorted(layers) == ["large", "two_joined"]
    assert layers["two_joined"].weight.shape == (11, 4, 3, 3)


def test_norms_are_folded_before_branches_are_added():
    def branch(size):
        layers = nn.Conv2d(3, 4, size, padding=size // 2, bias=False), nn.BatchNorm2d(4)
        nn.init.uniform_(layers[1].running_mean), nn.init.uniform_(layers[1].running_var, 0.5, 1.5)
        return nn.Sequential(*layers)

    network = Sum(branch(3), branch(1)).eval()
    with pytest.raises(ConfigError, match="Sum: no parallel branches to join"):
        join_branches(network)
    layers = joined_and_same(fold_norms(network), images(1, 3, 8, 8))
    assert list(layers) == ["branches.0.0_joined"]


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)), {}),
        (Sum(nn.Conv2d(4, 4, 3, groups=2), nn.Conv2d(4, 4, 3, groups=2)), {}),
        (Sum(nn.Conv2d(1, 2, 3, 2, 1), nn.Conv2d(1, 2, 3, 2, 1, 1, 1, True, "circular")), {}),
        (Sum(nn.Conv2d(1, 2, 3, padding=2, dilation=2), nn.Conv2d(1, 2, 3, padding=1)), {}),
        (Cat(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 2, 1)), {}),
        (Sum(*[nn.Conv2d(1, 2, 3)] * 2), {}),
        (nets.AttentionUnet(2, 3, 2, (8, 16, 32), (2, 2)), {"embed": True}),
        (nets.BasicUNetPlusPlus(2, 1, 2, (8, 8, 16, 16, 32, 8)), {"embed": True}),
        (nets.DenseNet121(2, 1, 2, 8, 4, (1, 1)), {"embed": True}),
    ],
)
def test_other_layers_are_left_and_a_network_without_branches_is_named(network, options):
    with pytest.raises(ConfigError, match="no parallel branches to join; expected two or more"):
        join_branches(network, **options)


def test_an_input_that_is_changed_in_place_is_left():
    class Changed(Sum):
        def forward(self, inputs):
            first = self.branches[0](inputs)
            return first + self.branches[1](inputs.relu_())

    with pytest.raises(ConfigError, match="Changed: no parallel branches"):
        join_branches(Changed(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)))


def test_a_network_that_cannot_be_traced_is_named():
    network = nets.SwinUNETR(in_channels=1, out_channels=1, feature_size=12, spatial_dims=2)
    with pytest.raises(ConfigError, match=r"SwinUNETR: torch.fx cannot trace the network"):
        join_branches(network)


@pytest.mark.parametrize(
    ("network", "n_joined", "options"),
    [
        (nets.UNet(2, 3, 2, (8, 16, 32), (2, 2), num_res_units=2), 2, {}),
        (nets.UNet(2, 3, 2, (8, 16, 32), (2, 2), num_res_units=2), 3, {"embed": True}),
        (nets.DynUNet(2, 3, 2, [3] * 3, [1, 2, 2], [2, 2], res_block=True), 3, {"embed": True}),
        (nets.Classifier((3, 32, 32), 2, (8, 16), (2, 2), last_act=None), 2, {}),
    ],
    ids=["unet", "unet-embedded", "dynunet", "classifier"],
)
def test_branches_of_monai_are_joined_digitally_and_on_tiles(network, n_joined, options):
    inputs = images(1, 3, 32, 32)
    layers = joined_and_same(network, inputs, **options)
    assert sum(name.endswith("_joined") for name in layers) == n_joined
    joined = join_branches(network, **options)
    before, after = (am.map_tiles(net, inputs.shape, 512).summary() for net in (network, joined))
    assert after["tiles"] == before["tiles"] - n_joined
    analog = am.calibrate(am.convert(joined, "ideal"), [inputs])
    torch.testing.assert_close(analog.eval()(inputs), network(inputs), rtol=1e-3, atol=1e-3)
