import math
import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from analogmed.analog import convert, coverage, create_rpu_config
from analogmed.foundation.errors import ConfigError, CoverageError, ShapeError
from analogmed.hardware import map_tiles
from analogmed.hardware.placement import parts_of
from analogmed.models import build_model

UNET_INPUT = (1, 3, 256, 256)


@pytest.fixture(scope="module")
def unet():
    return build_model("unet", in_channels=3, out_channels=1)


def only_layer(model, input_shape, tile_size, **options):
    (layer,) = map_tiles(model, input_shape, tile_size, **options).layers
    return layer


@pytest.mark.parametrize("transposed", ["analog", "digital"])
def test_means_per_leaf_module_are_those_of_the_paper(unet, transposed):
    summary = map_tiles(
        unet, UNET_INPUT, 512, row_split="channels", transposed=transposed
    ).summary()
    assert summary["parameters"] == 7_763_041
    assert summary["leaf_modules"] == 63
    assert summary["reuse_factor_per_leaf_module"] == pytest.approx(6574.73, abs=0.005)
    assert summary["utilisation_per_leaf_module"] == pytest.approx(0.07427, abs=5e-6)


def test_means_over_the_19_convolutions_are_the_honest_ones(unet):
    tiles = map_tiles(unet, UNET_INPUT, 512, row_split="channels", transposed="digital")
    summary = tiles.summary()
    assert summary["analog_layers"] == 19
    assert summary["tiles"] == 65
    assert summary["utilisation_per_layer"] == pytest.approx(0.246, abs=5e-4)
    assert summary["utilisation_per_tile"] == pytest.approx(0.414, abs=5e-4)
    assert tiles.table()["reuse_factor"].sum() == 414_208
    assert summary["reuse_factor_per_layer"] == pytest.approx(414_208 / 19)
    assert tiles.digital_layers == ("upconv4", "upconv3", "upconv2", "upconv1")


def test_tiles_of_256_are_147_and_take_the_energy_of_the_test_vector(unet):
    tiles = map_tiles(unet, UNET_INPUT, 256, row_split="channels", transposed="digital")
    assert tiles.summary()["tiles"] == 147
    products = sum(layer.reuse_factor * layer.tiles for layer in tiles.layers)
    assert products * 13.43e-9 == pytest.approx(12.85e-3, abs=5e-6)  # HERMES: nJ per product
    assert products / 147 == pytest.approx(tiles.summary()["reuse_factor_per_tile"])


def test_swin_unetr_in_3d_is_mapped_without_running_it():
    model = build_model("swin_unetr", in_channels=4, out_channels=3, spatial_dims=3)
    tiles = map_tiles(model, (1, 4, 96, 96, 96))
    linear = tiles.table().query("type == 'Linear'")
    assert tiles.summary()["parameters"] == 62_191_941
    assert len(linear) == 8 * 4 + 4  # qkv, projection and two of the MLP; patch merging
    windows, positions = 7**3, 7**3  # 48 positions per axis take 7 windows of 7
    qkv = linear.set_index("layer").loc["swinViT.layers1.0.blocks.0.attn.qkv"]
    assert (qkv["rows"], qkv["cols"]) == (48, 3 * 48)
    assert qkv["reuse_factor"] == windows * positions


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("unet", {"features": 4}),
        ("attention_unet", {"channels": (4, 8, 8)} | {"strides": (2, 2)}),
        ("dynunet", {"window": 32}),
    ],
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_macs_are_half_of_torchs_flops(name, options, spatial_dims):
    model = build_model(
        name, in_channels=2, out_channels=3, spatial_dims=spatial_dims, **options
    ).eval()
    shape = (1, 2, *[32] * spatial_dims)
    with FlopCounterMode(display=False) as flops, torch.no_grad():
        model(torch.zeros(shape))
    assert 2 * map_tiles(model, shape).summary()["macs"] == flops.get_total_flops()


def test_linear_has_a_row_per_input_and_a_column_per_output():
    layer = only_layer(nn.Linear(600, 300), (1, 10, 600), (256, 200))
    assert layer.row_sizes == (200, 200, 200)
    assert layer.col_sizes == (150, 150)
    assert (layer.tiles, layer.cells, layer.reuse_factor) == (6, 180_000, 10)
    assert layer.utilisation == pytest.approx(180_000 / (6 * 256 * 200))
    assert layer.macs == 1_800_000


def test_convolution_is_split_by_whole_channels_or_evenly():
    model = nn.Conv2d(64, 10, 3, padding=1, stride=2)
    by_channels = only_layer(model, (1, 64, 32, 32), 256, row_split="channels")
    evenly = only_layer(model, (1, 64, 32, 32), 256)
    assert by_channels.row_sizes == (198, 189, 189)  # 22, 21 and 21 channels; 28 would fit
    assert evenly.row_sizes == (192, 192, 192)
    assert by_channels.reuse_factor == evenly.reuse_factor == 16 * 16


def test_channel_split_can_need_more_tiles_than_the_even_one():
    model = nn.Conv2d(85, 1, 3)  # 765 rows; 28 channels of 9 rows fit on 256
    by_channels = only_layer(model, (1, 85, 8, 8), 256, row_split="channels")
    assert by_channels.row_sizes == (198, 189, 189, 189)
    assert only_layer(model, (1, 85, 8, 8), 256).row_sizes == (255, 255, 255)


def test_grouped_convolution_is_a_matrix_per_group():
    layer = only_layer(nn.Conv2d(12, 8, 3, groups=4), (1, 12, 10, 10), 16, row_split="even")
    assert (layer.rows, layer.cols, layer.groups) == (3 * 9, 2, 4)
    assert layer.row_sizes == (14, 13)
    assert layer.tiles == 4 * 2
    assert layer.cells == 12 * 8 * 9 // 4
    assert layer.reuse_factor == 8 * 8


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_convolutions_of_each_dimension_count_output_positions(spatial_dims):
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
    model = conv(4, 6, 3, stride=2, dilation=2)
    layer = only_layer(model, (1, 4, *[13] * spatial_dims), 512)
    assert layer.rows == 4 * 3**spatial_dims
    assert layer.reuse_factor == 5**spatial_dims  # (13 - 2 * (3 - 1) - 1) // 2 + 1


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_transposed_convolution_counts_input_positions(spatial_dims):
    conv = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[spatial_dims]
    layer = only_layer(conv(8, 4, 2, stride=2), (1, 8, *[5] * spatial_dims), 512)
    assert (layer.rows, layer.cols) == (8, 4 * 2**spatial_dims)
    assert layer.reuse_factor == 5**spatial_dims


def test_transposed_convolution_with_overlap_has_a_column_per_kernel_position():
    model = nn.ConvTranspose2d(8, 6, (3, 5), stride=2, padding=1, output_padding=1, groups=2)
    layer = only_layer(model, (1, 8, 4, 7), 512)
    assert (layer.rows, layer.cols, layer.groups) == (4, 3 * 15, 2)
    assert layer.reuse_factor == 4 * 7
    assert layer.macs == 2 * 4 * 45 * 28


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.alias = self.conv
        self.unused = nn.Linear(4, 4)

    def forward(self, x):
        return self.alias(nn.functional.max_pool2d(self.conv(x), 2))


def test_a_shared_layer_has_its_tiles_once_and_adds_up_its_uses():
    tiles = map_tiles(Shared(), (1, 4, 8, 8))
    assert [layer.name for layer in tiles.layers] == ["conv"]
    assert tiles.layers[0].tiles == 1
    assert tiles.layers[0].reuse_factor == 8 * 8 + 4 * 4


def test_a_layer_that_is_not_called_is_listed_and_on_no_tile():
    assert map_tiles(Shared(), (1, 4, 8, 8)).unused_layers == ("unused",)


class ValueDependent(nn.Module):
    """Cannot run on the meta device: its path depends on values."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, x):
        return self.norm(self.conv(x)) if x.sum().item() == 0 else x


def test_a_network_that_cannot_run_on_shapes_alone_is_run_on_zeros():
    assert only_layer(ValueDependent(), (1, 1, 8, 8), 512).reuse_factor == 6 * 6


class OwnConv(nn.Conv2d):
    pass


def test_subclasses_are_mapped_under_their_own_type():
    assert only_layer(OwnConv(1, 1, 3), (1, 1, 8, 8), 512).type == "OwnConv"


@pytest.mark.parametrize("model", [Shared(), ValueDependent()])
def test_the_network_is_left_as_it_was(model):
    model.train()
    model.conv.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    map_tiles(model, (1, model.conv.in_channels, 8, 8))
    assert model.training and not model.conv.training
    assert all(not module._forward_hooks for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(tensor.device.type == "cpu" for tensor in model.state_dict().values())


def test_an_input_that_does_not_fit_the_network_is_refused_and_leaves_no_hook():
    model = nn.Sequential(nn.Conv2d(3, 4, 3))
    with pytest.raises(ShapeError, match=r"Sequential cannot be run on .*\(1, 2, 8, 8\)"):
        map_tiles(model, (1, 2, 8, 8))
    assert not model[0]._forward_hooks


def test_a_network_in_half_precision_is_mapped():
    assert only_layer(nn.Conv2d(1, 1, 3).half(), (1, 1, 8, 8), 512).reuse_factor == 6 * 6


class Tied(nn.Module):
    """Two layers that hold one weight."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))


def test_layers_with_one_weight_take_tiles_each():
    model = Tied()
    summary = map_tiles(model, (1, 8), 8).summary()
    assert (summary["analog_layers"], summary["tiles"], summary["parameters"]) == (2, 2, 64 + 16)
    assert model.second.weight is model.first.weight


def test_layers_named_digital_are_not_mapped(unet):
    tiles = map_tiles(unet, (1, 3, 32, 32), digital_layers=["head", "encoder1.*"])
    assert tiles.digital_layers == ("encoder1.conv1", "encoder1.conv2", "head")
    assert len(tiles.layers) == 23 - 3


def test_a_named_block_leaves_the_same_layers_digital_as_conversion(unet):
    tiles = map_tiles(unet, (1, 3, 32, 32), digital_layers=["encoder1", "decoder*"])
    assert len(tiles.digital_layers) == 2 + 4 * 2
    analog = convert(unet, create_rpu_config(), digital_layers=["encoder1", "decoder*"])
    assert set(tiles.digital_layers) == set(coverage(analog).digital_layers)


def test_a_layer_with_two_names_can_stay_digital_by_either_as_in_conversion():
    shared = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(shared, shared, nn.Conv2d(3, 3, 1))
    for name in ("0", "1"):
        tiles = map_tiles(model, (1, 3, 8, 8), digital_layers=[name])
        assert (tiles.digital_layers, [layer.name for layer in tiles.layers]) == (("0",), ["2"])
        analog = convert(model, create_rpu_config(), digital_layers=[name])
        assert set(coverage(analog).digital_layers) == {"0"}


def test_layers_that_multiply_but_have_no_tiles_are_listed_as_digital():
    tiles = map_tiles(nn.TransformerEncoderLayer(16, 2, batch_first=True), (1, 10, 16))
    assert [layer.name for layer in tiles.layers] == ["linear1", "linear2"]
    assert tiles.digital_layers == ("self_attn", "self_attn.out_proj")


def test_table_has_a_row_per_layer_in_the_order_of_the_network(unet):
    table = map_tiles(unet, UNET_INPUT, 512, row_split="channels").table()
    assert len(table) == 23
    first = table.iloc[0]
    assert (first["layer"], first["type"]) == ("encoder1.conv1", "Conv2d")
    assert (first["rows"], first["cols"], first["row_tiles"], first["col_tiles"]) == (27, 32, 1, 1)
    bottleneck = table.set_index("layer").loc["bottleneck.conv2"]
    assert (bottleneck["row_tiles"], bottleneck["tiles"]) == (math.ceil(512 / 56), 10)


def test_copies_fill_idle_rows_and_add_no_tile_and_no_product():
    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 64, 3, padding=1))
    once, often = (map_tiles(model, (1, 3, 8, 8), 512, row_copies=copies) for copies in (1, 8))
    assert [layer.copies for layer in often.layers] == [4, 1]  # 27 and 144 rows of 512
    first, copied = once.layers[0], often.layers[0]
    assert (copied.tiles, copied.macs) == (first.tiles, first.macs)
    assert copied.cells == 4 * first.cells == 4 * 27 * 16
    assert copied.utilisation == 4 * first.utilisation
    assert [part.rows for part in parts_of(often)] == [4 * 27, 144]


@pytest.mark.parametrize("row_split", ["even", "channels"])
def test_a_channel_that_does_not_fit_on_a_tile_is_split_evenly_as_in_conversion(row_split):
    model = nn.Sequential(nn.Conv3d(2, 2, 7))
    sizes = only_layer(model, (1, 2, 8, 8, 8), 256, row_split=row_split).row_sizes
    assert sizes == (229, 229, 228)
    analog = convert(model, create_rpu_config("pcm", tile_size=256), row_split=row_split)
    assert tuple(stop - start for start, stop in analog[0].grid.rows) == sizes


class Scaled(nn.Conv2d):
    def forward(self, input):
        return 2 * super().forward(input)


class Standardised(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean(), bias)


def replaced_on_the_instance():
    layer = nn.Conv2d(2, 2, 1)
    layer.forward = types.MethodType(lambda self, x: 2 * x, layer)
    return layer


@pytest.mark.parametrize(
    "layer",
    [
        prune.l1_unstructured(nn.Conv2d(2, 2, 1), "weight", amount=0.5),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 1)),
        Scaled(2, 2, 1),
        Standardised(2, 2, 1),
        replaced_on_the_instance(),
    ],
    ids=["pruned", "parametrised", "forward", "_conv_forward", "instance"],
)
def test_layers_that_conversion_leaves_digital_are_not_mapped(layer):
    model = nn.Sequential(layer, nn.Conv2d(2, 2, 1))
    tiles = map_tiles(model, (1, 2, 8, 8))
    analog = coverage(convert(model, create_rpu_config("pcm")))
    assert tiles.digital_layers == tuple(analog.digital_layers) == ("0",)
    assert [each.name for each in tiles.layers] == list(analog.analog_layers) == ["1"]


def test_a_network_without_layers_on_tiles_is_refused():
    with pytest.raises(CoverageError, match="no layer on tiles"):
        map_tiles(nn.Sequential(nn.ReLU()), (1, 1, 8, 8))
    with pytest.raises(CoverageError, match="no layer on tiles"):
        map_tiles(nn.ConvTranspose2d(1, 1, 2), (1, 1, 8, 8), transposed="digital")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"tile_size": 0}, "tile_size"),
        ({"tile_size": (256,)}, "tile_size"),
        ({"tile_size": (256, 0.5)}, "tile_size"),
        ({"row_split": "rows"}, "row_split"),
        ({"transposed": "no"}, "transposed"),
        ({"digital_layers": ["haed"]}, "haed"),
        ({"input_shape": (2, 1, 8, 8)}, "input_shape"),
        ({"input_shape": (1, 1, 0, 8)}, "input_shape"),
    ],
)
def test_arguments_outside_their_range_are_refused_by_name(options, named):
    with pytest.raises(ConfigError, match=named):
        map_tiles(nn.Conv2d(1, 1, 3), **{"input_shape": (1, 1, 8, 8), **options})


@settings(deadline=None, max_examples=60)
@given(
    kind=st.sampled_from(["conv", "transposed", "linear"]),
    groups=st.integers(1, 3),
    in_channels=st.integers(1, 40),
    out_channels=st.integers(1, 40),
    kernel=st.integers(1, 3),
    tile_size=st.tuples(st.integers(9, 64), st.integers(1, 64)),
    row_split=st.sampled_from(["channels", "even"]),
)
def test_every_weight_has_one_cell_and_no_tile_is_overfull(
    kind, groups, in_channels, out_channels, kernel, tile_size, row_split
):
    channels = (groups * in_channels, groups * out_channels)
    if kind == "linear":
        model, shape = nn.Linear(*channels), (1, channels[0])
    else:
        conv = nn.Conv2d if kind == "conv" else nn.ConvTranspose2d
        model, shape = conv(*channels, kernel, groups=groups), (1, channels[0], 5, 5)
    layer = only_layer(model, shape, tile_size, row_split=row_split)
    assert layer.cells == model.weight.numel()
    assert sum(layer.row_sizes) == layer.rows
    assert sum(layer.col_sizes) == layer.cols
    assert max(layer.row_sizes) <= tile_size[0]
    assert max(layer.col_sizes) <= tile_size[1]
    assert layer.tiles >= math.ceil(layer.cells / math.prod(tile_size))
    assert 0 < layer.utilisation <= 1
    if kind == "conv" and row_split == "channels":
        assert all(size % kernel**2 == 0 for size in layer.row_sizes)
        assert len(layer.row_sizes) == math.ceil(in_channels / (tile_size[0] // kernel**2))


def test_the_four_skips_of_the_unet_go_from_encoders_to_decoders(lgg_tiles):
    ends = [
        (lgg_tiles.calls[skip.born].layer, lgg_tiles.calls[skip.read].layer, skip.elements)
        for skip in lgg_tiles.skips
    ]
    assert ends == [
        ("encoder1.conv2", "upconv1", 32 * 256**2),
        ("encoder2.conv2", "upconv2", 64 * 128**2),
        ("encoder3.conv2", "upconv3", 128 * 64**2),
        ("encoder4.conv2", "upconv4", 256 * 32**2),
    ]


def test_the_texts_of_a_tile_map_and_of_a_coverage_are_a_few_facts():
    analog = convert(
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3)), "pcm", digital_layers=["1"]
    )
    found = coverage(analog, (1, 1, 8, 8))
    assert "analog layers: 1" in repr(found) and "digital: 1 (" in repr(found)
    assert "1 analog layers" in str(found)
    assert "tiles: 1 of 512 x 512" in repr(map_tiles(nn.Conv2d(1, 2, 3), (1, 1, 8, 8), 512))
