"""Programming of many tiles at once: against closed forms, single tiles, and aihwkit's tile."""

import math

import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel, StateIndependentNoiseModel
from aihwkit.inference.compensation.drift import PerColumnDriftCompensation
from aihwkit.inference.converter.conductance import (
    CustomPairConductanceConverter,
    DualPairConductanceConverter,
    NPairConductanceConverter,
    SingleDeviceConductanceConverter,
    SinglePairConductanceConverter,
)
from aihwkit.inference.converter.fusion import FusionConductanceConverter
from aihwkit.simulator.configs.configs import TorchInferenceRPUConfigIRDropT
from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from torch import nn

from analogmed.analog import Chip, calibrate, create_rpu_config
from analogmed.analog.devices.programming import ProgrammedModel, ProgrammedTiles
from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.network.seeding import seeded

YEAR_S = 365 * 86_400.0


def constant_tile(value, **options):
    """A tile whose weights all map to ``value``, beside one that maps to the full conductance."""
    weight = torch.full((200, 200), value)
    weight[0, 0] = 1.0
    config = create_rpu_config("pcm", drift_compensation="none", **options)
    with seeded(0):
        return ProgrammedTiles.program([weight], config)


def read_one(tiles, t_inference_s):
    """Weights and factors of the only tile."""
    ((weight, factor),) = tiles.read(t_inference_s)
    return weight, factor


@pytest.mark.parametrize("value", [0.2, 0.5, 0.9])
def test_programming_noise_follows_the_polynomial_of_the_measured_devices(value):
    tile = constant_tile(value)
    deviation_us = 0.26348 + 1.9650 * value - 1.1731 * value**2  # Nandakumar et al. 2019, 25 uS
    devices = tile.devices[0].conductances_us[0].flatten()[1:]
    assert devices.mean().item() == pytest.approx(25 * value, abs=5 * deviation_us / 200)
    assert devices.std().item() == pytest.approx(deviation_us, rel=5 / (2**0.5 * 200))
    other = (
        tile.devices[1].conductances_us[0].flatten()[1:]
    )  # target 0: noise of half its draws is cut off
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
    tile = constant_tile(value, prog_noise_scale=0.0, read_noise_scale=0.0)
    weight, factor = read_one(tile, t_inference_s)
    log_time = math.log((t_inference_s + 20) / 20)
    expected = value * math.exp(-nu_mean * log_time + (nu_std * log_time) ** 2 / 2)
    share_error = 5 * nu_std * log_time / 200 + 1e-6
    assert weight.flatten()[1:].mean().item() == pytest.approx(expected, rel=share_error)
    assert torch.equal(factor, torch.ones(200))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_read_noise_follows_the_measured_one_over_f_noise(scale):
    tile = constant_tile(0.5, prog_noise_scale=0.0, drift_scale=0.0, read_noise_scale=scale)
    with seeded(1):
        weight, _ = read_one(tile, 86_400.0)
    t, t_read = 86_420.0, 250e-9
    relative = 0.0088 / 0.5**0.65 * math.sqrt(math.log((t + t_read) / (2 * t_read)))
    deviation = weight.flatten()[1:].std().item()
    assert deviation == pytest.approx(scale * 0.5 * relative, rel=5 / (2**0.5 * 200))


CONVERTERS = {
    "single_pair": SinglePairConductanceConverter(g_max=25.0, g_min=1.0),
    "dual_pair": DualPairConductanceConverter(f_lst=[1.0, 2.0], g_max=25.0),
    "three_pairs": NPairConductanceConverter(f_lst=[0.5, 1.0, 2.0], g_max=25.0),
    "custom_pair": CustomPairConductanceConverter(
        f_lst=[1.0], g_lst=[[0.0, 12.5, 25.0], [25.0, 12.5, 0.0]], g_max=25.0
    ),
    "single_device": SingleDeviceConductanceConverter(g_max=25.0, g_min=1.0),
    "fusion": FusionConductanceConverter(g_max=25),
}
MIXED_TILES = ((30, 20), (30, 17), (1, 20), (40, 40))


@pytest.mark.parametrize("compensation", ["global", "global_exact", "per_column", "none"])
@pytest.mark.parametrize("converter", CONVERTERS)
def test_tiles_in_one_go_are_what_each_is_alone(converter, compensation):
    """Without draws: each keeps its own scale, cell and compensation, whatever its shape."""
    config = create_rpu_config("pcm", drift_compensation=compensation, out_noise=0.0)
    config.noise_model = StateIndependentNoiseModel(
        g_converter=CONVERTERS[converter],
        prog_noise_scale=0.0,
        read_noise_scale=0.0,
        drift_nu_std=0.0,
    )
    weights = [torch.randn(shape) * 2.0**index for index, shape in enumerate(MIXED_TILES)]
    together = ProgrammedTiles.program(weights, config).read(86_400.0)
    for weight, (found, factor) in zip(weights, together, strict=True):
        alone, own_factor = read_one(ProgrammedTiles.program([weight], config), 86_400.0)
        torch.testing.assert_close(found, alone)
        torch.testing.assert_close(factor, own_factor)
        assert found.shape == weight.shape


@pytest.mark.parametrize("converter", CONVERTERS)
def test_a_converter_gives_back_the_weights_of_undisturbed_devices(converter):
    config = create_rpu_config("pcm", drift_compensation="none")
    config.noise_model = PCMLikeNoiseModel(
        g_converter=CONVERTERS[converter],
        prog_noise_scale=0.0,
        read_noise_scale=0.0,
        drift_scale=0.0,
    )
    weights = [torch.randn(shape) for shape in MIXED_TILES]
    read = ProgrammedTiles.program(weights, config).read(86_400.0)
    for weight, (found, _) in zip(weights, read, strict=True):
        torch.testing.assert_close(found, weight, rtol=1e-4, atol=1e-4)


class WornColumns(PCMLikeNoiseModel):
    """A user's model that looks at the whole tile: each column's devices drift alike."""

    def generate_drift_coefficients(self, g_target):
        drawn = super().generate_drift_coefficients(g_target)
        return drawn.mean(1, keepdim=True).expand_as(drawn)


def test_a_model_that_is_not_known_to_be_elementwise_gets_the_tiles_one_by_one():
    config = create_rpu_config("pcm", drift_compensation="none")
    model = config.noise_model = WornColumns(g_max=25.0)
    weights = [torch.rand(shape) * 2 - 1 for shape in MIXED_TILES]
    with seeded(5):
        tiles = ProgrammedTiles.program(weights, config)
    with seeded(6):
        found = [weight for weight, _ in tiles.read(86_400.0)]
    pairs = [model.g_converter.convert_to_conductances(weight) for weight in weights]
    with seeded(5):
        devices = [[_programmed(model, pair[i]) for pair, _ in pairs] for i in (0, 1)]
    with seeded(6):
        aged = [
            [model.apply_drift_noise_to_conductance(g, nu, 86_400.0) for g, nu in each]
            for each in devices
        ]
    for index, (_, cell) in enumerate(pairs):
        pair = [each[index] for each in aged]
        assert torch.equal(found[index], model.g_converter.convert_back_to_weights(pair, cell))


def _programmed(model, target):
    return (
        model.apply_programming_noise_to_conductance(target),
        model.generate_drift_coefficients(target),
    )


@pytest.mark.parametrize("compensation", ["global", "global_exact", "per_column", "none"])
@pytest.mark.parametrize("t_inference_s", [0.0, 86_400.0])
def test_without_programming_noise_a_tile_equals_aihwkits_draw_by_draw(
    compensation, t_inference_s, oracle_tiles, analog_of
):
    """aihwkit folds the devices of a cell into one weight; without this noise nothing is lost.

    Output noise of the read-out is off: it is drawn in another order.
    """
    config = create_rpu_config(
        "pcm", drift_compensation=compensation, prog_noise_scale=0.0, out_noise=0.0
    )
    analog = analog_of(nn.Linear(40, 30), config)
    theirs = oracle_tiles[0](analog)[0].array[0][0]
    target = analog.reference_rows()[0].weight[0].detach()
    with seeded(1):
        ours = ProgrammedTiles.program([target], config)
    with seeded(1):
        theirs.program_weights()
    with seeded(2):
        weight, factor = read_one(ours, t_inference_s)
    with seeded(2):
        theirs.drift_weights(t_inference_s)
    torch.testing.assert_close(weight, theirs.tile.get_weights())
    torch.testing.assert_close(factor, theirs.alpha.reshape(-1).expand(30))


class Ramp(PerColumnDriftCompensation):
    """A user's read-out vectors, each of which selects many rows."""

    def get_readout_tensor(self, in_size):
        return torch.linspace(0.1, 1.0, 5 * in_size).reshape(5, in_size)


@pytest.mark.parametrize("how", ["own_vectors", "input_noise"])
def test_a_read_out_that_is_not_weight_by_weight_equals_aihwkits(how, oracle_tiles, analog_of):
    config = create_rpu_config(
        "pcm", prog_noise_scale=0.0, out_noise=0.0, inp_noise=0.1 if how == "input_noise" else 0.0
    )
    if how == "own_vectors":
        config.drift_compensation = Ramp()
    analog = analog_of(nn.Linear(40, 30), config)
    theirs = oracle_tiles[0](analog)[0].array[0][0]
    with seeded(1):
        ours = ProgrammedTiles.program([analog.reference_rows()[0].weight[0].detach()], config)
    with seeded(1):
        theirs.program_weights()
    with seeded(2):
        _, factor = read_one(ours, 86_400.0)
    with seeded(2):
        theirs.drift_weights(86_400.0)
    torch.testing.assert_close(factor, theirs.alpha.reshape(-1).expand(30))


def test_a_read_out_through_resistive_wires_equals_aihwkits():
    config = TorchInferenceRPUConfigIRDropT()
    config.mapping.max_input_size = config.mapping.max_output_size = 32
    config.noise_model = PCMLikeNoiseModel(prog_noise_scale=0.0)
    config.forward.bound_management = BoundManagementType.NONE
    config.forward.noise_management = NoiseManagementType.NONE
    config.forward.ir_drop, config.forward.out_noise = 50.0, 0.0
    config.forward.adc_quantization, config.forward.out_res = False, -1.0  # no flips of a step
    config.drift_compensation = PerColumnDriftCompensation()
    weight = torch.rand(30, 32) * 2 - 1
    theirs = TorchInferenceTile(30, 32, config)
    theirs.tile.set_weights(weight)
    with seeded(1):
        ours = ProgrammedTiles.program([weight], config)
    with seeded(1):
        theirs.program_weights(from_reference=False)
    with seeded(2):
        _, factor = read_one(ours, 86_400.0)
    with seeded(2):
        theirs.drift_weights(86_400.0)
    torch.testing.assert_close(factor, theirs.alpha, rtol=1e-4, atol=1e-4)
    config.forward.ir_drop = 0.0
    with seeded(1):
        without = ProgrammedTiles.program([weight], config)
    with seeded(2):
        assert not torch.allclose(read_one(without, 86_400.0)[1], factor, rtol=1e-3)


def test_read_noise_and_output_noise_are_different_streams(analog_of):
    """One seed for both would make the output noise repeat the draws of the weights."""
    config = create_rpu_config(
        "pcm", drift_compensation="none", prog_noise_scale=0.0, drift_scale=0.0
    )
    model = nn.Sequential(analog_of(nn.Linear(40, 40, bias=False), config)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.rand(40, 40) + 0.5)
        model[0].input_range.fill_(1.0)
    reading = Chip(model, seed=0).at(0.0)
    (tiles,) = ProgrammedModel({"0": model[0]}, 0)._batches
    target = tiles.devices[0].conductances_us[0]
    weight = reading.readings["0"].rows[0].weight[0]
    read_noise = (weight / (target / 25) - 1).flatten()
    output_noise = torch.randn(1600, generator=reading.readings["0"].generator)
    correlation = torch.corrcoef(torch.stack([read_noise, output_noise]))[0, 1]
    assert abs(correlation) < 5 / 40


def test_a_time_that_the_noise_model_does_not_know_is_refused(analog_of):
    model = nn.Sequential(analog_of(nn.Linear(4, 4), create_rpu_config("reram"))).eval()
    calibrate(model, [torch.rand(2, 4)])
    chip = Chip(model, seed=0)
    chip.at(86_400.0)
    with pytest.raises(ConfigError, match="ReRamWan2022NoiseModel has no values at 1 h"):
        chip.at(3600.0)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_devices_that_become_nan_are_refused_with_layer_and_time(analog_of):
    model = nn.Sequential(analog_of(nn.Linear(4, 4), create_rpu_config("reram_cmo"))).eval()
    calibrate(model, [torch.rand(2, 4)])
    chip = Chip(model, seed=0)
    chip.at(1.0)
    with pytest.raises(NonFiniteError, match=r"layer '0': .* at 1e-07 s"):
        chip.at(1e-7)  # below the read time, the model takes the root of a negative logarithm
