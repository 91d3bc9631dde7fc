"""Distributions of chips against aihwkit's noise models, for each model and time.

aihwkit's tile merges the devices of a cell into one weight after programming, maps that to
conductances again (so that its largest weight becomes the largest conductance), and drifts these.
analogmed keeps the conductance and the exponent of each device, as a chip does. The comparison
therefore has two parts:

* aihwkit's own functions, applied to each device and read by aihwkit's own tile: both have the same
  distribution. Every test is a two-sample test with a false-alarm probability of at most
  ``FALSE_ALARM`` for each noise model and time;
* aihwkit's merging tile: similar values. Merging shifts the mean of a weight by up to 0.004 of the
  largest, its standard deviation by up to 8 %, and the compensation factor by up to 0.6 %
  (measured over 16 chips of 25,600 weights each).

The seed fixes all samples, so that the outcome is the same in every run.
"""

import math

import pytest
import torch
from aihwkit.inference import (
    PCMLikeNoiseModel,
    ReRamCMONoiseModel,
    ReRamWan2022NoiseModel,
    StateIndependentNoiseModel,
)
from aihwkit.inference.converter.conductance import (
    DualPairConductanceConverter,
    SinglePairConductanceConverter,
)
from aihwkit.inference.noise.hermes import HermesNoiseModel
from aihwkit.inference.noise.pcm import CustomDriftPCMLikeNoiseModel
from aihwkit.simulator.tiles.inference_torch import TorchInferenceTile
from scipy import stats
from torch import Tensor

from analogmed.analog import create_rpu_config
from analogmed.analog.devices.programming import ELEMENTWISE_MODELS, ProgrammedTiles
from analogmed.analog.devices.reram import with_memory
from analogmed.network.seeding import seeded

FALSE_ALARM = 1e-3
DAY_S = 86_400.0
TIMES_S = (20.0, 3600.0, DAY_S, 30 * DAY_S, 365 * DAY_S)
WAN_TIMES_S = (1.0, DAY_S, 2 * DAY_S)
SIDE = 96
LEVELS = torch.linspace(-1, 1, 9)
WEIGHT = LEVELS.repeat(SIDE * SIDE // 9).reshape(SIDE, SIDE)  # each row and column has all levels
DRIFT_MODEL = {
    "g_lst": [0.0, 10.0, 25.0],
    "nu_mean_lst": [0.08, 0.05, 0.05],
    "nu_std_lst": [0.03, 0.01, 0.008],
}
MODELS = {
    "pcm": lambda: PCMLikeNoiseModel(),
    "pcm_lifted": lambda: PCMLikeNoiseModel(g_converter=SinglePairConductanceConverter(25.0, 2.0)),
    "pcm_dual_pair": lambda: PCMLikeNoiseModel(
        g_converter=DualPairConductanceConverter(f_lst=[1.0, 2.0], g_max=25.0)
    ),
    "custom_drift": lambda: CustomDriftPCMLikeNoiseModel(DRIFT_MODEL),
    "hermes": lambda: HermesNoiseModel(),
    "hermes_one_device": lambda: HermesNoiseModel(num_devices=1),
    "state_independent": lambda: StateIndependentNoiseModel(),
    "reram_wan2022": lambda: ReRamWan2022NoiseModel(g_max=40.0),
    "reram_cmo": lambda: ReRamCMONoiseModel(),
}
FOLDS_LITTLE = (
    "pcm",
    "custom_drift",
    "hermes",
    "hermes_one_device",
    "state_independent",
    "reram_cmo",
)


def at_each_time(*names):
    return pytest.mark.parametrize(
        ("name", "t_inference_s"),
        [(m, t) for m in names for t in (WAN_TIMES_S if m == "reram_wan2022" else TIMES_S)],
    )


pytestmark = pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")


def hardware(name, compensation="none", **options):
    config = create_rpu_config("pcm", drift_compensation=compensation, **options)
    config.noise_model = MODELS[name]()
    return config


def aihwkit_tile(config, weight=WEIGHT):
    tile = TorchInferenceTile(*weight.shape, config)
    tile.tile.set_weights(weight)
    return tile


def chips_of_analogmed(config, t_inference_s, chips):
    """Weights (chips, columns, rows) and factors (chips, columns)."""
    read = [
        next(ProgrammedTiles.program([WEIGHT], config).read(t_inference_s)) for _ in range(chips)
    ]
    return tuple(torch.stack(parts) for parts in zip(*read, strict=True))


def chips_device_by_device(config, t_inference_s, chips):
    """The same by aihwkit's functions and tile; nothing is folded between programming and drift."""
    read = [_device_by_device(config, t_inference_s) for _ in range(chips)]
    return tuple(torch.stack(parts) for parts in zip(*read, strict=True))


def _device_by_device(config, t_inference_s):
    model, converter = config.noise_model, config.noise_model.g_converter
    tile = aihwkit_tile(config)
    tile.reference_combined_weights = WEIGHT
    targets, cell = converter.convert_to_conductances(WEIGHT)
    targets = [targets] if isinstance(targets, Tensor) else targets
    programmed = [model.apply_programming_noise_to_conductance(target) for target in targets]
    drift = [model.generate_drift_coefficients(target) for target in targets]
    one = isinstance(converter, type(ReRamCMONoiseModel().g_converter))
    back = lambda g: converter.convert_back_to_weights(g[0] if one else g, cell)  # noqa: E731
    compensation = config.drift_compensation
    if compensation:
        tile.tile.set_weights(back(programmed))
        baseline = compensation.init_baseline(tile)
    aged = [
        model.apply_drift_noise_to_conductance(g, nu, t_inference_s)
        for g, nu in zip(programmed, drift, strict=True)
    ]
    tile.tile.set_weights(back(aged))
    factor = torch.ones(SIDE)
    if compensation:
        output = tile._forward_drift_readout_tensor()
        factor = compensation.apply(output, baseline).reshape(-1).expand(SIDE)
    return tile.tile.get_weights(), factor


def chips_of_aihwkit(config, t_inference_s, chips):
    """aihwkit's tile as it is, with the largest weight that it programmed (chips,)."""
    weights, largest, factors = [], [], []
    for _ in range(chips):
        tile = aihwkit_tile(config)
        tile.program_weights(from_reference=False)
        tile.drift_weights(t_inference_s)
        weights.append(tile.tile.get_weights())
        largest.append(tile.programmed_weights.abs().max())
        factors.append(tile.alpha.reshape(-1).expand(SIDE))
    return torch.stack(weights), torch.stack(factors), torch.stack(largest)


def errors_by_level(weights):
    return [(weights[:, level == WEIGHT] - level).flatten() for level in LEVELS]


def assert_one_distribution(found, expected, comparisons):
    """Kolmogorov-Smirnov at a share of the false alarms; ties only make it more careful."""
    test = stats.ks_2samp(found.numpy(), expected.numpy(), method="asymp")
    assert test.pvalue > FALSE_ALARM / comparisons, test


def standard_errors(found, expected):
    """Difference of means, and log ratio of standard deviations, in standard errors."""
    errors = [found, expected]
    mean_error = sum(e.var() / e.numel() for e in errors).sqrt()
    kurtosis = [((e - e.mean()) ** 4).mean() / e.var() ** 2 for e in errors]
    std_error = sum((k - 1) / (4 * e.numel()) for k, e in zip(kurtosis, errors, strict=True)).sqrt()
    return (
        ((found.mean() - expected.mean()) / mean_error).item(),
        ((found.std() / expected.std()).log() / std_error).item(),
    )


@pytest.mark.slow
@at_each_time(*MODELS)
def test_errors_of_each_weight_level_are_distributed_as_aihwkits_devices(name, t_inference_s):
    config = hardware(name)
    chips = 5
    found = errors_by_level(chips_of_analogmed(config, t_inference_s, chips)[0])
    expected = errors_by_level(chips_device_by_device(config, t_inference_s, chips)[0])
    comparisons = 3 * len(LEVELS) + 1
    limit = stats.norm.isf(FALSE_ALARM / comparisons / 2)
    for ours, theirs in zip(found, expected, strict=True):
        assert_one_distribution(ours, theirs, comparisons)
        assert all(abs(score) < limit for score in standard_errors(ours, theirs))
    assert_one_distribution(torch.cat(found), torch.cat(expected), comparisons)


@pytest.mark.parametrize("name", MODELS)
def test_programmed_weights_are_distributed_as_aihwkits_tile_programs_them(name):
    """Before any drift nothing is folded twice: aihwkit's tile itself is the reference."""
    config = hardware(name)
    model = config.noise_model
    found, expected = [], []
    for _ in range(3):
        tiles = ProgrammedTiles.program([WEIGHT], config)
        devices = [device.conductances_us[0] for device in tiles.devices]
        (cell,) = tiles.cells
        conductances = devices[0] if cell.bare else devices
        found.append(model.g_converter.convert_back_to_weights(conductances, cell.parameters))
        tile = aihwkit_tile(config)
        tile.program_weights(from_reference=False)
        expected.append(tile.tile.get_weights())
    for ours, theirs in zip(
        errors_by_level(torch.stack(found)), errors_by_level(torch.stack(expected)), strict=True
    ):
        assert_one_distribution(ours, theirs, len(LEVELS))


@at_each_time(*FOLDS_LITTLE)
def test_aihwkits_folding_tile_is_close(name, t_inference_s):
    config = hardware(name)
    chips = 3
    found = errors_by_level(chips_of_analogmed(config, t_inference_s, chips)[0])
    expected = errors_by_level(chips_of_aihwkit(config, t_inference_s, chips)[0])
    for ours, theirs in zip(found[1:-1], expected[1:-1], strict=True):
        mean_error = (ours.var() / ours.numel() + theirs.var() / theirs.numel()).sqrt()
        assert abs(ours.mean() - theirs.mean()) < 0.004 + 4 * mean_error
        _, score = standard_errors(ours, theirs)
        log_ratio = (ours.std() / theirs.std()).log().item()
        std_error = log_ratio / score if score else 0.0
        assert abs(log_ratio) < math.log(1.08) + 4 * std_error


@pytest.mark.parametrize("t_inference_s", WAN_TIMES_S)
def test_aihwkits_wan_tile_differs_by_the_largest_programmed_weight(t_inference_s):
    """It draws about the target anew, but maps back with the scale of the programmed weights.

    So its weights are a tenth too large; divided by that, they are the same distribution.
    """
    config = hardware("reram_wan2022")
    found = errors_by_level(chips_of_analogmed(config, t_inference_s, 3)[0])
    weights, _, largest = chips_of_aihwkit(config, t_inference_s, 3)
    assert (largest > 1.05).all()
    expected = errors_by_level(weights / largest[:, None, None])
    for ours, theirs in zip(found, expected, strict=True):
        assert_one_distribution(ours, theirs, len(LEVELS))


@pytest.mark.slow
@pytest.mark.parametrize("compensation", ["global", "global_exact", "per_column"])
@pytest.mark.parametrize("name", ["pcm", "hermes", "state_independent", "reram_cmo"])
@pytest.mark.parametrize("t_inference_s", [3600.0, 365 * DAY_S])
def test_compensation_factors_are_distributed_as_aihwkits(name, compensation, t_inference_s):
    config = hardware(name, compensation)
    chips = 12 if compensation == "per_column" else 40
    found = chips_of_analogmed(config, t_inference_s, chips)[1]
    expected = chips_device_by_device(config, t_inference_s, chips)[1]
    if compensation == "per_column":
        for spread in (found, expected):
            assert (spread.std(1) > 0).all()
        found, expected = found.flatten(), expected.flatten()
    else:
        assert torch.equal(found, found[:, :1].expand_as(found))
        found, expected = found[:, 0], expected[:, 0]
    limit = stats.norm.isf(FALSE_ALARM / 3 / 2)
    assert_one_distribution(found, expected, 3)
    assert all(abs(score) < limit for score in standard_errors(found, expected))


@pytest.mark.parametrize("t_inference_s", TIMES_S)
@pytest.mark.parametrize("name", ["pcm", "custom_drift", "hermes", "hermes_one_device"])
def test_factors_of_aihwkits_folding_tile_are_close(name, t_inference_s):
    config = hardware(name, "global")
    found = chips_of_analogmed(config, t_inference_s, 4)[1][:, 0]
    expected = chips_of_aihwkit(config, t_inference_s, 4)[1][:, 0]
    mean_error = (found.var() / 4 + expected.var() / 4).sqrt()
    difference = found.mean() - expected.mean()
    assert abs(difference) < 0.006 * expected.mean() + 4 * mean_error


def programmed(model, g):
    return model.apply_programming_noise_to_conductance(g)


def exponents(model, g):
    programmed(model, g)
    return model.generate_drift_coefficients(g.clone())


def drifted(model, g):
    drawn = programmed(model, g), model.generate_drift_coefficients(g.clone())
    return model.apply_drift_noise_to_conductance(*drawn, DAY_S)


FUNCTIONS = {"programming": programmed, "exponents": exponents, "drift": drifted}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_a_device_does_not_see_the_others(name, function):
    """Half of the devices change; under the same draws the others' results stay."""
    model = with_memory(MODELS[name]())
    assert type(model) in ELEMENTWISE_MODELS
    lowest = 9.0 if name == "reram_cmo" else 0.0
    conductances = lowest + (model.g_max - lowest) * torch.rand(5000)
    others = torch.rand(5000) < 0.5
    changed = torch.where(others, torch.full_like(conductances, model.g_max), conductances)
    results = []
    for each in (conductances, changed):
        with seeded(3):
            results.append(FUNCTIONS[function](model, each))
    kept, again = (result[..., ~others] for result in results)
    torch.testing.assert_close(kept, again, rtol=1e-5, atol=1e-6)
