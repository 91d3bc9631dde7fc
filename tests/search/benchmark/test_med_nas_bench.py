import copy
import itertools
import json
import math
import random

import pytest
import torch
from torch import nn

from analogmed import convert, coverage, create_rpu_config, map_tiles
from analogmed.config import ModelConfig
from analogmed.foundation.errors import ConfigError, DataError, ShapeError
from analogmed.models import build_model, model_names, required_divisor
from analogmed.models.med_nas_architecture import Architecture
from analogmed.search.benchmark.med_nas_bench import architecture_table, read_entry, read_folder
from analogmed.training import TrainConfig, load_checkpoint, train

DILATIONS = list(itertools.product((1, 2), repeat=3))


def sample(
    number=0,
    filters=8,
    kernel=3,
    dilations=(1, 1, 1),
    activations=("relu", "relu6", "LeakyRelu", "relu"),
    orders=(1, 1, 1, 1),
    norm=True,
    pooled=False,
):
    """A file as the benchmark's code writes it: inner and outer block share their choices."""
    f, dilations = filters, (*dilations, dilations[2])

    def layer(which, in_channels, out_channels):
        described = {
            "name": "Contract" if which < 2 else "Expand",
            "in_channels": in_channels,
            "out_channels": out_channels,
            "kernel_size": kernel,
            "stride": 1,
            "dilation": [dilations[which]] * 2,
            "use_bn": norm,
            "act_func": activations[which],
            "order": orders[which],
        }
        if which >= 2:
            del described["use_bn"]
        return described

    def last(name, in_channels, out_channels, size):
        channels = {"in_channels": in_channels, "out_channels": out_channels}
        return {"name": name, **channels, "kernel_size": size, "stride": size}

    pool = {**last("PoolingLayer", f, 2 * f, 2), "pool_type": "avg"} if pooled else {}
    inner = {
        "name": "UnetSkipConnectionBlock",
        "type": "inner",
        "pool": pool,
        "conv1": layer(0, f, 2 * f),
        "conv2": layer(1, 2 * f, 2 * f),
        "conv3": {},
        "conv4": {},
        "upconv": last("TransposeConv2D", 2 * f, f, 2),
    }
    outer = {
        "name": "UnetSkipConnectionBlock",
        "type": "outer",
        "pool": {},
        "conv1": layer(0, 1, f),
        "conv2": layer(1, f, f),
        "conv3": layer(2, 2 * f, f),
        "conv4": layer(3, f, f),
        "upconv": last("Contract", f, 3, 1),
    }
    never_run = sum(kernel**2 * n * 2 * f + 2 * f for n in (4 * f, 2 * f))
    config = {"blocks": [inner, outer]}
    params = Architecture.of(config).parameters + never_run
    return {
        "id": number,
        "name": f"unet_like_model_{number}",
        "metrics": {"dcs": 0.777, "jcs": 0.888, "sensitivity": 0.666, "specificity": 0.555},
        "params": params,
        "model_size": params,
        "arch_config": config,
    }


def write(folder, *samples):
    for content in samples:
        text = json.dumps(content, indent=4)
        (folder / f"sample{content['id']}.json").write_text(text, encoding="utf-8")
    return folder


def config(**choices):
    return sample(**choices)["arch_config"]


def network(compat="same", channels=(1, 3), pool="max", **choices):
    return build_model(
        "med_nas_bench",
        in_channels=channels[0],
        out_channels=channels[1],
        config=config(**choices),
        compat=compat,
        pool=pool,
    )


@pytest.mark.parametrize(
    ("filters", "kernel", "reported"),
    [(8, 3, 13_387), (16, 3, 53_139), (96, 3, 1_900_899), (256, 5, 36_579_587)],
)
def test_the_counts_of_the_files_hold_two_convolutions_that_never_run(filters, kernel, reported):
    content = sample(filters=filters, kernel=kernel)
    assert content["params"] == reported  # of sample113, sample101 and sample0, and the smallest
    live = Architecture.of(content["arch_config"]).parameters
    assert 0.46 < live / reported < 0.482


@pytest.mark.parametrize("filters", [8, 16, 32])
@pytest.mark.parametrize("kernel", [3, 5])
def test_the_live_count_is_that_of_the_network(filters, kernel):
    model = network(filters=filters, kernel=kernel)
    described = Architecture.of(config(filters=filters, kernel=kernel))
    assert sum(p.numel() for p in model.parameters()) == described.parameters


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("dilations", DILATIONS)
def test_same_keeps_the_size_of_the_image(kernel, dilations):
    for pooled in (False, True):
        model = network(kernel=kernel, dilations=dilations, pooled=pooled, filters=2)
        assert model(torch.rand(1, 1, 64, 48)).shape == (1, 3, 64, 48)


def test_faithful_networks_give_40_to_64_pixels_of_64():
    sizes = {}
    for kernel, dilations in itertools.product((3, 5), DILATIONS):
        model = network("faithful", kernel=kernel, dilations=dilations, filters=2)
        logits = model(torch.rand(1, 1, 64, 64))
        assert logits.shape[2] == logits.shape[3]
        sizes[kernel, dilations] = logits.shape[2]
    assert sizes == {
        (kernel, (a, b, c)): 64 - sum(d * (kernel - 1) - 2 for d in (a, b, c, c))
        for kernel, (a, b, c) in sizes
    }
    assert (min(sizes.values()), max(sizes.values())) == (40, 64)
    assert [key for key, size in sizes.items() if size == 64] == [(3, (1, 1, 1))]


def test_the_size_of_the_logits_is_told_without_building_the_network():
    for kernel, dilations in itertools.product((3, 5), DILATIONS):
        described = Architecture.of(config(kernel=kernel, dilations=dilations))
        model = network("faithful", kernel=kernel, dilations=dilations, filters=2)
        logits = model(torch.rand(1, 1, 40, 52))
        assert logits.shape[2:] == tuple(described.output_size(n, "faithful") for n in (40, 52))


def test_pooled_faithful_networks_run_where_the_inner_block_does_not_shrink():
    for kernel, dilations in itertools.product((3, 5), DILATIONS):
        model = network("faithful", kernel=kernel, dilations=dilations, pooled=True, filters=2)
        if kernel == 3 and dilations[:2] == (1, 1):
            assert model(torch.rand(1, 1, 64, 64)).shape[2] == 64 - 4 * (dilations[2] - 1)
        else:
            with pytest.raises(ShapeError, match=r"the inner block gives .*, its skip has"):
                model(torch.rand(1, 1, 64, 64))


@pytest.mark.parametrize("orders", [(1, 1, 1, 1), (2, 2, 2, 2), (3, 3, 3, 3), (2, 3, 1, 2)])
@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("pooled", [True, False])
def test_faithful_computes_what_the_code_of_the_benchmark_does(orders, norm, pooled):
    torch.manual_seed(0)
    choices = {"orders": orders, "norm": norm, "pooled": pooled, "dilations": (1, 1, 2)}
    model = network("faithful", **choices)
    image = torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(model(image.clone()), as_published(model, image.clone(), **choices))


def as_published(model, images, *, orders, norm, pooled, dilations):
    """The forward pass as published: one sequence, activations in place, slices for the crop."""
    activations = [nn.ReLU(True), nn.ReLU6(True), nn.LeakyReLU(inplace=True), nn.ReLU(True)]

    def layer(which, conv):
        weights = nn.Conv2d(1, 1, conv.kernel_size, padding=1, dilation=(*dilations, 2)[which])
        weights.weight, weights.bias = conv.weight, conv.bias
        channels = conv.in_channels if orders[which] == 3 else conv.out_channels
        act, normalise = activations[which], nn.InstanceNorm2d(channels)
        if norm and which < 2:
            steps = [
                [weights, normalise, act],
                [act, weights, normalise],
                [normalise, act, weights],
            ]
        else:
            steps = [[weights, act], [act, weights], [act, weights]]
        return nn.Sequential(*steps[orders[which] - 1])

    inside = [layer(0, model.inner1.conv), layer(1, model.inner2.conv), model.upconv]
    inside = nn.Sequential(*([nn.MaxPool2d(2)] if pooled else []), *inside)
    with torch.no_grad():
        x = layer(1, model.conv2.conv)(layer(0, model.conv1.conv)(images))
        up, width = inside(x), x.shape[2]
        start = (up.shape[2] - width) // 2
        x = torch.cat([x, up[:, :, start : start + width, start : start + width]], 1)
        return model.head(layer(3, model.conv4.conv)(layer(2, model.conv3.conv)(x)))


@pytest.mark.parametrize("compat", ["same", "faithful"])
def test_the_image_is_left_as_it_was(compat):
    image = torch.randn(1, 1, 16, 16)
    before = image.clone()
    network(compat, orders=(2, 2, 2, 2))(image)
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("order", "norm", "kinds"),
    [
        (1, True, ["Conv2d", "InstanceNorm2d", "ReLU"]),
        (2, True, ["ReLU", "Conv2d", "InstanceNorm2d"]),
        (3, True, ["InstanceNorm2d", "ReLU", "Conv2d"]),
        (1, False, ["Conv2d", "ReLU"]),
        (2, False, ["ReLU", "Conv2d"]),
        (3, False, ["ReLU", "Conv2d"]),
    ],
)
def test_the_order_says_what_comes_first(order, norm, kinds):
    model = network(orders=(order,) * 4, norm=norm)
    assert [type(layer).__name__ for layer in model.inner1] == kinds
    without = [kind for kind in kinds if kind != "InstanceNorm2d"]
    expected = sorted(without, reverse=order > 1)
    expands = [type(layer).__name__ for layer in model.conv3]
    assert [kind.replace("LeakyReLU", "ReLU") for kind in expands] == expected
    norms = [layer for layer in model.modules() if isinstance(layer, nn.InstanceNorm2d)]
    assert len(norms) == (4 if norm else 0)
    assert not any(layer.affine for layer in norms)
    assert all(m.bias is not None for m in model.modules() if isinstance(m, nn.Conv2d))


def test_activations_are_those_of_the_file():
    model = network()
    layers = (model.conv1, model.conv2, model.conv3, model.conv4, model.inner1, model.inner2)
    kinds = [type(layer.act).__name__ for layer in layers]
    assert kinds == ["ReLU", "ReLU6", "LeakyReLU", "ReLU", "ReLU", "ReLU6"]


def test_the_pooling_of_a_pooled_network_can_be_chosen():
    assert isinstance(network(pooled=True).pool, nn.MaxPool2d)
    assert isinstance(network(pooled=True, pool="avg").pool, nn.AvgPool2d)
    assert isinstance(network().pool, nn.Identity)


def test_the_divisor_is_two_where_the_network_pools():
    assert "med_nas_bench" in model_names()
    for pooled, divisor in ((False, (1, 1)), (True, (2, 2))):
        found = required_divisor("med_nas_bench", config=config(pooled=pooled), compat="same")
        assert found == divisor
        size = [9 * number for number in divisor]
        assert network(pooled=pooled)(torch.rand(1, 1, *size)).shape == (1, 3, *size)
    with pytest.raises(ShapeError, match=r"images \(1, 1, 9, 9\): .* take an even size"):
        network(pooled=True)(torch.rand(1, 1, 9, 9))
    with pytest.raises(ShapeError, match="an image of 20 positions along an axis is too small"):
        network("faithful", kernel=5, dilations=(2, 2, 2))(torch.rand(1, 1, 20, 64))


def test_the_network_is_analog_as_a_whole_and_lies_on_tiles():
    model = network(channels=(2, 4), norm=True, orders=(3, 2, 1, 2))
    shape = (1, 2, 16, 16)
    covered = coverage(convert(model, create_rpu_config("pcm", tile_size=64)), shape)
    assert (covered.weight_share, covered.mac_share) == (1.0, 1.0)
    assert len(covered.analog_layers) == len(map_tiles(model, shape).layers) == 8


@pytest.mark.slow
def test_a_network_is_trained_and_its_checkpoint_gives_it_back(tiny_task, tmp_path):
    entry = read_entry(write(tmp_path, sample(pooled=True)) / "sample0.json")
    model = ModelConfig("med_nas_bench", entry.options())
    train(TrainConfig(task=tiny_task, model=model, epochs=1, batch_size=8, out=tmp_path / "run"))
    checkpoint = load_checkpoint(tmp_path / "run")
    assert checkpoint.info.model == "med_nas_bench"
    own = checkpoint.network.architecture
    assert own == entry.architecture.for_image(checkpoint.info.in_channels)


def test_a_file_is_read_and_its_metrics_are_not(tmp_path):
    write(tmp_path, sample(number=7, filters=16))
    entry = read_entry(tmp_path / "sample7.json")
    assert (entry.id, entry.params_reported) == (7, 53_139)
    assert entry.params_live == sum(p.numel() for p in entry.build().parameters())
    assert entry.build(2, 1, compat="faithful")(torch.rand(1, 2, 16, 16)).shape == (1, 1, 16, 16)
    for value in (0.777, 0.888, 0.666, 0.555):
        assert str(value) not in repr(entry)


def test_a_file_of_the_benchmark_without_metrics_is_read_too(tmp_path):
    content = sample()
    del content["metrics"]
    assert read_entry(write(tmp_path, content) / "sample0.json").id == 0


def test_a_folder_gives_a_table(tmp_path):
    write(
        tmp_path,
        sample(10, 16, 5, dilations=(1, 2, 1), norm=False, orders=(1, 2, 3, 1)),
        sample(2, 8, pooled=True, activations=("relu",) * 4),
    )
    (tmp_path / "notes.json").write_text("{}", encoding="utf-8")
    table = architecture_table(read_folder(tmp_path))
    assert table["id"].tolist() == [2, 10]
    first, second = table.to_dict("records")
    assert second == {
        "id": 10,
        "filters": 16,
        "kernel": "5",
        "dilation": "1-2-1-2-1-1",
        "activation": "relu-relu6-relu-relu6-LeakyRelu-relu",
        "order": "1-2-1-2-3-1",
        "norm": "no-no",
        "pooled": False,
        "params_reported": sample(10, 16, 5)["params"],
        "params_live": second["params_live"],
        "faithful_size": 64 - 2 - 6 - 2 - 2,
    }
    assert (first["activation"], first["dilation"], first["norm"]) == ("relu", "1", "yes-yes")
    assert (first["pooled"], first["faithful_size"]) == (True, 64)
    assert (table["params_live"] < table["params_reported"]).all()
    assert not {"dcs", "jcs", "sensitivity", "specificity", "dice"} & set(table)


def test_the_table_of_a_network_that_does_not_run_faithfully_leaves_its_size_empty(tmp_path):
    entries = read_folder(write(tmp_path, sample(pooled=True, kernel=5), sample(1)))
    sizes = architecture_table(entries)["faithful_size"].tolist()
    assert math.isnan(sizes[0])
    assert sizes[1] == 64


@pytest.mark.slow
def test_architectures_drawn_as_the_benchmark_draws_them_are_read_and_built(tmp_path):
    draw = random.Random(0)
    for number in range(20):
        content = sample(
            number,
            filters=draw.choice([8, 16]),
            kernel=draw.choice([3, 5]),
            dilations=draw.choices([1, 2], k=3),
            activations=draw.choices(["relu", "relu6", "LeakyRelu"], k=4),
            orders=draw.choices([1, 2, 3], k=4),
            norm=draw.choice([True, False]),
        )
        write(tmp_path, content)
    entries = read_folder(tmp_path)
    table = architecture_table(entries)
    assert len(table) == 20
    for entry, size in zip(entries, table["faithful_size"], strict=True):
        with torch.no_grad():
            assert entry.build()(torch.rand(1, 1, 64, 64)).shape == (1, 3, 64, 64)
            faithful = entry.build(compat="faithful")(torch.rand(1, 1, 64, 64))
        assert faithful.shape == (1, 3, size, size)
        assert 0.46 < entry.params_live / entry.params_reported < 0.482


def changed(where, **changes):
    """An ``arch_config`` of which one part is changed; ``where`` is a path such as inner.conv1."""
    made = copy.deepcopy(config())
    part = made["blocks"][("inner", "outer").index(where.split(".")[0])]
    for name in where.split(".")[1:]:
        part = part[name]
    part.update(changes)
    return made


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (
            changed("outer.conv1", act_func="leakyrelus"),
            "act_func: unknown value 'leakyrelus'; did",
        ),
        (
            changed("outer.conv1", act_func="swish"),
            "act_func: unknown value 'swish'; choose from: L",
        ),
        (changed("inner.conv2", name="Conv"), "inner conv2: expected a layer named Contract, fou"),
        (changed("outer.conv3", name="Contract"), "outer conv3: expected a layer named Expand"),
        (changed("outer.conv3", use_bn=True), "outer conv3: use_bn: an Expand has no norm"),
        (changed("inner.conv1", kernel_size=4), "inner conv1: kernel_size: expected 3 or 5, foun"),
        (changed("inner.conv1", kernel_size="3"), "kernel_size: expected 1 to 65535, found '3'"),
        (changed("inner.conv1", dilation=[1, 2]), r"dilation: expected \[1, 1\] or \[2, 2\]"),
        (changed("inner.conv1", dilation=2), "dilation: expected"),
        (changed("inner.conv1", order=4), "inner conv1: order: expected 1 to 3, found 4"),
        (changed("inner.conv1", order=True), "order: expected 1 to 3, found True"),
        (changed("inner.conv1", stride=2), "stride: expected 1, found 2"),
        (changed("inner.conv1", use_bn="yes"), "use_bn: expected true or false, found 'yes'"),
        (changed("inner.conv1", padding=1), "inner conv1: unknown entry 'padding'"),
        (changed("inner.conv1", out_channels=8), "inner conv1: expected 8 channels in and 16 out"),
        (changed("outer.conv1", in_channels=0), "in_channels: expected 1 to 65535, found 0"),
        (changed("outer.upconv", kernel_size=3), "outer upconv: kernel_size: expected 1, found 3"),
        (changed("inner.upconv", stride=1), "inner upconv: stride: expected 2, found 1"),
        (changed("inner", conv3={"name": "Expand"}), "inner conv3: an inner block has none"),
        (
            changed("inner", pool={"name": "Pool"}),
            "inner pool: expected a layer named PoolingLayer",
        ),
        (changed("inner", dropout={}), "inner block: unknown entry 'dropout'"),
        (
            changed("inner", type="standard"),
            "expected an inner block, then an outer one; found 'st",
        ),
        (changed("inner", name="Block"), "expected a UnetSkipConnectionBlock, found 'Block'"),
        (changed("inner", conv1=None), "inner conv1: expected an object, found None"),
        ({"blocks": config()["blocks"][::-1]}, "expected an inner block, then an outer one"),
        ({"blocks": config()["blocks"][:1] * 3}, "expected two, .*, found 3"),
        ({"blocks": []}, "expected two, .*, found 0"),
        ({"blocks": "inner"}, "blocks: expected a list, found 'inner'"),
        ({"blocks": [3, 4]}, "inner block: expected an object, found 3"),
        ({}, "arch_config: 'blocks' is missing"),
        (None, "arch_config: expected an object, found None"),
        (sample(), "expected the arch_config of a file, found the whole file"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(described, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        build_model("med_nas_bench", in_channels=1, out_channels=3, config=described)
    if not (isinstance(described, dict) and "arch_config" in described):
        write(tmp_path, {**sample(), "arch_config": described})
        with pytest.raises(DataError, match=f"sample0.json: .*{message}"):
            read_entry(tmp_path / "sample0.json")


@pytest.mark.parametrize("name", ["name", "conv1", "pool", "upconv", "type"])
def test_a_missing_entry_of_a_block_is_named(name):
    described = config()
    del described["blocks"][0][name]
    with pytest.raises(ConfigError, match=f"inner block: '{name}' is missing"):
        Architecture.of(described)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compat": "faithfull"}, "compat: unknown value 'faithfull'; did you mean"),
        ({"pool": "mean"}, "pool: unknown value 'mean'; choose from: avg, max"),
        ({"spatial_dims": 3}, "are 2D; the task is 3D"),
    ],
)
def test_options_that_there_are_not_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build_model("med_nas_bench", in_channels=1, out_channels=3, config=config(), **options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ('{"id": 0, "params":', "not JSON: .*; download it again"),
        ("<!DOCTYPE html>", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "expected an object, found list"),
        ("{}", "'id' is missing; expected a file of MED-NAS-Bench"),
        ('{"id": 0, "params": 5}', "'arch_config' is missing"),
        ('{"id": "0", "params": 5}', "id: expected a whole number, found '0'"),
        ('{"id": 0, "params": -5}', "params: expected a whole number, found -5"),
    ],
)
def test_a_damaged_file_is_refused_with_its_path(text, message, tmp_path):
    path = tmp_path / "sample0.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read_entry(path)
    with pytest.raises(DataError, match=r"sample0\.json"):
        read_folder(tmp_path)


def test_files_that_are_not_text_missing_or_there_twice_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"sample9\.json: cannot be read"):
        read_entry(tmp_path / "sample9.json")
    with pytest.raises(DataError, match=r"no sample\*.json; give the folder models/configs"):
        read_folder(tmp_path)
    (tmp_path / "sample0.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not JSON"):
        read_folder(tmp_path)
    write(tmp_path, sample(0), sample(1))
    (tmp_path / "sample2.json").write_text(json.dumps(sample(1)), encoding="utf-8")
    with pytest.raises(DataError, match=r"sample2.json: id 1 is that of .*sample1.json too"):
        read_folder(tmp_path)
