"""aihwkit's noise models on devices: against closed forms, and against aihwkit's own tile."""

import math

import pytest
import torch
from aihwkit.inference import (
    DualPairConductanceConverter,
    PCMLikeNoiseModel,
    StateIndependentNoiseModel,
)
from torch import nn

from analogmed.analog import Chip, create_rpu_config
from analogmed.analog.programming import ProgrammedLayer, ProgrammedTile
from analogmed.analog.random import drawing_from
from analogmed.errors import ConfigError, NonFiniteError

YEAR_S = 365 * 86_400.0


def constant_tile(value, **options):
    """A tile whose weights all map to ``value``, beside one that maps to the full conductance."""
    weight = torch.full((200, 200), value)
    weight[0, 0] = 1.0
    config = create_rpu_config("pcm", drift_compensation="none", **options)
    with drawing_from(0):
        return ProgrammedTile.program(weight, config), config


@pytest.mark.parametrize("value", [0.2, 0.5, 0.9])
def test_programming_noise_follows_the_polynomial_of_the_measured_devices(value):
    tile, _ = constant_tile(value)
    deviation_us = 0.26348 + 1.9650 * value - 1.1731 * value**2  # Nandakumar et al. 2019, 25 uS
    devices = tile.conductances_us[0].flatten()[1:]
    assert devices.mean().item() == pytest.approx(25 * value, abs=5 * deviation_us / 200)
    assert devices.std().item() == pytest.approx(deviation_us, rel=5 / (2**0.5 * 200))
    other = tile.conductances_us[1].flatten()[1:]  # target 0: noise of half its draws is cut off
    assert (other == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert other.mean().item() == pytest.approx(0.26348 / math.sqrt(2 * math.pi), rel=0.03)


@pytest.mark.parametrize("t_inference_s", [0.0, 3600.0, 86_400.0, YEAR_S])
@pytest.mark.parametrize(
    ("value", "nu_mean", "nu_std"),
    [
        (1.0, 0.049, 0.008),
        (0.1, -0.0155 * math.log(0.1) + 0.0244, -0.0125 * math.log(0.1) - 0.0059),
    ],
)
def test_drift_follows_the_power_law(value, nu_mean, nu_std, t_inference_s):
    tile, config = constant_tile(value, prog_noise_scale=0.0, read_noise_scale=0.0)
    weight, factor = tile.read(t_inference_s, config)
    log_time = math.log((t_inference_s + 20) / 20)
    expected = value * math.exp(-nu_mean * log_time + (nu_std * log_time) ** 2 / 2)
    share_error = 5 * nu_std * log_time / 200 + 1e-6
    assert weight.flatten()[1:].mean().item() == pytest.approx(expected, rel=share_error)
    assert torch.equal(factor, torch.ones(200))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_read_noise_follows_the_measured_one_over_f_noise(scale):
    tile, config = constant_tile(0.5, prog_noise_scale=0.0, drift_scale=0.0, read_noise_scale=scale)
    with drawing_from(1):
        weight, _ = tile.read(86_400.0, config)
    t, t_read = 86_420.0, 250e-9
    relative = 0.0088 / 0.5**0.65 * math.sqrt(math.log((t + t_read) / (2 * t_read)))
    deviation = weight.flatten()[1:].std().item()
    assert deviation == pytest.approx(scale * 0.5 * relative, rel=5 / (2**0.5 * 200))


MODELS = {
    "pcm": lambda: PCMLikeNoiseModel(g_max=25.0),
    "dual_pair": lambda: PCMLikeNoiseModel(
        g_converter=DualPairConductanceConverter(f_lst=[1.0, 2.0], g_max=25.0)
    ),
    "state_independent": StateIndependentNoiseModel,
    "hermes": lambda: create_rpu_config("hermes").noise_model,
    "reram": lambda: create_rpu_config("reram").noise_model,
    "reram_cmo": lambda: create_rpu_config("reram_cmo").noise_model,
}


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("name", MODELS)
def test_each_device_is_what_the_noise_model_draws_under_the_same_seed(name):
    config = create_rpu_config("pcm", drift_compensation="none")
    model = config.noise_model = MODELS[name]()
    weight = torch.rand(20, 30) * 2 - 1
    with drawing_from(5):
        tile = ProgrammedTile.program(weight, config)
    with drawing_from(6):
        aged, _ = tile.read(86_400.0, config)
    with drawing_from(5):
        targets, cell = model.g_converter.convert_to_conductances(weight)
        drawn = [
            (model.apply_programming_noise_to_conductance(t), model.generate_drift_coefficients(t))
            for t in targets
        ]
    with drawing_from(6):
        expected = model.g_converter.convert_back_to_weights(
            [model.apply_drift_noise_to_conductance(g, nu, 86_400.0) for g, nu in drawn], cell
        )
    for found, (conductance, _) in zip(tile.conductances_us, drawn, strict=True):
        assert torch.equal(found, conductance)
    assert torch.equal(aged, expected)


@pytest.mark.parametrize("compensation", ["global", "global_exact", "per_column", "none"])
@pytest.mark.parametrize("t_inference_s", [0.0, 86_400.0])
def test_without_programming_noise_a_tile_equals_aihwkits_draw_by_draw(
    compensation, t_inference_s, oracle_tiles, analog_of
):
    """aihwkit folds the devices of a cell into one weight; without this noise nothing is lost."""
    config = create_rpu_config("pcm", drift_compensation=compensation, prog_noise_scale=0.0)
    analog = analog_of(nn.Linear(40, 30), config)
    theirs = oracle_tiles[0](analog)[0].array[0][0]
    with drawing_from(1):
        ours = ProgrammedTile.program(analog.reference_rows()[0].weight[0].detach(), config)
    with drawing_from(1):
        theirs.program_weights()
    with drawing_from(2):
        weight, factor = ours.read(t_inference_s, config)
    with drawing_from(2):
        theirs.drift_weights(t_inference_s)
    torch.testing.assert_close(weight, theirs.tile.get_weights())
    torch.testing.assert_close(factor, theirs.alpha.reshape(-1).expand(30))


@pytest.mark.parametrize("compensation", ["global", "global_exact", "per_column"])
def test_compensation_factors_are_distributed_as_aihwkits(compensation, oracle_tiles, analog_of):
    config = create_rpu_config("pcm", drift_compensation=compensation)
    analog = analog_of(nn.Linear(60, 40), config)
    tile = oracle_tiles[0](analog)[0].array[0][0]
    reference = analog.reference_rows()[0].weight[0].detach()
    ours, theirs = [], []
    for _ in range(60):
        ours.append(ProgrammedTile.program(reference, config).read(86_400.0, config)[1])
        tile.program_weights()
        tile.drift_weights(86_400.0)
        theirs.append(tile.alpha.reshape(-1).expand(40))
    found, expected = torch.stack(ours), torch.stack(theirs)
    assert expected.mean() > 1.2  # a day of drift is a third, so that there is much to compare
    # folding moves the factor by less than 1 %
    assert found.mean().item() == pytest.approx(expected.mean().item(), rel=0.01)
    draws = found.numel() if compensation == "per_column" else 60
    log_ratio = (found.std(0).mean() / expected.std(0).mean()).log().item()
    assert abs(log_ratio) < 5 / draws**0.5 + 0.03


def test_read_noise_and_output_noise_are_different_streams(analog_of):
    """One seed for both would make the output noise repeat the draws of the weights."""
    config = create_rpu_config(
        "pcm", drift_compensation="none", prog_noise_scale=0.0, drift_scale=0.0
    )
    model = nn.Sequential(analog_of(nn.Linear(40, 40, bias=False), config)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.rand(40, 40) + 0.5)
    reading = Chip(model, seed=0).at(0.0)
    target = ProgrammedLayer("0", model[0], 0)._tiles[0][0][0].conductances_us[0]
    weight = reading.readings["0"].rows[0].weight[0]
    read_noise = (weight / (target / 25) - 1).flatten()
    output_noise = torch.randn(1600, generator=reading.readings["0"].generator)
    correlation = torch.corrcoef(torch.stack([read_noise, output_noise]))[0, 1]
    assert abs(correlation) < 5 / 40


def test_a_time_that_the_noise_model_does_not_know_is_refused(analog_of):
    model = nn.Sequential(analog_of(nn.Linear(4, 4), create_rpu_config("reram"))).eval()
    chip = Chip(model, seed=0)
    chip.at(86_400.0)
    with pytest.raises(ConfigError, match="ReRamWan2022NoiseModel does not know the time 3600 s"):
        chip.at(3600.0)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_devices_that_become_nan_are_refused_with_layer_and_time(analog_of):
    model = nn.Sequential(analog_of(nn.Linear(4, 4), create_rpu_config("reram_cmo"))).eval()
    chip = Chip(model, seed=0)
    chip.at(1.0)
    with pytest.raises(NonFiniteError, match=r"layer '0': .* at 1e-07 s"):
        chip.at(1e-7)  # below the read time, the model takes the root of a negative logarithm
