import pytest
import torch
from torch import nn

from analogmed.foundation.errors import ConfigError
from analogmed.models.blocks import ChannelLinear, make_block, make_partner
from analogmed.models.genotype import BLOCKS, block

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
UPCONV = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}

# block: (spatial dims, activations, which are normalised), as in the table of MED-NAS-Bench
TABLE = {
    "B": (2, [nn.ReLU], [False]),
    "C": (2, [nn.ReLU], [True]),
    "D": (2, [nn.LeakyReLU], [False]),
    "E": (2, [nn.LeakyReLU], [True]),
    "F": (2, [nn.ReLU, nn.ReLU], [False, True]),
    "G": (2, [nn.LeakyReLU, nn.LeakyReLU], [False, True]),
    "H": (3, [nn.ReLU], [False]),
    "I": (3, [nn.ReLU], [True]),
    "J": (3, [nn.LeakyReLU], [False]),
    "K": (3, [nn.LeakyReLU], [True]),
    "L": (3, [nn.ReLU, nn.ReLU], [False, True]),
    "M": (3, [nn.LeakyReLU, nn.LeakyReLU], [False, True]),
}


def test_the_blocks_are_those_of_the_table():
    assert set(BLOCKS) == {"zero", "identity", "A", *TABLE}


@pytest.mark.parametrize("name", TABLE)
def test_a_block_of_convolutions_has_the_layers_of_the_table(name):
    dims, activations, norms = TABLE[name]
    norm_class = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims]
    expected = []
    for activation, norm in zip(activations, norms, strict=True):
        expected += [CONV[dims], norm_class, activation] if norm else [CONV[dims], activation]
    layers = make_block(name, 2, 5, kernel=3, spatial_dims=dims)
    assert [type(layer) for layer in layers] == expected
    channels = [(layer.in_channels, layer.out_channels) for layer in layers if _is_conv(layer)]
    assert channels == [(2, 5), (5, 5)][: len(activations)]
    assert all(layer.affine for layer in layers if isinstance(layer, norm_class))


def _is_conv(layer):
    return isinstance(layer, (nn.Conv2d, nn.Conv3d))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("name", [*TABLE, "A"])
def test_a_block_keeps_the_size(name, kernel):
    dims = TABLE[name][0] if name in TABLE else 2
    images = torch.rand(2, 2, *[8] * dims)
    assert make_block(name, 2, 5, kernel=kernel, spatial_dims=dims)(images).shape == (
        (2, 5, *[8] * dims)
    )


@pytest.mark.parametrize("name", TABLE)
def test_the_partner_of_convolutions_is_a_transposed_one_of_kernel_and_stride_2(name):
    dims = TABLE[name][0]
    partner = make_partner(name, 5, 3, spatial_dims=dims)
    assert type(partner) is UPCONV[dims]
    assert partner.kernel_size == partner.stride == (2,) * dims
    assert partner(torch.rand(1, 5, *[4] * dims)).shape == (1, 3, *[8] * dims)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_partner_of_a_linear_block_is_linear_the_other_way_at_twice_the_size(dims):
    partner = make_partner("A", 5, 3, spatial_dims=dims)
    linear = [layer for layer in partner.modules() if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(5, 3)]
    images = torch.rand(1, 5, *[4] * dims)
    doubled = partner(images)
    assert doubled.shape == (1, 3, *[8] * dims)
    assert torch.equal(doubled[(..., *[slice(0, None, 2)] * dims)], ChannelLinear.forward(
        partner[0], images
    ))  # fmt: skip


@pytest.mark.parametrize("dims", [2, 3])
def test_identity_passes_on_and_its_partner_repeats_values(dims):
    images = torch.rand(1, 5, *[4] * dims)
    assert make_block("identity", 5, 0, kernel=1, spatial_dims=dims)(images) is images
    doubled = make_partner("identity", 5, 5, spatial_dims=dims)(images)
    for offset in (0, 1):
        assert torch.equal(doubled[(..., *[slice(offset, None, 2)] * dims)], images)


def test_a_linear_block_is_a_convolution_of_width_1():
    images = torch.rand(2, 3, 4, 5)
    mixed = ChannelLinear(3, 6)
    weight = mixed.linear.weight[:, :, None, None]
    expected = nn.functional.conv2d(images, weight, mixed.linear.bias)
    torch.testing.assert_close(mixed(images), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("N", r"unknown block 'N'; choose from: A, B"),
        ("identiti", r"unknown block 'identiti'; did you mean 'identity'\?"),
        (None, "unknown block None"),
        (["B"], r"unknown block \['B'\]"),
        (3, "unknown block 3"),
    ],
)
def test_a_block_that_there_is_not_is_refused(name, message):
    with pytest.raises(ConfigError, match=message):
        block(name)


@pytest.mark.parametrize("make", [make_block, make_partner])
@pytest.mark.parametrize(
    ("name", "dims", "message"),
    [("zero", 2, "zero ends a network"), ("B", 3, "B is not one of 3D"), ("A", 1, "1D")],
)
def test_blocks_that_have_no_layers_there_are_refused(make, name, dims, message):
    shape = {"kernel": 3} if make is make_block else {}
    with pytest.raises(ConfigError, match=message):
        make(name, 2, 2, spatial_dims=dims, **shape)
