"""Weight noise of training, addressed by step, against the chip's own classes."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from analogmed.analog import Chip, TrainingNoise, calibrate, convert, create_rpu_config
from analogmed.analog.training_noise import age_s
from analogmed.foundation.errors import ConfigError

EXACT = {  # converters, bounds and output noise off
    "dac_steps": 0,
    "adc_steps": 0,
    "inp_bound": 1e3,
    "out_bound": 1e6,
    "out_noise": 0.0,
    "input_range": False,
}
MONTH_S = 2_592_000.0
IMAGES = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(4, 2, 1)
    )  # fmt: skip


def analog(backend="auto", digital=(), **options):
    options = {"tile_size": (20, 5)} | options
    config = create_rpu_config("pcm", **options)
    model = convert(network(), config, backend=backend, digital_layers=digital)
    return calibrate(model, [IMAGES]).train()


def effective(layer):
    """The weight matrix that the layer computes with, compensation included."""
    rows = layer.tile_rows()
    return torch.cat([row.weight * row.scale[:, :, None] for row in rows], 2).detach()


def disturbed_weights(model, noise, step):
    with noise.step(step):
        return [effective(layer) for layer in model if hasattr(layer, "grid")]


def output(model, noise, step, part=0):
    with noise.step(step, part):
        return model(IMAGES).detach()


def gradients(model, noise, step, inputs=IMAGES):
    model.zero_grad()
    inputs = inputs.clone().requires_grad_()
    with noise.step(step):
        model(inputs).square().mean().backward()
    return [inputs.grad] + [p.grad for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("kind", ["modifier", "chips"])
@pytest.mark.parametrize("backend", ["torch", "numba"])
def test_gradients_pass_straight_to_the_digital_weights(backend, kind):
    """As if the disturbed, compensated weights were the parameters."""
    model = analog(backend, **EXACT)
    noise = TrainingNoise(model, weights=kind)
    twin = network()
    for layer, weight in zip(
        [twin[0], twin[2], twin[3]], disturbed_weights(model, noise, 5), strict=True
    ):
        if getattr(layer, "transposed", False):
            weight = weight.transpose(1, 2)
        layer.weight.data = weight.reshape(layer.weight.shape)
    twin.zero_grad()
    inputs = IMAGES.clone().requires_grad_()
    twin(inputs).square().mean().backward()
    found = gradients(model, noise, 5)
    for one, other in zip(found, [inputs.grad, *(p.grad for p in twin.parameters())], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["modifier", "chips"])
@pytest.mark.parametrize(
    "options", [{}, {"remap": "channelwise"}, {"drift_compensation": "per_column"}], ids=str
)
def test_both_engines_compute_with_the_same_draw(options, kind):
    options = EXACT | {"input_range": True, "out_bound": 2.0} | options
    compiled, plain = (analog(name, **options) for name in ("numba", "torch"))
    found, expected = (gradients(m, TrainingNoise(m, weights=kind), 3) for m in (compiled, plain))
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()


@pytest.mark.parametrize(
    "options",
    [
        {"weights": "chips"},
        *({"modifier": kind} for kind in ("add_normal", "mult_normal", "poly", "prog_noise")),
        {"modifier": "pcm_noise", "modifier_t_inference_s": 1e6},
        {"modifier": "none", "drop_connect": 0.5},
    ],
    ids=str,
)
def test_a_ramp_begins_without_noise_and_ends_with_all_of_it(options):
    kind = options.get("weights", "modifier")
    model = analog(**EXACT, **{k: v for k, v in options.items() if k != "weights"})
    noise = TrainingNoise(model, weights=kind, ramp_steps=4)
    assert [noise.strength(step) for step in (0, 1, 2, 4, 9)] == [0, 0.25, 0.5, 1, 1]
    clean = network()(IMAGES).detach()
    torch.testing.assert_close(output(model, noise, 0), clean, rtol=1e-4, atol=1e-5)
    unramped = TrainingNoise(model, weights=kind)
    assert torch.equal(output(model, noise, 4), output(model, unramped, 4))
    assert (output(model, noise, 4) - clean).abs().max() > 1e-3


def test_rounding_of_weights_has_no_ramp():
    model = analog(**EXACT, modifier="discretize")
    noise, unramped = (TrainingNoise(model, ramp_steps=steps) for steps in (4, 0))
    assert torch.equal(output(model, noise, 0), output(model, unramped, 0))


def test_half_of_the_ramp_is_half_of_the_way_to_the_chip():
    model = analog(drift_compensation="per_column")
    half = TrainingNoise(model, weights="chips", ramp_steps=10)
    whole = TrainingNoise(model, weights="chips")
    digital = [layer.weight_matrix().detach() for layer in (model[0], model[2], model[3])]
    found, chip = (disturbed_weights(model, noise, 5) for noise in (half, whole))
    for one, start, end in zip(found, digital, chip, strict=True):
        torch.testing.assert_close(one, (start + end) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_weights_are_distributed_as_those_of_chips():
    """Of the same age; means and deviations of each weight within their statistical errors."""
    model, draws = analog(), 250
    noise = TrainingNoise(model, weights="chips", ages_s=(0.0, 0.0))
    found = torch.stack(
        [torch.cat([w.flatten() for w in disturbed_weights(model, noise, i)]) for i in range(draws)]
    )
    expected = torch.stack([_weights_of(Chip(model, seed=seed).at(0.0)) for seed in range(draws)])
    error = (found.var(0) / draws + expected.var(0) / draws).sqrt() + 1e-7
    assert ((found.mean(0) - expected.mean(0)).abs() / error).max() < 5
    moved = expected.std(0) > 1e-6
    assert moved.double().mean() > 0.9
    ratio = (found.std(0) / expected.std(0))[moved].log()
    assert ratio.abs().max() < 6 / draws**0.5
    assert ratio.mean().abs() < 5 / (draws * moved.sum()) ** 0.5


def _weights_of(reading):
    return torch.cat(
        [
            torch.cat([row.weight * row.scale[:, :, None] for row in each.rows], 2).flatten()
            for each in reading.readings.values()
        ]
    )


def test_ages_are_spread_evenly_in_the_strength_of_the_drift():
    model = create_rpu_config("pcm").noise_model
    assert model.t_0 == 20.0
    assert age_s(model, (0.0, MONTH_S), 0.0) == 0.0
    assert age_s(model, (3600.0, MONTH_S), 0.0) == pytest.approx(3600.0)
    assert age_s(model, (3600.0, MONTH_S), 1 - 1e-12) == pytest.approx(MONTH_S)
    middle = age_s(model, (3600.0, MONTH_S), 0.5)
    assert middle + 20 == pytest.approx(math.sqrt(3620 * (MONTH_S + 20)))
    assert age_s(model, (0.0, 0.0), 0.7) == 0.0


def test_a_model_that_knows_few_times_draws_one_of_them():
    model = create_rpu_config("reram").noise_model
    ages = [age_s(model, (0.0, MONTH_S), share) for share in (0.0, 0.4, 0.9)]
    assert ages == [1.0, 86400.0, 172800.0]
    assert age_s(model, (0.0, 86400.0), 0.9) == 86400.0
    with pytest.raises(ConfigError, match=r"ages_s is \[0.0, 0.5\] s.*ReRamWan2022NoiseModel"):
        age_s(model, (0.0, 0.5), 0.3)


@pytest.mark.parametrize("preset", ["pcm", "hermes", "reram", "reram_cmo"])
def test_every_kind_of_device_trains(preset):
    model = convert(network(), create_rpu_config(preset, tile_size=20))
    found = gradients(calibrate(model, [IMAGES]).train(), TrainingNoise(model, weights="chips"), 0)
    assert all(torch.isfinite(each).all() and each.abs().max() > 0 for each in found)


@pytest.mark.parametrize("kind", ["modifier", "chips"])
def test_a_draw_depends_on_seed_and_step_alone(kind):
    model = analog()

    def outputs(steps, **options):
        noise = TrainingNoise(model, weights=kind, **options)
        torch.randn(len(steps))  # whatever else was drawn
        return {step: output(model, noise, step) for step in steps}

    first, second = outputs([0, 1, 2]), outputs([2, 0])
    assert all(torch.equal(first[step], second[step]) for step in second)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], outputs([0], seed=1)[0])


@pytest.mark.parametrize("kind", ["modifier", "chips"])
def test_ranks_share_weights_and_not_the_noise_of_outputs(kind):
    model = analog()
    first, second = (TrainingNoise(model, weights=kind, rank=rank) for rank in (0, 1))
    for one, other in zip(*(disturbed_weights(model, n, 3) for n in (first, second)), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(output(model, first, 3), output(model, second, 3))


def test_batches_of_one_step_have_one_chip_and_modifiers_of_their_own():
    model = analog(out_noise=0.0)
    chips, modifiers = (TrainingNoise(model, weights=kind) for kind in ("chips", "modifier"))
    assert torch.equal(output(model, chips, 0, 0), output(model, chips, 0, 1))
    assert not torch.equal(output(model, modifiers, 0, 0), output(model, modifiers, 0, 1))
    noisy = analog()
    chips = TrainingNoise(noisy, weights="chips")
    assert not torch.equal(output(noisy, chips, 0, 0), output(noisy, chips, 0, 1))


def test_a_chip_may_serve_several_steps_whose_weights_it_follows():
    model = analog()
    noise = TrainingNoise(model, weights="chips", every=3)
    before = disturbed_weights(model, noise, 0)
    with torch.no_grad():
        for layer in (model[0], model[2], model[3]):
            largest = layer.weight.abs().amax()
            layer.weight.add_(torch.where(layer.weight.abs() < largest / 2, 0.01 * largest, 0.0))
    moved = disturbed_weights(model, noise, 2)
    for one, other, layer in zip(before, moved, (model[0], model[2], model[3]), strict=True):
        difference = other - one
        step = 0.01 * layer.weight.abs().amax()
        small = layer.weight_matrix().detach().abs() < layer.weight.abs().amax() / 2
        assert ((difference[small] - step).abs() < 1e-6).double().mean() > 0.9
    assert not torch.allclose(disturbed_weights(model, noise, 3)[0], moved[0], atol=1e-4)


def test_after_renew_the_next_step_is_as_after_a_resume():
    model = analog()
    noise = TrainingNoise(model, weights="chips", every=4)
    output(model, noise, 1)
    noise.renew()
    resumed = TrainingNoise(model, weights="chips", every=4)
    assert torch.equal(output(model, noise, 2), output(model, resumed, 2))


def test_torchs_generator_goes_on_as_if_nothing_had_been_drawn():
    model = analog()
    torch.manual_seed(4)
    expected = torch.randn(3)
    torch.manual_seed(4)
    output(model, TrainingNoise(model), 0)
    assert torch.equal(torch.randn(3), expected)


@pytest.mark.parametrize("kind", ["modifier", "chips"])
def test_the_weights_asked_for_and_the_state_dict_stay(kind):
    model = analog()
    before = copy.deepcopy(model.state_dict())
    noise = TrainingNoise(model, weights=kind)
    with noise.step(0):
        model(IMAGES).sum().backward()
        inside = model.state_dict()
    assert inside.keys() == before.keys()
    assert all(torch.equal(value, before[key]) for key, value in inside.items())
    assert all(layer.disturbance is None for layer in (model[0], model[2], model[3]))


def test_an_error_in_a_step_leaves_no_noise_behind():
    model = analog()
    noise = TrainingNoise(model, weights="chips")
    with pytest.raises(RuntimeError, match="expected"), noise.step(0):
        raise RuntimeError("expected")
    assert model[0].disturbance is None


def test_evaluation_inside_a_step_is_undisturbed():
    model = analog(**EXACT)
    with TrainingNoise(model, weights="chips").step(0):
        found = model.eval()(IMAGES)
    torch.testing.assert_close(found, network()(IMAGES), rtol=1e-4, atol=1e-5)


def test_digital_layers_are_left_alone():
    model = analog(digital=["2", "3"], **EXACT)
    noise = TrainingNoise(model, weights="chips")
    (weight,) = disturbed_weights(model, noise, 0)
    twin = network()
    twin[0].weight.data = weight.reshape(twin[0].weight.shape)
    torch.testing.assert_close(output(model, noise, 0), twin(IMAGES), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["modifier", "chips"])
def test_a_layer_used_twice_has_the_same_weights_in_both(kind):
    shared = nn.Linear(6, 6, bias=False)
    model = convert(nn.Sequential(shared, shared), create_rpu_config("pcm", **EXACT)).train()
    inputs = torch.randn(5, 6)
    with TrainingNoise(model, weights=kind).step(0):
        weight = effective(model[0])[0]
        found = model(inputs)
        found.sum().backward()
    torch.testing.assert_close(found.detach(), inputs @ weight.T @ weight.T)
    asked_for = weight.clone().requires_grad_()
    (inputs @ asked_for.T @ asked_for.T).sum().backward()
    torch.testing.assert_close(model[0].weight.grad, asked_for.grad)


def test_a_copy_made_within_a_step_computes_as_the_model():
    model = analog(out_noise=0.0)
    with TrainingNoise(model, weights="chips").step(0):
        twin = copy.deepcopy(model)
        assert torch.equal(twin(IMAGES), model(IMAGES))


@pytest.mark.parametrize("kind", ["modifier", "chips"])
def test_activation_checkpointing_computes_with_the_same_noise_again(kind):
    model = analog()
    noise = TrainingNoise(model, weights=kind)
    expected = gradients(model, noise, 7)
    inner = model.forward
    model.forward = lambda x: checkpoint(inner, x, use_reentrant=False)
    for one, other in zip(gradients(model, noise, 7), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.slow
def test_a_network_learns_on_a_new_chip_in_each_step():
    images = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    target = torch.cat([images.mean(1, keepdim=True) > 0] * 2, 1).float()
    target = target.repeat_interleave(2, 2).repeat_interleave(2, 3)
    model = analog()
    noise = TrainingNoise(model, weights="chips", ramp_steps=20)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    losses = []
    for step in range(60):
        with noise.step(step):
            loss = nn.functional.binary_cross_entropy_with_logits(model(images), target)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.7 * losses[0]


def test_settings_out_of_range_are_refused():
    for options, message in (
        ({"ages_s": (-1.0, 0.0)}, "ages_s must be two finite times"),
        ({"ages_s": (2.0, 1.0)}, r"smaller first, got \[2.0, 1.0\]"),
        ({"ages_s": (0.0, math.inf)}, "ages_s must be two finite times"),
        ({"ramp_steps": -1}, "ramp must take 0 steps or more, got -1"),
        ({"every": 0}, "chip serve 1 step or more, got 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            TrainingNoise(analog(), **options)
