import math

import pytest
import torch
from aihwkit.inference import PCMLikeNoiseModel
from aihwkit.simulator.parameters.enums import WeightModifierType
from aihwkit.simulator.parameters.inference import WeightModifierParameter
from aihwkit.simulator.parameters.io import IOParameters
from aihwkit.simulator.tiles.torch_tile import TorchSimulatorTile
from torch import nn

from analogmed.analog import create_rpu_config
from analogmed.analog.tile.modifier import modify

COLS = ((0, 12), (12, 20))
DRAWS = 4000


def blockwise(weight, modifier):
    """aihwkit's modifier, tile by tile."""
    blocks = [TorchSimulatorTile.modify_weight(weight[0, a:b], modifier, 1) for a, b in COLS]
    return torch.cat(blocks)[None]


@pytest.mark.slow
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(
    "kind",
    [
        WeightModifierType.NONE,
        WeightModifierType.COPY,
        WeightModifierType.ADD_NORMAL,
        WeightModifierType.MULT_NORMAL,
    ],
)
def test_noise_has_the_mean_and_deviation_of_aihwkits(kind, relative):
    modifier = WeightModifierParameter(type=kind, std_dev=0.07, rel_to_actual_wmax=relative)
    weight = torch.randn(1, 20, 15) * torch.linspace(0.2, 1, 20)[:, None]
    found = torch.stack([modify(weight, COLS, modifier) for _ in range(DRAWS)])
    expected = torch.stack([blockwise(weight, modifier) for _ in range(DRAWS)])
    deviation = expected.std(0)
    error = deviation * (2 / DRAWS) ** 0.5 + 1e-7
    assert ((found.mean(0) - expected.mean(0)).abs() / error).max() < 5.5
    assert torch.allclose(found.std(0), deviation, rtol=5.5 / DRAWS**0.5, atol=1e-7)


@pytest.mark.parametrize("resolution", [1 / 30, 14.0])
def test_discretising_equals_aihwkits(resolution):
    kind = WeightModifierType.DISCRETIZE
    modifier = WeightModifierParameter(type=kind, res=resolution, rel_to_actual_wmax=True)
    weight = torch.randn(1, 20, 15)
    torch.testing.assert_close(modify(weight, COLS, modifier), blockwise(weight, modifier))


COMPILED = {
    "add_normal": {"std_dev": 0.1},
    "discretize_add_normal": {"std_dev": 0.1, "res": 0.29},
    "discretize_add_normal_stochastic": {"std_dev": 0.02, "res": 0.29, "sto_round": True},
    "discretize_add_normal_without_steps": {"std_dev": 0.1, "res": 0.0},
    "dorefa": {"res": 0.1, "dorefa_clip": 0.7},
    "dorefa_stochastic": {"res": 0.29, "sto_round": True},
    "dorefa_without_steps": {"res": 0.0},
    "poly": {"std_dev": 2.0, "coeffs": [0.05, 0.1, -0.03, 0.2]},
    "prog_noise": {"std_dev": 2.0, "coeffs": [0.05, 0.1, -0.03, 0.2], "g_max": 4.0},
    "drop_connect": {"pdrop": 0.3},
    "copy": {"pdrop": 0.3},
    "poly_dropped": {"std_dev": 2.0, "pdrop": 0.3},
}


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("case", COMPILED)
def test_modified_weights_are_distributed_as_those_of_the_compiled_tile(
    case, relative, compiled_tile
):
    kinds = [kind for kind in WeightModifierType if case.startswith(kind.name.lower())]
    modifier = WeightModifierParameter(
        type=max(kinds, key=lambda kind: len(kind.name)),
        rel_to_actual_wmax=relative,
        assumed_wmax=1.6,
        **COMPILED[case],
    )
    weight = torch.linspace(-0.8, 0.8, 17).repeat(3, 1)
    tile = compiled_tile(weight, modifier=modifier, forward=IOParameters(is_perfect=True))
    expected = torch.stack([_modified(tile, weight.shape[1]) for _ in range(DRAWS)])
    found = torch.cat([modify(weight[None], ((0, 3),), modifier) for _ in range(DRAWS)])
    deviation = expected.std(0)
    error = deviation * (2 / DRAWS) ** 0.5 + 1e-6
    assert ((found.mean(0) - expected.mean(0)).abs() / error).max() < 5.5
    assert torch.allclose(found.std(0), deviation, rtol=8 / DRAWS**0.5, atol=5e-3)
    for share in (torch.eq, torch.lt):  # weights that are dropped, or have changed their sign
        ours, theirs = (share(values, 0).double().mean((0, 1)) for values in (found, expected))
        assert (ours - theirs).abs().max() < 5 * math.sqrt(0.5 / (3 * DRAWS))


def _modified(tile, rows):
    tile.post_update_step()
    return tile.tile.forward(torch.eye(rows), False, False, False, False, False).T.clone()


def test_drop_connect_passes_gradients_as_the_compiled_tile_does(compiled_tile):
    weight = torch.randn(8, 12)
    modifier = WeightModifierParameter(type=WeightModifierType.DROP_CONNECT, pdrop=0.5)
    tile = compiled_tile(weight, modifier=modifier, forward=IOParameters(is_perfect=True))
    dropped = _modified(tile, 12)
    assert 0 < (dropped == 0).sum() < 96
    gradient = torch.randn(5, 8)
    assert torch.allclose(
        tile.tile.backward(gradient, False, False, False, False), gradient @ dropped
    )

    ours = weight[None].clone().requires_grad_()
    inputs = torch.randn(5, 12)
    modified = modify(ours, ((0, 8),), modifier)
    (inputs @ modified[0].T).backward(gradient)
    assert torch.allclose(ours.grad[0], gradient.T @ inputs)  # the dropped ones too


def test_the_polynomial_gives_the_deviation_for_each_weight():
    modifier = WeightModifierParameter(
        type=WeightModifierType.POLY, std_dev=0.5, coeffs=[0.1, 0.2, 0.4]
    )
    weight = torch.linspace(-2, 2, 9)[None, None].repeat(1, 20_000, 1)
    noise = modify(weight, ((0, 20_000),), modifier) - weight
    relative = weight[0, 0].abs() / 2
    expected = 2 * 0.5 * (0.1 + 0.2 * relative + 0.4 * relative**2)
    assert torch.allclose(noise[0].std(0), expected, rtol=0.03)


@pytest.mark.parametrize("time_s", [0.0, 86_400.0])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_pcm_noise_is_that_of_the_noise_model_without_the_mean_drift(scale, time_s):
    modifier = WeightModifierParameter(
        type=WeightModifierType.PCM_NOISE, std_dev=scale, g_max=25.0, pcm_t_inference=time_s
    )
    levels = torch.tensor([-0.8, -0.5, -0.2, 0.3, 0.6, 0.8])
    weight = levels.repeat(1, 40_000, 1)
    found = modify(weight, ((0, 40_000),), modifier)[0]
    model = PCMLikeNoiseModel(g_max=25.0, prog_noise_scale=scale, read_noise_scale=scale)
    target = weight[0].abs() / 0.8 * 25
    programmed = model.apply_programming_noise_to_conductance(target)
    mean_drift = (-0.0155 * (programmed / 25).clamp(min=1e-6).log() + 0.0244).clamp(0.049, 0.1)
    spread = (model.generate_drift_coefficients(programmed) - mean_drift).abs()
    aged = model.apply_drift_noise_to_conductance(programmed, spread, time_s)
    expected = aged / 25 * 0.8 * levels.sign()
    error = expected.std(0) * (2 / 40_000) ** 0.5
    assert ((found.mean(0) - expected.mean(0)).abs() / error).max() < 5.5
    assert torch.allclose(found.std(0), expected.std(0), rtol=0.03)
    assert torch.equal(found.sign().unique(dim=0), levels.sign()[None])


def test_pcm_devices_fail_with_the_given_probabilities():
    def share(weight, **chances):
        modifier = WeightModifierParameter(
            type=WeightModifierType.PCM_NOISE, std_dev=0.0, pcm_t0=0.0, **chances
        )
        values = modify(torch.full((1, 100, 1000), weight), ((0, 100),), modifier)
        return values, values.unique()

    reset, found = share(0.5, pcm_prob_at_reset=0.1, rel_to_actual_wmax=False)
    assert found.tolist() == [0.0, 0.5]
    assert abs((reset == 0).double().mean() - 0.1) < 5 * math.sqrt(0.09 / 1e5)
    stuck, found = share(0.25, pcm_prob_at_gmax=0.2, rel_to_actual_wmax=False)
    assert found.tolist() == [0.25, 0.75, 1.0]  # 0.25 - 1 keeps the sign of the weight
    assert abs((stuck == 1).double().mean() - 0.1) < 5 * math.sqrt(0.09 / 1e5)
    anywhere, _ = share(-0.5, pcm_prob_at_random=1.0, rel_to_actual_wmax=False)
    assert -1 <= anywhere.min() < -0.99 and -0.01 < anywhere.max() <= 0
    assert abs(anywhere.mean() + 0.5) < 5 * math.sqrt(1 / 12 / 1e5)


def test_weights_below_the_threshold_are_not_programmed():
    modifier = WeightModifierParameter(
        type=WeightModifierType.PCM_NOISE, std_dev=1.0, pcm_zero_thres=2.0, g_max=25.0
    )
    limit = 2 * 0.26348 / 25  # in units of the programming noise at reset
    weight = torch.tensor([[[1.0, 1.01 * limit, 0.99 * limit, -0.99 * limit, 0.0]]])
    modified = modify(weight, ((0, 1),), modifier)[0, 0]
    assert (modified[:2] != 0).all()
    assert (modified[2:] == 0).all()


@pytest.mark.parametrize("kind", ["add_normal", "discretize", "dorefa", "poly", "pcm_noise"])
def test_gradients_pass_straight_through(kind, analog_of):
    config = create_rpu_config("ideal", modifier=kind, modifier_std=0.1)
    layer = nn.Linear(30, 20)
    analog = analog_of(layer, config).train()
    inputs = torch.randn(7, 30)
    analog(inputs).sum().backward()
    torch.testing.assert_close(analog.weight.grad, inputs.sum(0).expand(20, -1))


def test_evaluation_and_chips_see_no_training_noise(analog_of):
    analog = analog_of(nn.Linear(30, 20), create_rpu_config("ideal", modifier="add_normal"))
    inputs = torch.randn(7, 30)
    assert not torch.equal(analog.train()(inputs), analog(inputs))
    assert torch.equal(analog.eval()(inputs), analog(inputs))


def test_a_zero_tile_stays_finite():
    kind = WeightModifierType.DISCRETIZE
    modifier = WeightModifierParameter(type=kind, res=0.1, rel_to_actual_wmax=True)
    assert torch.equal(modify(torch.zeros(1, 20, 5), COLS, modifier), torch.zeros(1, 20, 5))
