"""Repacked networks compute what the network computes."""

import pytest
import torch
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.models import build_model
from analogmed.models.classification.repacking import fold_norms, with_one_channel


def with_statistics(network):
    """Give all batch norms statistics that are not those of their initialisation."""
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for values, least in ((layer.running_mean, -1.0), (layer.running_var, 0.5)):
                values.copy_(torch.rand(values.shape, generator=generator) + least)
            nn.init.uniform_(layer.weight, 0.5, 1.5, generator=generator)
    return network.eval()


class Net(nn.Module):
    """A norm that can be folded, one after a convolution that is also a skip, one before one."""

    def __init__(self, channels=3):
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.folded = nn.BatchNorm2d(4)
        self.skip = nn.Conv2d(4, 4, 1)
        self.kept = nn.BatchNorm2d(4)
        self.before = nn.BatchNorm2d(4)
        self.shared = nn.Conv2d(4, 4, 1, bias=False)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        values = self.folded(self.first(images)).relu()
        skip = self.skip(values)
        values = skip + self.kept(skip).relu()
        values = self.shared(self.before(self.shared(values)))
        return self.head(values.mean((2, 3)))


IMAGES = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def same(first, second):
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_only_norms_that_follow_a_convolution_alone_are_folded():
    network = with_statistics(Net())
    images = IMAGES.expand(-1, 3, -1, -1)
    folded = fold_norms(network)
    same(folded(images), network(images))
    kinds = {name: type(layer) for name, layer in folded.named_children()}
    assert kinds["folded"] is nn.Identity
    assert {kinds[name] for name in ("kept", "before")} == {nn.BatchNorm2d}
    assert isinstance(network.folded, nn.BatchNorm2d)


def test_one_channel_replaces_three_equal_ones():
    network = with_statistics(Net())
    one = with_one_channel(network)
    assert one.first.weight.shape == (4, 1, 3, 3)
    same(one(IMAGES), network(IMAGES.expand(-1, 3, -1, -1)))
    assert network.first.in_channels == 3


def test_what_cannot_be_repacked_is_refused():
    class Branches(Net):
        def forward(self, images):
            return super().forward(images) + images.mean()

    class Depends(Net):
        def forward(self, images):
            return super().forward(images) if images.mean() > 0 else images

    with pytest.raises(ConfigError, match="Branches: expected images that are the input of one"):
        with_one_channel(Branches())
    with pytest.raises(ConfigError, match=r"Depends: torch.fx cannot trace the network"):
        fold_norms(Depends())
    grouped = nn.Sequential(nn.Conv2d(4, 4, 1, groups=2))
    with pytest.raises(ConfigError, match="the first convolution has 2 groups"):
        with_one_channel(grouped)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "n_folded"), [("densenet121", 59), ("efficientnet", 49)])
def test_networks_for_classification_are_repacked(name, n_folded):
    network = with_statistics(build_model(name, in_channels=3, out_channels=2))
    images = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    before = network(images.expand(-1, 3, -1, -1))
    folded = fold_norms(with_one_channel(network))
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()) for n in (network, folded)]
    assert norms[0] - norms[1] == n_folded
    torch.testing.assert_close(folded(images), before, rtol=1e-3, atol=1e-4)
