import copy
from functools import partial

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import prune

from analogmed.analog import Chip, Hardware, calibrate, convert, coverage, create_rpu_config
from analogmed.analog.layers.base import AnalogLayer
from analogmed.foundation.errors import ConfigError, CoverageError, NonFiniteError


def network():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 4, 2, 2),
        nn.Flatten(),
        nn.Linear(4 * 16 * 16, 5),
    )


def analog_names(model):
    return [name for name, layer in model.named_modules() if isinstance(layer, AnalogLayer)]


def test_tiles_that_cut_a_network_into_too_many_are_a_warning():
    model = nn.Sequential(nn.Linear(400, 300))
    with pytest.warns(UserWarning, match=r"tile_size: 1 x 1 cuts Sequential into 120000 tiles"):
        convert(model, create_rpu_config("pcm", tile_size=1))
    convert(model, create_rpu_config("pcm", tile_size=2))


@pytest.mark.parametrize("training", [True, False])
def test_the_given_model_is_left_as_it_was(training):
    model = network().train(training)
    before, types = copy.deepcopy(model.state_dict()), [type(m) for m in model.modules()]
    config = create_rpu_config("pcm")
    description = str(config)
    analog = convert(model, config).train()
    calibrate(analog, [torch.rand(2, 3, 8, 8)])
    analog(torch.rand(2, 3, 8, 8)).sum().backward()
    assert [type(m) for m in model.modules()] == types
    assert model.training == training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert str(config) == description


def test_hardware_is_a_preset_by_name_a_description_or_a_configuration():
    net = nn.Linear(4, 3)
    configs = ["hermes", Hardware("hermes"), create_rpu_config("hermes")]
    tiles = [convert(net, config).rpu_config for config in configs]
    assert {tile.mapping.max_input_size for tile in tiles} == {256}
    assert len({str(tile) for tile in tiles}) == 1


@pytest.mark.parametrize(
    ("hardware", "sentence"), [("hermse", "did you mean 'hermes'"), (256, "name of a preset")]
)
def test_other_hardware_is_refused(hardware, sentence):
    with pytest.raises(ConfigError, match=sentence):
        convert(nn.Linear(4, 3), hardware)


def test_the_analog_model_keeps_the_mode():
    assert convert(network().train(), create_rpu_config()).training
    assert not convert(network().eval(), create_rpu_config()).training


def test_the_state_dict_is_the_digital_one_plus_the_input_ranges():
    model = network()
    keys = set(convert(model, create_rpu_config("pcm")).state_dict())
    assert keys == set(model.state_dict()) | {f"{i}.input_range" for i in (0, 3, 5)}
    assert set(convert(model, create_rpu_config("analognas")).state_dict()) == set(
        model.state_dict()
    )


def test_safetensors_carry_an_analog_model_over(tmp_path):
    analog = convert(network(), create_rpu_config("pcm"))
    calibrate(analog, [torch.rand(2, 3, 8, 8)])
    safetensors.torch.save_file(analog.state_dict(), tmp_path / "a.safetensors")
    other = convert(network(), create_rpu_config("pcm"))
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "a.safetensors"))
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Chip(other, seed=1).at(0.0)(images), Chip(analog, seed=1).at(0.0)(images))


def test_a_deep_copy_is_a_model_of_its_own():
    analog = convert(network(), create_rpu_config("pcm")).eval()
    images = torch.rand(2, 3, 8, 8)
    twin = copy.deepcopy(calibrate(analog, [images]))
    reference = Chip(analog, seed=1).at(0.0)(images)
    with torch.no_grad():
        twin[0].weight.zero_()
    assert torch.equal(Chip(analog, seed=1).at(0.0)(images), reference)


def test_optimizer_steps_learn_weights_and_input_ranges():
    analog = convert(network(), create_rpu_config("pcm")).train()
    images, target = torch.rand(4, 3, 8, 8), torch.rand(4, 5)
    calibrate(analog, [images])
    optimizer = torch.optim.SGD(analog.parameters(), lr=0.05)
    ranges = analog[0].input_range.detach().clone()
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(analog(images), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert not torch.equal(analog[0].input_range, ranges)


def test_a_module_used_in_two_places_stays_one_module():
    shared = nn.Conv2d(4, 4, 3, padding=1)
    analog = convert(nn.Sequential(shared, nn.ReLU(), shared), create_rpu_config("pcm"))
    assert analog[0] is analog[2]
    assert isinstance(analog[0], AnalogLayer)


def test_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    analog = convert(model, create_rpu_config("pcm"))
    assert analog[0].weight is analog[1].weight


def test_a_bare_layer_is_converted():
    layer = nn.Linear(6, 4)
    analog = convert(layer, create_rpu_config("ideal"))
    inputs = torch.rand(3, 6)
    assert isinstance(analog, AnalogLayer)
    torch.testing.assert_close(analog(inputs), layer(inputs))


class Named(nn.Conv2d):
    """Inherits the product."""


class Standardised(nn.Conv2d):
    def forward(self, input):
        weight = self.weight - self.weight.mean()
        return nn.functional.conv2d(input, weight, self.bias)


def test_a_subclass_is_analog_where_it_inherits_the_product_and_listed_where_it_does_not():
    analog = convert(nn.Sequential(Named(2, 2, 3), Standardised(2, 2, 3)), create_rpu_config("pcm"))
    assert analog_names(analog) == ["0"]
    assert "Standardised does not compute" in coverage(analog).digital_layers["1"]


def test_layers_without_analog_counterpart_are_listed_with_the_reason():
    model = nn.ModuleDict(
        {
            "attention": nn.MultiheadAttention(8, 2),
            "normed": nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3)),
            "lazy": nn.LazyLinear(3),
            "memory": nn.utils.parametrizations.weight_norm(nn.LSTM(4, 4), "weight_hh_l0"),
            "linear": nn.Linear(4, 4),
        }
    )
    report = coverage(convert(model, create_rpu_config("pcm")))
    assert report.analog_layers == ("linear",)
    assert "MultiheadAttention" in report.digital_layers["attention"]
    assert "parametris" in report.digital_layers["normed"]
    assert "not initialised" in report.digital_layers["lazy"]
    assert "parametris" in report.digital_layers["memory"]


@pytest.mark.parametrize("place", ["weight", "bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused_with_its_layer(place, value):
    model = network()
    with torch.no_grad():
        getattr(model[3], place).view(-1)[0] = value
    with pytest.raises(NonFiniteError, match=f"layer '3': its {place}"):
        convert(model, create_rpu_config("pcm"))


def test_a_model_without_layers_for_tiles_is_refused():
    with pytest.raises(CoverageError, match="no layer that can be put on a tile"):
        convert(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), create_rpu_config("pcm"))


def test_an_analog_model_is_not_converted_again():
    analog = convert(network(), create_rpu_config("pcm"))
    with pytest.raises(ConfigError, match="layer '0' is analog already"):
        convert(analog, create_rpu_config("hermes"))


@pytest.mark.parametrize(("pattern", "digital"), [("5", {"5"}), ("[05]", {"0", "5"})])
def test_layers_asked_for_stay_digital_and_are_listed(pattern, digital):
    analog = convert(network(), create_rpu_config("pcm"), digital_layers=[pattern])
    assert set(analog_names(analog)) == {"0", "3", "5"} - digital
    assert coverage(analog).digital_layers == dict.fromkeys(digital, "asked for")


def test_a_block_asked_for_stays_digital_with_all_its_layers():
    model = nn.ModuleDict({"body": network(), "head": nn.Sequential(nn.Linear(3, 3))})
    analog = convert(model, create_rpu_config("pcm"), digital_layers=["head"])
    assert analog_names(analog) == ["body.0", "body.3", "body.5"]
    assert set(coverage(analog).digital_layers) == {"head.0"}


def test_a_pattern_that_names_nothing_is_refused():
    with pytest.raises(
        ConfigError, match="no layer of the model is called 'hed'; did you mean 'head'"
    ):
        model = nn.ModuleDict({"body": network(), "head": nn.Linear(3, 3)})
        convert(model, create_rpu_config("pcm"), digital_layers=["hed"])


@pytest.mark.parametrize(
    ("options", "hint"),
    [({"backend": "aihwkt"}, "did you mean 'aihwkit'"), ({"row_split": "channel"}, "'channels'")],
)
def test_unknown_choices_are_refused_with_the_nearest(options, hint):
    with pytest.raises(ConfigError, match=hint):
        convert(network(), create_rpu_config("pcm"), **options)


def test_a_transformer_layer_in_evaluation_computes_on_its_tiles():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    analog = convert(layer, create_rpu_config("pcm")).eval()
    tokens = torch.rand(2, 5, 8)
    with torch.no_grad():
        assert not torch.equal(analog(tokens), analog(tokens))  # output noise of linear1 and 2
        ideal = convert(layer, create_rpu_config("ideal")).eval()
        torch.testing.assert_close(ideal(tokens), layer(tokens), atol=1e-5, rtol=1e-5)


def test_a_layer_whose_weight_a_hook_computes_stays_digital_and_is_listed():
    normed = nn.utils.spectral_norm(nn.Conv2d(3, 4, 3))
    model = nn.Sequential(normed, nn.Conv2d(4, 2, 1)).eval()
    analog = convert(model, create_rpu_config("ideal"))
    assert analog_names(analog) == ["1"]
    assert "no parameter" in coverage(analog).digital_layers["0"]
    nn.utils.remove_spectral_norm(normed)
    assert analog_names(convert(model, create_rpu_config("ideal"))) == ["0", "1"]


pruned = partial(prune.l1_unstructured, name="weight", amount=0.5)


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")  # torch has a newer one
@pytest.mark.parametrize(
    ("changed", "made_permanent"),
    [
        (pruned, lambda layer: prune.remove(layer, "weight")),
        (nn.utils.weight_norm, nn.utils.remove_weight_norm),
    ],
    ids=["pruned", "weight norm"],
)
def test_a_pruned_or_normed_layer_computes_digitally_until_that_is_made_permanent(
    changed, made_permanent
):
    model = nn.Sequential(changed(nn.Conv2d(3, 4, 3)), nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    images, config = torch.rand(2, 3, 8, 8), create_rpu_config("ideal")
    analog = convert(model, config)
    assert analog_names(analog) == ["2"]
    assert "prune.remove, remove_weight_norm" in coverage(analog).digital_layers["0"]
    torch.testing.assert_close(analog(images), model(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        Chip(analog, seed=0).at(0.0)(images), model(images), atol=1e-5, rtol=1e-5
    )
    made_permanent(model[0])
    permanent = convert(model, config)
    assert analog_names(permanent) == ["0", "2"]
    torch.testing.assert_close(permanent(images), model(images), atol=1e-5, rtol=1e-5)


def test_a_layer_whose_bias_alone_is_pruned_goes_on_tiles():
    layer = prune.random_unstructured(nn.Conv2d(3, 4, 3), "bias", amount=2)
    model = nn.Sequential(layer).eval()
    analog = convert(model, create_rpu_config("ideal"))
    assert analog_names(analog) == ["0"]
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(analog(images), model(images), atol=1e-5, rtol=1e-5)


def test_a_model_all_of_whose_layers_are_pruned_is_refused_with_what_to_do():
    model = nn.Sequential(pruned(nn.Conv2d(3, 4, 3)), nn.ReLU(), pruned(nn.Conv2d(4, 2, 1)))
    with pytest.raises(CoverageError, match=r"analog; 0: its weight .*prune\.remove.*; 2: its"):
        convert(model, create_rpu_config("pcm"))


def test_a_layer_with_two_names_can_stay_digital_by_either():
    shared = nn.Conv2d(3, 3, 1)
    model = nn.Sequential(shared, shared, nn.Conv2d(3, 3, 1))
    for name in ("0", "1"):
        assert analog_names(convert(model, create_rpu_config(), digital_layers=[name])) == ["2"]
