"""A snapshot of a chip wherever torch and MONAI expect a network."""

import copy

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

from analogmed.analog import Chip, ChipSnapshot, calibrate, convert
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.time_constants import DAY_S

IMAGES = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def analog():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 1, 1)
    )
    network.eval()[2].train()  # a mode that torch's eval() of a snapshot must leave
    return calibrate(convert(network, "pcm"), [IMAGES])


@pytest.fixture(scope="module")
def chip(analog):
    return Chip(analog, seed=3)


@pytest.fixture(scope="module")
def logits(chip):
    return chip.at(DAY_S)(IMAGES)


def test_a_snapshot_is_a_module_that_shows_its_chip_time_and_read(chip):
    snapshot = chip.at(DAY_S, read=2)
    assert isinstance(snapshot, nn.Module)
    assert repr(snapshot) == "ChipSnapshot(Sequential on chip 3, 1 day, read 2)"
    assert repr(chip) == "<Chip: network: Sequential, layers on tiles: 2, seed: 3>"


class Failing(nn.Conv2d):
    def forward(self, images):
        raise RuntimeError("this type of padding is not implemented")


def test_an_error_that_is_not_about_types_of_numbers_is_not_blamed_on_the_images():
    network = nn.Sequential(Failing(1, 1, 1), nn.Conv2d(1, 1, 1))
    analog = convert(network.eval(), "pcm", digital_layers=["0"])
    analog[1].input_range.data.fill_(1.0)
    with pytest.raises(RuntimeError, match="this type of padding"):
        Chip(analog).at(0)(IMAGES.double())


@pytest.mark.parametrize("time", ["1 day", "24h", "86400 s", 86_400])
def test_times_are_texts_or_seconds(chip, logits, time):
    assert torch.equal(chip.at(time)(IMAGES), logits)


@pytest.mark.parametrize(
    "prepared",
    [
        lambda snapshot: snapshot.eval(),
        lambda snapshot: snapshot.train(),
        lambda snapshot: snapshot.to("cpu"),
        lambda snapshot: snapshot.float(),
        lambda snapshot: snapshot.requires_grad_(False),
        copy.deepcopy,
    ],
)
def test_what_torch_does_to_a_network_changes_neither_logits_nor_modes(
    analog, chip, logits, prepared
):
    modes = [module.training for module in analog.modules()]
    snapshot = prepared(chip.at(DAY_S))
    assert torch.equal(snapshot(IMAGES), logits)
    assert not snapshot.training and not snapshot(IMAGES).requires_grad
    assert [module.training for module in analog.modules()] == modes
    analog.requires_grad_(True)


def test_a_programmed_chip_is_not_converted_to_another_type(chip):
    with pytest.raises(ConfigError, match=r"chip 3, 1 day.*float32 on cpu, got torch.float16"):
        chip.at(DAY_S).half()


def test_no_weight_of_a_programmed_chip_changes_unnoticed(analog, chip):
    mixed = copy.deepcopy(analog)
    mixed[0].weight.data = mixed[0].weight.data.double()
    snapshot = ChipSnapshot(mixed, chip.at(0).layers, chip.at(0).readings, 0)
    with pytest.raises(ConfigError, match="cannot be moved or converted"):
        snapshot.double()
    with pytest.raises(ConfigError, match="weights of a programmed chip are fixed"):
        chip.at(0).load_state_dict(analog.state_dict())


def test_a_sliding_window_of_the_size_of_the_images_gives_the_logits_of_the_snapshot(chip, logits):
    inferer = SlidingWindowInferer((16, 16), sw_batch_size=2)
    with torch.no_grad():
        found = inferer(IMAGES, chip.at(DAY_S).eval())
    torch.testing.assert_close(found, logits)


def test_images_of_monai_give_the_same_logits(analog, chip, logits):
    assert torch.equal(torch.as_tensor(chip.at(DAY_S)(MetaTensor(IMAGES))), logits)
    torch.manual_seed(0)
    expected = analog(IMAGES)
    torch.manual_seed(0)
    assert torch.equal(torch.as_tensor(analog(MetaTensor(IMAGES))), expected)


def test_hooks_see_the_images_and_the_logits(chip, logits):
    snapshot, seen = chip.at(DAY_S), []
    snapshot.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    snapshot(IMAGES)
    assert torch.equal(seen[0][0], IMAGES) and torch.equal(seen[0][1], logits)


def test_a_snapshot_without_a_layer_has_the_other_layers_of_the_chip(chip):
    part = chip.at(DAY_S).without(["0"])
    assert isinstance(part, ChipSnapshot)
    assert list(part.layers) == list(part.readings) == ["3"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda chip: chip.at("1 dya"), "unknown unit 'dya'; did you mean 'day'"),
        (lambda chip: chip.at("tomorrow"), "number with a unit"),
        (lambda chip: chip.at(None), "expected a number in s, or a text"),
        (lambda chip: chip.at(0, read=0.5), "read number: expected a whole number"),
        (lambda chip: Chip(chip.model, seed=0.5), "seed: expected a whole number, got 0.5"),
        (lambda chip: Chip(chip.at(0)), "network from convert.*ChipSnapshot.*chip 3, t0"),
    ],
)
def test_what_is_no_time_read_seed_or_network_is_refused(chip, call, words):
    with pytest.raises(ConfigError, match=words):
        call(chip)
