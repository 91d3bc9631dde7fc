import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.inference.converter.conductance import (
    NPairConductanceConverter,
    SinglePairConductanceConverter,
)
from aihwkit.simulator.configs.configs import TorchInferenceRPUConfigIRDropT
from aihwkit.simulator.parameters.enums import (
    AnalogMVType,
    BoundManagementType,
    NoiseManagementType,
)
from aihwkit.simulator.parameters.io import IOParameters
from aihwkit.simulator.tiles.analog_mvm_irdrop_t import AnalogMVMIRDropT
from torch import nn

from analogmed.analog import Chip, convert, create_rpu_config
from analogmed.analog.tile.ir_drop import WireModel, has_static_ir_drop, static_ir_drop
from analogmed.analog.tile.product import Crossbar, disturbs_sums, read_tile


def times(values, matrix):
    return values @ matrix[0].T


def same(values):
    return values


STATIC = {
    "usual": {"ir_drop": 1.0},
    "thin_wires": {"ir_drop": 1.0, "ir_drop_g_ratio": 2e3},
    "analog_converters": {"ir_drop": 5.0, "ir_drop_g_ratio": 2e3, "inp_res": -1.0, "out_res": -1.0},
    "managed": {
        "ir_drop": 3.0,
        "ir_drop_g_ratio": 2e3,
        "noise_management": NoiseManagementType.ABS_MAX,
    },
}


@pytest.mark.parametrize("case", STATIC)
def test_the_static_drop_is_that_of_the_compiled_tile(case, compiled_tile):
    plain = {"noise_management": NoiseManagementType.NONE, "out_noise": 0.0}
    plain["bound_management"] = BoundManagementType.NONE
    io = IOParameters(**(plain | STATIC[case]))
    weight, inputs = torch.rand(20, 60) * 2 - 1, torch.randn(100, 60) / 2
    tile = compiled_tile(weight, forward=io)
    expected = tile.tile.forward(inputs, False, False, False, True, False)
    crossbar = Crossbar(weight[None], times, same)
    found = read_tile(inputs, lambda x: x @ weight.T, io, vector_dim=1, crossbar=crossbar)
    assert ((found - expected).abs() > 1e-5).double().mean() < 2e-3


def test_a_column_loses_a_share_that_grows_with_its_current_and_its_distance():
    io = IOParameters(ir_drop=1.0, ir_drop_g_ratio=1e3)
    assert has_static_ir_drop(io)
    weight = torch.ones(1, 1, 100)
    lost = [static_ir_drop(torch.full((1, 100), x), weight, times, io) for x in (0.1, 0.2)]
    current = 100 * 10.0 / 1e3  # n * sum |w x| / ratio, for inputs of 0.1
    rows = torch.arange(100) / 100
    expected = (0.05 * current**3 - 0.2 * current**2 + 0.5 * current) * (
        0.1 * (1 - (1 - rows) ** 2).sum()
    )
    torch.testing.assert_close(lost[0].squeeze(), expected)
    assert lost[1] > 3 * lost[0]


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(50, 30), (7, 50)),
        (lambda: nn.Conv2d(8, 20, 3, padding=1, groups=2), (2, 8, 9, 9)),
        (lambda: nn.ConvTranspose1d(40, 6, 3, 2), (2, 40, 6)),
    ],
)
@pytest.mark.parametrize("management", ["none", "abs_max"])
@torch.no_grad()
def test_the_static_drop_of_a_layer_is_that_of_its_tiles(layer, shape, management, analog_of):
    config = create_rpu_config(
        "pcm", tile_size=(32, 12), out_noise=0.0, input_range=False, noise_management=management
    )
    exact = analog_of(layer().eval(), config)
    config.forward.ir_drop, config.forward.ir_drop_g_ratio = 1.0, 500.0
    dropping = analog_of(layer().eval(), config)
    dropping.load_state_dict(exact.state_dict())
    inputs = torch.randn(shape)
    found = dropping.eval()(inputs)
    assert (found - exact.eval()(inputs)).abs().max() > 0.01
    by_tiles = []
    for group, part in enumerate(_vectors(dropping, inputs)):
        rows = dropping.reference_rows()
        total = 0
        for (start, stop), row in zip(dropping.grid.rows, rows, strict=True):
            weight = row.weight[group]
            crossbar = Crossbar(weight[None], times, same)
            outputs = read_tile(
                part[:, start:stop],
                lambda x, w=weight: x @ w.T,
                config.forward,
                vector_dim=1,
                crossbar=crossbar,
            )
            total = total + outputs * row.scale[group]
        by_tiles.append(total)
    expected = _outputs(dropping, torch.stack(by_tiles), inputs)
    assert ((found - expected).abs() > 1e-4).double().mean() < 5e-3


def _vectors(layer, inputs):
    if isinstance(layer, nn.Linear):
        return [inputs]
    if layer.transposed:
        return [inputs.movedim(1, -1).flatten(0, 1)]
    patches = nn.functional.unfold(inputs, layer.kernel_size, padding=layer.padding)
    return [p.transpose(1, 2).flatten(0, 1) for p in patches.chunk(layer.groups, 1)]


def _outputs(layer, by_groups, inputs):
    """From (groups, vectors, columns) to the layer's output."""
    flat = by_groups.movedim(0, 1).flatten(1)
    if isinstance(layer, nn.Linear):
        return flat + layer.bias
    grid = flat.unflatten(0, (len(inputs), -1)).transpose(1, 2)
    if layer.transposed:
        return layer._overlap_add(grid, [0]) + layer.bias[:, None]
    return grid.unflatten(2, inputs.shape[2:]) + layer.bias[:, None, None]


def pulsed(rows, **settings):
    config = TorchInferenceRPUConfigIRDropT()
    config.mapping.max_input_size = rows
    config.mapping.max_output_size = 12
    config.mapping.weight_scaling_omega = 1.0
    config.noise_model = PCMLikeNoiseModel(g_converter=settings.pop("g_converter", None))
    config.forward.bound_management = BoundManagementType.NONE
    config.forward.noise_management = NoiseManagementType.NONE
    config.forward.out_noise, config.forward.inp_res = 0.0, 1 / 254
    for name, value in settings.items():
        setattr(config.forward, name, value)
    return config


PULSED = {
    "one_pass": {},
    "thin_wires": {"ir_drop": 50.0},
    "exact_adc": {"ir_drop": 50.0, "adc_quantization": False, "out_res": -1.0},
    "summed": {"adc_quantization": False, "ir_drop_integration_sum": True},
    "split": {"mv_type": AnalogMVType.SPLIT_MODE},
    "bit_wise": {"mv_type": AnalogMVType.BIT_WISE},
    "coarse_time": {"inp_res": 62.0, "ir_drop_time_step_resolution_scale": 0.5},
    "managed": {"noise_management": NoiseManagementType.ABS_MAX},
    "segments": {"ir_drop_segments": 32},
    "two_pairs": {"g_converter": NPairConductanceConverter([1.0, 3.0], g_max=20.0, g_min=1.0)},
    "offset": {"g_converter": SinglePairConductanceConverter(g_max=20.0, g_min=2.0)},
    "no_drop": {"ir_drop": 0.0},
    "no_drop_split": {"ir_drop": 0.0, "mv_type": AnalogMVType.SPLIT_MODE},
}


@pytest.fixture
def in_double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("rows", [32, 21])
@pytest.mark.parametrize("case", PULSED)
def test_products_of_pulses_are_aihwkits_without_its_simulation_in_time(case, rows, in_double):
    config = pulsed(32, **PULSED[case])
    weight, inputs = torch.rand(6, rows) * 2 - 1, torch.randn(40, rows)
    expected = AnalogMVMIRDropT.matmul(
        weight,
        inputs.clone(),
        config.forward,
        False,
        True,
        phys_input_size=32,
        g_converter=config.noise_model.g_converter,
    )
    wires = WireModel.of(weight[None], ((0, 6),), config) if config.forward.ir_drop else None
    found = read_tile(
        inputs,
        lambda x: x @ weight.T,
        config.forward,
        vector_dim=1,
        crossbar=Crossbar(weight[None], times, same, wires),
    )
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("case", ["one_pass", "thin_wires", "split", "bit_wise", "managed"])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (lambda: nn.Linear(60, 24), (40, 60)),
        (lambda: nn.Conv2d(8, 24, 3, padding=1, groups=2), (2, 8, 6, 6)),
        (lambda: nn.ConvTranspose1d(60, 6, 4, 4), (2, 60, 10)),
    ],
)
@torch.no_grad()
def test_layers_equal_aihwkits_tiles_with_ir_drop(layer, shape, case, analog_of, oracle):
    config = pulsed(32, **PULSED[case])
    analog = analog_of(layer().eval(), config).eval()
    inputs = torch.randn(shape)
    found, expected = analog(inputs), oracle(analog, inputs)
    assert ((found - expected).abs() > 1e-4).double().mean() < 5e-3


def test_training_sees_the_converters_without_the_drop(analog_of, oracle):
    analog = analog_of(nn.Linear(30, 12), pulsed(32, ir_drop=50.0)).train()
    inputs = torch.randn(20, 30, requires_grad=True)
    outputs = analog(inputs)
    assert ((outputs - oracle(analog, inputs)).abs() > 1e-5).double().mean() < 5e-3
    outputs.sum().backward()
    assert analog.weight.grad.abs().sum() > 0


def test_an_odd_number_of_columns_is_computed_where_aihwkit_stops(analog_of, oracle):
    config = pulsed(32, ir_drop=50.0)
    odd = analog_of(nn.Linear(31, 7).eval(), config).eval()
    even = analog_of(nn.Linear(31, 8).eval(), config).eval()
    inputs = torch.randn(20, 31)
    with torch.no_grad():
        even.weight[:7], even.bias[:7] = odd.weight, odd.bias
        even.weight[7] = 0.0
        torch.testing.assert_close(odd(inputs), even(inputs)[:, :7])
        with pytest.raises(RuntimeError):
            oracle(odd, inputs)


@torch.no_grad()
def test_a_chip_computes_with_the_drop_of_its_own_conductances():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Conv2d(8, 12, 3)).eval()
    images = torch.randn(1, 8, 6, 6)
    config = pulsed(32, ir_drop=50.0)
    assert disturbs_sums(config.forward)
    dropping = Chip(convert(model, config), seed=1).at(0.0)
    exact = Chip(convert(model, pulsed(32, ir_drop=0.0)), seed=1).at(0.0)
    first = dropping(images)
    assert torch.equal(first, dropping(images))
    assert 0.01 < (first - exact(images)).abs().max() < 0.5
