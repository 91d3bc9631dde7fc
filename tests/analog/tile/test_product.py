import dataclasses

import pytest
import torch
from aihwkit.simulator.parameters.enums import (
    BoundManagementType,
    NoiseManagementType,
    WeightNoiseType,
)
from aihwkit.simulator.parameters.io import IOParameters
from aihwkit.simulator.tiles.analog_mvm import AnalogMVM
from aihwkit.simulator.tiles.utils import UniformQuantize
from hypothesis import given
from hypothesis import strategies as st

from analogmed.analog.tile.product import adc, read_tile, weight_noise_std
from analogmed.analog.tile.quantise import quantise, step_size
from analogmed.network.tiling import TileGrid

sizes = st.integers(1, 3000)


@given(
    channels=st.integers(1, 300),
    volume=st.sampled_from([1, 4, 9, 27]),
    max_rows=st.integers(27, 600),
    columns=sizes,
)
def test_a_channel_split_never_cuts_a_channel(channels, volume, max_rows, columns):
    grid = TileGrid.cut(
        channels * volume,
        columns,
        max_rows=max_rows,
        max_cols=256,
        row_split="channels",
        channel_rows=volume,
    )
    assert all(start % volume == 0 and stop % volume == 0 for start, stop in grid.rows)
    assert all(0 < stop - start <= max_rows for start, stop in grid.rows)
    assert sum(stop - start for start, stop in grid.rows) == channels * volume
    assert len(grid.rows) == -(-channels // (max_rows // volume))  # design: hardware.md, 2


def test_a_channel_larger_than_a_tile_is_cut_evenly():
    grid = TileGrid.cut(54, 8, max_rows=20, max_cols=8, row_split="channels", channel_rows=27)
    assert grid.rows == ((0, 18), (18, 36), (36, 54))


@pytest.mark.parametrize(("resolution", "bound"), [(1 / 254, 1.0), (254.0, 1.0), (0.01, 12.0)])
def test_quantising_equals_aihwkits_bit_for_bit(resolution, bound):
    values = torch.randn(1000, dtype=torch.float32)
    found = quantise(values, step_size(resolution, bound))
    assert torch.equal(found, UniformQuantize.apply(values, resolution, bound, False))


def test_stochastic_rounding_is_right_in_the_mean_and_hits_neighbours_only():
    values = torch.full((20_000,), 0.33)
    found = quantise(values, 0.1, stochastic=True)
    assert set(found.mul(10).round().int().tolist()) == {3, 4}
    assert abs(found.mean().item() - 0.33) < 5 * 0.1 * (0.3 * 0.7 / 20_000) ** 0.5


def test_the_gradient_passes_the_rounding_and_stops_at_the_bound():
    values = torch.tensor([-2.0, -0.31, 0.12, 1.04, 1.2], requires_grad=True)
    quantise(values, 0.1, bound=1.0).sum().backward()
    assert values.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]  # 1.04 rounds to the bound


def test_without_steps_and_bound_nothing_changes():
    values = torch.randn(10)
    assert torch.equal(quantise(values, 0.0), values)
    assert torch.equal(quantise(values, 0.0, bound=0.5), values.clamp(-0.5, 0.5))


IO_CASES = {
    "asymmetric": {"inp_asymmetry": 0.05, "out_asymmetry": 0.1},
    "out_scale": {"out_scale": 0.7},
    "managed": {"noise_management": NoiseManagementType.ABS_MAX},
    "managed_with_threshold": {"noise_management": NoiseManagementType.ABS_MAX, "nm_thres": 1.5},
    "unbounded": {"out_bound": 0.0, "out_res": -1.0},
    "coarse": {"inp_res": 7.0, "out_res": 1 / 30, "out_bound": 3.0},
    "perfect": {"is_perfect": True},
    "managed_by_the_largest": {"noise_management": NoiseManagementType.MAX},
    "managed_by_the_largest_with_threshold": {
        "noise_management": NoiseManagementType.MAX,
        "nm_thres": 1.5,
    },
    "constant_scale": {"noise_management": NoiseManagementType.CONSTANT, "nm_thres": 2.5},
    "constant_scale_of_one": {"noise_management": NoiseManagementType.CONSTANT},
}


@pytest.mark.parametrize("case", IO_CASES)
def test_one_product_equals_aihwkits_matrix_product(case):
    settings_ = {"bound_management": BoundManagementType.NONE, "out_noise": 0.0}
    settings_["noise_management"] = NoiseManagementType.NONE
    io = IOParameters(**(settings_ | IO_CASES[case]))
    weight, inputs = torch.randn(20, 30) / 5, torch.randn(200, 30)
    inputs[3] = 0.0
    found = read_tile(inputs, lambda values: values @ weight.T, io, vector_dim=1)
    expected = AnalogMVM.matmul(weight, inputs.clone(), io)
    difference = (found - expected).abs()
    assert (difference > 1e-5).double().mean() < 2e-3
    assert not torch.equal(found, inputs @ weight.T) or case == "perfect"


COMPILED = {
    "managed_by_worst_sum": {"noise_management": NoiseManagementType.ABS_MAX_NP_SUM},
    "managed_by_worst_sum_of_few_steps": {
        "noise_management": NoiseManagementType.ABS_MAX_NP_SUM,
        "out_bound": 2.0,
        "inp_res": 1 / 14,
    },
    "managed_by_worst_sum_without_steps": {
        "noise_management": NoiseManagementType.ABS_MAX_NP_SUM,
        "out_bound": 2.0,
        "inp_res": -1.0,
        "nm_thres": 1.0,
    },
    "saturating": {"out_nonlinearity": 0.5},
    "saturating_without_bound": {"out_nonlinearity": 0.5, "out_bound": 0.0, "out_res": -1.0},
    "saturating_and_calibrated": {"out_nonlinearity": 0.5, "slope_calibration": 0.5},
    "calibrated_only": {"slope_calibration": 0.5},
}


@pytest.mark.parametrize("case", COMPILED)
def test_one_product_equals_that_of_the_compiled_tile(case, compiled_tile):
    settings_ = {"bound_management": BoundManagementType.NONE, "out_noise": 0.0}
    settings_["noise_management"] = NoiseManagementType.NONE
    io = IOParameters(**(settings_ | COMPILED[case]))
    weight, inputs = torch.rand(20, 30) * 2 - 1, torch.randn(200, 30)
    inputs[3] = 0.0
    found = read_tile(inputs, lambda values: values @ weight.T, io, vector_dim=1)
    tile = compiled_tile(weight, forward=io)
    expected = tile.tile.forward(inputs, False, False, False, True, False)
    assert ((found - expected).abs() > 1e-5).double().mean() < 2e-3


def test_saturation_halves_an_output_at_the_bound_and_is_undone_for_small_ones():
    io = IOParameters(out_nonlinearity=1.0, out_bound=8.0, out_noise=0.0, out_res=-1.0)
    assert adc(torch.tensor([8.0]), io).item() == pytest.approx(4.0)
    calibrated = dataclasses.replace(io, slope_calibration=0.5)  # slope 1 at half the bound
    sums = torch.tensor([4.0], requires_grad=True)
    adc(sums * 1.0, calibrated).sum().backward()
    assert sums.grad.item() == pytest.approx(1.0)


MANAGED = {
    "abs_max": {"noise_management": NoiseManagementType.ABS_MAX},
    "max": {"noise_management": NoiseManagementType.MAX},
    "worst sum": {"noise_management": NoiseManagementType.ABS_MAX_NP_SUM, "nm_thres": 0.5},
}


@pytest.mark.parametrize("case", MANAGED)
def test_the_output_of_a_vector_of_zeros_is_zero_and_its_gradient_that_of_the_product(case):
    io = IOParameters(out_noise=0.1, out_res=-1.0, **MANAGED[case])
    weight, inputs = torch.randn(20, 30), torch.randn(3, 30)
    inputs[1] = 0.0
    inputs.requires_grad_()
    outputs = read_tile(inputs, lambda values: values @ weight.T, io, vector_dim=1)
    assert (outputs[1] == 0).all() and (outputs[[0, 2]] != 0).any(1).all()
    outputs[1].sum().backward()
    torch.testing.assert_close(inputs.grad[1], weight.sum(0))


def test_input_noise_reaches_the_output_of_a_vector_of_zeros():
    """aihwkit's compiled tile skips a vector of zeros only if there is no such noise."""
    io = IOParameters(noise_management=NoiseManagementType.ABS_MAX, inp_noise=0.1, out_noise=0.0)
    outputs = read_tile(
        torch.zeros(4, 30), lambda values: values @ torch.ones(30, 5), io, vector_dim=1
    )
    assert outputs.std() > 0.1


@pytest.mark.parametrize("kind", [WeightNoiseType.ADDITIVE_CONSTANT, WeightNoiseType.PCM_READ])
def test_noise_of_the_weights_has_the_deviation_of_its_kind(kind):
    """w_noise * sqrt(sum_j x_j^2), or w_noise * sqrt(sum_j |w_ij| x_j^2)."""
    io = IOParameters(w_noise=0.1, w_noise_type=kind)
    weight = torch.tensor([[1.0, -0.25], [0.5, 0.0]])
    found = weight_noise_std(
        torch.tensor([[3.0, -4.0]]), weight[None], lambda values, power: values @ power[0].T, io
    )
    expected = {
        WeightNoiseType.ADDITIVE_CONSTANT: [[0.5]],
        WeightNoiseType.PCM_READ: [[0.1 * 13**0.5, 0.1 * 4.5**0.5]],
    }
    torch.testing.assert_close(found, torch.tensor(expected[kind]))


def test_noise_management_needs_to_know_the_vectors():
    io = IOParameters(noise_management=NoiseManagementType.ABS_MAX)
    with pytest.raises(ValueError, match="give its dimension"):
        read_tile(torch.ones(2, 3), lambda values: values, io)
