import json
import math
import sys

import pytest
import torch
from torch import nn

from analogmed import convert, coverage, create_rpu_config, map_tiles
from analogmed.__main__ import main
from analogmed.config import Experiment, ModelConfig, SweepConfig
from analogmed.evaluation import evaluate
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.models import Genotype, Level, build_model, required_divisor
from analogmed.training import TrainConfig, load_checkpoint, train

IN, OUT = 2, 4
NORMED = {"B": [0], "C": [1], "D": [0], "E": [1], "F": [0, 1], "G": [0, 1]}
NORMED |= dict(zip("HIJKLM", NORMED.values(), strict=True))
OF_DIMS = {2: "ABCDEFG", 3: "AHIJKLM"}
EVERY_BLOCK = [(dims, name) for dims, names in OF_DIMS.items() for name in names]


def network(*levels, dims=2, purpose="segmentation"):
    genotype = Genotype(tuple(levels), dims, purpose)
    return build_model(
        "subnet", in_channels=IN, out_channels=OUT, spatial_dims=dims, genotype=genotype.to_dict()
    )


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def of_block(name, before, after, kernel, dims):
    """Weights, biases and norms of a block, by its row in the table."""
    if name == "A":
        return before * after + after
    total = 0
    for norm in NORMED[name]:
        total += kernel**dims * before * after + after + 2 * after * norm
        before = after
    return total


def of_partner(name, before, after, dims):
    return (1 if name == "A" else 2**dims) * before * after + after


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("dims", "name"), EVERY_BLOCK)
def test_a_segmentation_has_the_size_of_the_image_and_its_closed_form_of_parameters(
    dims, name, kernel
):
    model = network(Level(name, 3, kernel), Level(name, 5, kernel), dims=dims)
    assert model(torch.rand(1, IN, *[4] * dims)).shape == (1, OUT, *[4] * dims)
    assert parameters(model) == (
        of_block(name, IN, 3, kernel, dims)
        + of_block(name, 3, 5, kernel, dims)
        + of_partner(name, 5, 3, dims)
        + of_block(name, 6, 3, kernel, dims)
        + 3 * OUT
        + OUT
    )


@pytest.mark.parametrize(("dims", "name"), EVERY_BLOCK)
def test_a_classification_gives_logits_per_image_and_has_no_way_up(dims, name):
    levels = (Level(name, 3, 3), Level(name, 5, 3))
    model = network(*levels, dims=dims, purpose="classification")
    assert model(torch.rand(2, IN, *[4] * dims)).shape == (2, OUT)
    assert parameters(model) == (
        of_block(name, IN, 3, 3, dims) + of_block(name, 3, 5, 3, dims) + 5 * OUT + OUT
    )
    kinds = {type(module) for module in model.modules()}
    assert not kinds & {nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Upsample}


@pytest.mark.parametrize(
    ("levels", "joined"),
    [
        ([Level("identity"), Level("A", 5)], [IN + 5]),
        ([Level("A", 5), Level("identity")], []),
        ([Level("identity"), Level("identity"), Level("A", 5)], [IN + IN + 5]),
        ([Level("A", 3), Level("identity"), Level("A", 5)], []),
    ],
)
def test_identities_pass_on_the_channels_that_they_are_given(levels, joined):
    model = network(*levels)
    assert model(torch.rand(1, IN, 8, 8)).shape == (1, OUT, 8, 8)
    expected = OUT + OUT * (joined[0] if joined else levels[0].channels)
    assert parameters(model.head) == expected


def test_an_identity_in_the_middle_adds_its_skip_to_what_the_level_above_is_given():
    model = network(Level("A", 3), Level("identity"), Level("A", 5))
    linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    features = {(layer.in_features, layer.out_features) for layer in linears}
    assert features == {(IN, 3), (3, 5), (3 + 5, 3), (3 + 3, 3)}


@pytest.mark.parametrize("depth", range(1, 6))
def test_every_level_and_every_skip_reaches_the_output(depth):
    torch.manual_seed(0)
    model = network(*[Level("B", 4, 3)] * depth)
    image = torch.rand(1, IN, 32, 32)
    model(image).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters() if p.ndim > 1)
    reference = model(image)
    for level in list(model.levels)[:-1]:
        joined = level.join[0]
        handle = joined.register_forward_pre_hook(
            lambda _, given: (torch.cat([given[0][:, :4] * 0, given[0][:, 4:]], 1),)
        )
        assert not torch.equal(model(image), reference)
        handle.remove()


def test_a_deep_network_computes_what_its_description_says():
    torch.manual_seed(0)
    model = network(Level("D", 3, 3), Level("A", 5))
    image = torch.rand(2, IN, 4, 4)
    outer, inner = model.levels
    skip = outer.down(image)
    deepest = inner.down(nn.functional.max_pool2d(skip, 2))
    up = nn.functional.conv_transpose2d(deepest, outer.up.weight, outer.up.bias, stride=2)
    torch.testing.assert_close(model(image), model.head(outer.join(torch.cat([skip, up], 1))))


def test_a_classification_is_linear_in_the_mean_of_all_positions():
    torch.manual_seed(0)
    model = network(Level("A", 3), purpose="classification")
    image = torch.rand(2, IN, 4, 6)
    mean = model.levels[0].down(image).mean((2, 3))
    torch.testing.assert_close(model(image), model.head(mean))


@pytest.mark.parametrize("depth", range(1, 6))
def test_the_divisor_follows_from_the_depth(depth):
    genotype = Genotype((Level("B", 4, 3),) * depth)
    for given in (genotype, genotype.to_dict(), genotype.to_json()):
        divisor = required_divisor("subnet", spatial_dims=2, genotype=given)
        assert divisor == (2 ** (depth - 1),) * 2
    size = [3 * number for number in divisor]
    assert network(*genotype.levels)(torch.rand(1, IN, *size)).shape == (1, OUT, *size)


def test_a_network_without_genotype_or_of_other_dimensions_is_refused():
    genotype = Genotype((Level("B", 4, 3),)).to_dict()
    with pytest.raises(ConfigError, match=r"genotype 2d:B4 is 2D; the task is 3D"):
        build_model("subnet", in_channels=1, out_channels=1, spatial_dims=3, genotype=genotype)
    with pytest.raises(ConfigError, match="genotype"):
        build_model("subnet", in_channels=1, out_channels=1)
    with pytest.raises(ConfigError, match="unknown option 'genotyp'"):
        build_model("subnet", in_channels=1, out_channels=1, genotyp=genotype)


@pytest.mark.parametrize("size", [(12, 12), (16, 12), (4, 4), (0, 8), (8,), (8, 8, 8)])
def test_sizes_that_the_depth_does_not_allow_are_refused(size):
    model = network(*[Level("B", 4, 3)] * 4)
    with pytest.raises(ShapeError, match=r"a network of 4 levels .*expected 2 sizes that are mult"):
        model(torch.rand(1, IN, *size))


@pytest.mark.parametrize("mode", [True, False])
def test_a_norm_over_a_single_position_is_refused(mode):
    model = network(Level("B", 4, 3), Level("B", 4, 3), Level("E", 4, 3)).train(mode)
    with pytest.raises(ShapeError, match=r"3 levels .* one position is left at level 2, whose bl"):
        model(torch.rand(1, IN, 4, 4))
    assert model(torch.rand(1, IN, 8, 4)).shape == (1, OUT, 8, 4)


def test_a_single_position_without_a_norm_is_accepted():
    model = network(Level("C", 4, 3), Level("B", 4, 3), Level("B", 4, 3))
    assert model(torch.rand(1, IN, 4, 4)).shape == (1, OUT, 4, 4)


@pytest.mark.parametrize(("dims", "name"), EVERY_BLOCK)
def test_all_of_a_network_is_analog_where_nothing_is_placed_digitally(dims, name):
    model = network(Level(name, 3, 3), Level(name, 4, 3), Level("identity"), dims=dims)
    shape = (1, IN, *[8] * dims)
    covered = coverage(convert(model, create_rpu_config("pcm", tile_size=64)), shape)
    assert (covered.weight_share, covered.mac_share) == (1.0, 1.0)
    assert not covered.digital_layers
    assert set(covered.analog_layers) == {layer.name for layer in map_tiles(model, shape).layers}


@pytest.mark.parametrize("name", ["A", "F"])
@pytest.mark.parametrize(
    ("places", "digital"),
    [
        ({"down": "digital"}, ["levels.0.down"]),
        ({"up": "digital"}, ["levels.0.join", "levels.0.up"]),
        ({"down": "digital", "up": "digital"}, ["levels.0"]),
    ],
)
def test_conversion_and_mapping_follow_the_places(name, places, digital):
    model = network(Level(name, 3, 3, **places), Level(name, 5, 3))
    shape = (1, IN, 8, 8)
    covered = coverage(convert(model, create_rpu_config("pcm", tile_size=64)), shape)
    mapped = map_tiles(model, shape)
    layers = [
        layer for layer, module in model.named_modules() if hasattr(module, "weight")
        and module.weight.ndim > 1
    ]  # fmt: skip
    expected = {layer for layer in layers if layer.startswith(tuple(digital))}
    assert set(covered.digital_layers) == set(mapped.digital_layers) == expected
    assert set(covered.digital_layers.values()) == {"asked for"}
    analog = set(layers) - expected
    assert set(covered.analog_layers) == {layer.name for layer in mapped.layers} == analog
    weights = {layer: model.get_submodule(layer).weight.numel() for layer in layers}
    share = sum(weights[layer] for layer in analog) / sum(weights.values())
    assert math.isclose(covered.weight_share, share)


GENOTYPE = Genotype((Level("C", 4, 3, up="digital"), Level("A", 6)))


@pytest.fixture(scope="module")
def trained(tiny_task, tmp_path_factory):
    """Run folder of a small network of the space after two epochs."""
    return train(
        TrainConfig(
            task=tiny_task,
            model=ModelConfig("subnet", {"genotype": GENOTYPE.to_dict()}),
            epochs=2,
            batch_size=8,
            out=tmp_path_factory.mktemp("subnet") / "digital",
        )
    )


def test_training_changes_the_weights_and_the_checkpoint_gives_the_network_back(trained):
    checkpoint = load_checkpoint(trained)
    assert checkpoint.network.genotype == GENOTYPE
    assert Genotype.of(checkpoint.info.options["genotype"]) == GENOTYPE
    assert checkpoint.network.levels[0].up.stays_digital
    log = (trained.parent if trained.is_file() else trained) / "log.csv"
    assert len(log.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.slow
def test_the_checkpoint_is_evaluated_on_chips_and_places_are_kept(trained, tiny_task, tmp_path):
    experiment = Experiment(
        task=tiny_task,
        checkpoints=(trained,),
        sweep=SweepConfig(chips=2, times_s=(0.0, 86_400.0)),
        examples=0,
        out=tmp_path,
    )
    with pytest.warns(UserWarning, match="subnet: levels.0.* stays digital: asked for"):
        result = evaluate(experiment)
    summary = result.summary()
    assert summary["model"].tolist() == ["subnet"]
    network = load_checkpoint(trained).network
    weights = {n: p.numel() for n, p in network.named_parameters() if p.ndim > 1}
    digital = sum(
        n for name, n in weights.items() if name.startswith(("levels.0.up", "levels.0.j"))
    )
    assert math.isclose(summary["analog_weight_share"].item(), 1 - digital / sum(weights.values()))
    assert summary["parameters"].item() == parameters(network)


def test_the_command_line_takes_a_genotype_as_json(tiny_task, tmp_path, capsys, monkeypatch):
    options = json.dumps({"genotype": GENOTYPE.to_dict()})
    task = [f"--task.options.{name}={value}" for name, value in tiny_task.options.items()]
    arguments = [
        *("train", f"--task.root={tiny_task.root}", *task, "--model=subnet"),
        *(f"--model.options={options}", "--epochs=1", "--batch_size=8", f"--out={tmp_path}"),
    ]
    monkeypatch.setattr(sys, "argv", ["analogmed", *arguments])
    assert main() == 0
    capsys.readouterr()
    assert load_checkpoint(tmp_path).network.genotype == GENOTYPE


def test_the_table_of_costs_takes_a_genotype_too(capsys, monkeypatch):
    network = f"subnet(genotype={GENOTYPE.to_json()})"
    monkeypatch.setattr(
        sys, "argv", ["analogmed", "hardware", "--model", network, "--input", "1", "16", "16"]
    )
    assert main() == 0
    assert "levels.0.down.0" in capsys.readouterr().out
