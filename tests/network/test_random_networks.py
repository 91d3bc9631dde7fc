"""Random networks and those of MONAI on an ideal chip compute as digitally, in both modes."""

import types

import pytest
import torch
import torch.nn.functional as F
from monai.networks import nets
from torch import nn
from torch.nn.utils import prune

from analogmed.analog import Chip, convert, coverage, create_rpu_config
from analogmed.network.probe import NetworkProbe

DAY_S = 86_400.0


class Standardised(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean((1, 2, 3), keepdim=True), bias)


def replaced(channels):
    layer = nn.Conv2d(channels, channels, 1)
    layer.forward = types.MethodType(lambda self, x: x + F.conv2d(x, self.weight), layer)
    return layer


class Random(nn.Module):
    """Blocks in a random order: layers of each kind, and what users do with them."""

    def __init__(self, draw):
        super().__init__()
        self.width = 2 + draw(6)
        width = self.width
        self.entry, self.head = nn.Conv2d(2, width, 3, padding=1), nn.Conv2d(width, 1, 1)
        self.shared = nn.Conv2d(width, width, 3, padding=1, groups=width if draw(2) else 1)
        self.weight = nn.Parameter(0.1 * torch.randn(width, width, 1, 1))
        self.owner = nn.Linear(width, width)
        self.down = nn.Conv2d(width, width, 2, stride=2)
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.norm, self.instance = nn.BatchNorm2d(width), nn.InstanceNorm2d(width)
        self.custom = Standardised(width, width, 3, padding=1)
        self.pruned = prune.l1_unstructured(nn.Conv2d(width, width, 1), "weight", amount=0.5)
        self.instance_forward = replaced(width)
        self.attention = nn.TransformerEncoderLayer(
            width, 1, 2 * width, dropout=0.0, batch_first=True
        )
        self.plain_list = [self.shared, self.norm]
        self.by_name = {"shared": self.shared}
        self.order = [draw(len(BLOCKS)) for _ in range(2 + draw(5))]

    def forward(self, x):
        x -= 0.1
        x = self.entry(x).relu_()
        for index in self.order:
            x = BLOCKS[index](self, x)
        return self.head(x)


def tokens(net, x):
    seen = net.attention(x.flatten(2).transpose(1, 2))
    return seen.transpose(1, 2).reshape(x.shape)


BLOCKS = [
    lambda net, x: x + net.plain_list[0](x),
    lambda net, x: net.plain_list[1](x),
    lambda net, x: net.by_name["shared"](input=x).relu(),
    lambda net, x: x + F.conv2d(x, net.weight),
    lambda net, x: F.linear(x.movedim(1, -1), net.owner.weight).movedim(-1, 1),
    lambda net, x: net.owner(x.movedim(1, -1)).movedim(-1, 1),
    lambda net, x: net.up(net.down(x)),
    lambda net, x: net.instance(net.custom(x)),
    lambda net, x: net.pruned(x.contiguous()).view(x.shape[0], -1).view(x.shape),
    lambda net, x: net.instance_forward(x),
    tokens,
]


def drawing(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda count: int(torch.randint(count, (1,), generator=generator))


def assert_ideal_is_digital(network, images, *, tile_size, row_split, backend):
    config = create_rpu_config("ideal", tile_size=tile_size)
    analog = convert(network, config, row_split=row_split, backend=backend)
    for training in (False, True):
        states = [
            {name: value.clone() for name, value in each.state_dict().items()}
            for each in (network, analog)
        ]
        outputs = []
        for each in (network, analog):
            torch.manual_seed(1)
            found = each.train(training)(images.clone())
            outputs.append(found if isinstance(found, torch.Tensor) else found[0])
        expected, found = outputs
        size = float(expected.detach().abs().max()) + 1e-3
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * size)
        for each, state in zip((network, analog), states, strict=True):
            each.load_state_dict(state)
    before = images.clone()
    with torch.no_grad():
        digital = network.eval()(images.clone())
        chip = Chip(analog, seed=0).at(DAY_S)(images)
    torch.testing.assert_close(chip, digital, rtol=1e-4, atol=1e-4 * float(digital.abs().max()))
    assert torch.equal(images, before)
    return analog


def check(seed):
    draw = drawing(seed)
    torch.manual_seed(seed)
    network, side = Random(draw), 4 + 2 * draw(4)
    images = torch.rand(1 + draw(3), 2, side, side)
    NetworkProbe("random", 2, 1, (side, side)).check(network, training=True)
    analog = assert_ideal_is_digital(
        network,
        images,
        tile_size=(2 + draw(30), 1 + draw(16)),
        row_split=("even", "channels")[draw(2)],
        backend=("auto", "torch")[draw(2)],
    )
    report = coverage(analog, tuple(images.shape))
    used = {BLOCKS[index] for index in network.order}
    assert ("weight" in report.digital_products) == (BLOCKS[3] in used)
    assert ("owner.weight" in report.digital_products) == (BLOCKS[4] in used)
    assert set(report.digital_layers) >= {"custom", "pruned", "instance_forward"}


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_on_an_ideal_chip_are_the_digital_ones(seed):
    check(seed)


@pytest.mark.exhaustive
@pytest.mark.parametrize("start", range(1000, 1300, 50))
def test_many_random_networks_on_an_ideal_chip_are_the_digital_ones(start):
    for seed in range(start, start + 50):
        check(seed)


MONAI = {
    "UNet": lambda d: nets.UNet(d, 2, 2, (4, 8, 16), (2, 2), num_res_units=1),
    "BasicUNet": lambda d: nets.BasicUNet(d, 2, 2, (4, 4, 8, 8, 8, 4)),
    "AttentionUnet": lambda d: nets.AttentionUnet(d, 2, 2, (4, 8), (2, 2)),
    "SegResNet": lambda d: nets.SegResNet(d, 8, 2, 2, blocks_down=(1, 1), blocks_up=(1,)),
    "SegResNetDS": lambda d: nets.SegResNetDS(d, 8, 2, 2, blocks_down=(1, 1)),
    "DynUNet": lambda d: nets.DynUNet(d, 2, 2, (3, 3, 3), (1, 2, 2), (2, 2), filters=(4, 8, 8)),
    "VNet": lambda d: nets.VNet(d, 2, 2, dropout_prob_down=0.0, dropout_prob_up=(0.0, 0.0)),
    "HighResNet": lambda d: nets.HighResNet(d, 2, 2),
    "UNETR": lambda d: nets.UNETR(2, 2, 32, 4, 12, 24, 3, spatial_dims=d),
    "SwinUNETR": lambda d: nets.SwinUNETR(2, 2, feature_size=12, spatial_dims=d),
    "FlexibleUNet": lambda d: nets.FlexibleUNet(
        2, 2, "efficientnet-b0", spatial_dims=d, decoder_channels=(8, 8, 8, 8, 8)
    ),
    "resnet10": lambda d: nets.resnet10(spatial_dims=d, n_input_channels=2, num_classes=2),
    "DenseNet": lambda d: nets.DenseNet(d, 2, 2, 4, 4, (2, 2)),
    "ViT": lambda d: nets.ViT(2, 32, 8, 24, 24, 2, 3, spatial_dims=d),
}
"""Networks of MONAI by the number of spatial dimensions."""
SIDES = {"SwinUNETR": 64}
IN_3D = ("UNet", "BasicUNet", "AttentionUnet", "SegResNetDS", "DynUNet")


class First(nn.Module):
    """The first output of a network that has several."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        outputs = self.network(x)
        while not isinstance(outputs, torch.Tensor):
            outputs = outputs[0]
        return outputs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "spatial_dims"),
    [
        *(pytest.param(name, 2, marks=pytest.mark.slow) for name in MONAI),
        *(pytest.param(name, 3, marks=pytest.mark.slow) for name in IN_3D),
        pytest.param("VNet", 3, marks=pytest.mark.exhaustive),
    ],
)
def test_networks_of_monai_on_an_ideal_chip_are_the_digital_ones(name, spatial_dims):
    torch.manual_seed(0)
    side = SIDES.get(name, 32)
    assert_ideal_is_digital(
        First(MONAI[name](spatial_dims)),
        torch.rand(2, 2, *(side,) * spatial_dims),
        tile_size=64,
        row_split="even",
        backend="auto",
    )
