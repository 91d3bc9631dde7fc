import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from analogmed import create_rpu_config
from analogmed.analog import convert
from analogmed.foundation.errors import CheckpointError, ConfigError
from analogmed.models import build_model
from analogmed.training.optimise import WeightEma, accumulation, make_optimizer, schedule_factor
from analogmed.training.settings import OptimizerConfig


def names(model, optimizer, group):
    chosen = {id(p) for p in optimizer.param_groups[group]["params"]}
    return {name for name, p in model.named_parameters() if id(p) in chosen}


def last_names(model, optimizer, group):
    return {name.rpartition(".")[2] for name in names(model, optimizer, group)}


def test_only_weights_that_multiply_decay():
    torch.manual_seed(0)
    swin = build_model("swin_unetr", in_channels=1, out_channels=1, feature_size=12, window_size=2)
    hardware = create_rpu_config()
    hardware.mapping.learn_out_scaling = True
    hardware.mapping.out_scaling_columnwise = True
    analog = convert(swin, hardware)
    optimizer = make_optimizer(analog, OptimizerConfig(weight_decay=0.1))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert last_names(analog, optimizer, 0) == {"weight"}
    spared = {"weight", "bias", "input_range", "out_scale", "relative_position_bias_table"}
    assert last_names(analog, optimizer, 1) == spared
    assert not any("norm" in name for name in names(analog, optimizer, 0))
    together = names(analog, optimizer, 0) | names(analog, optimizer, 1)
    assert together == {name for name, _ in analog.named_parameters()}


@pytest.mark.parametrize("layer", [nn.LSTM(3, 4, 2, proj_size=2), nn.GRU(3, 4), nn.RNNCell(3, 4)])
def test_the_same_recurrent_weights_decay_digitally_and_on_tiles(layer):
    network = nn.ModuleDict({"net": layer})
    analog = convert(network, create_rpu_config())
    weights = {name for name, p in network.named_parameters() if p.ndim == 2}
    assert names(network, make_optimizer(network, OptimizerConfig()), 0) == weights
    decayed = names(analog, make_optimizer(analog, OptimizerConfig()), 0)
    assert len(decayed) == len(weights)
    assert all(name.endswith(".weight") for name in decayed)


def test_projections_of_attention_decay():
    attention = nn.MultiheadAttention(4, 2, kdim=3, vdim=3)
    decayed = names(attention, make_optimizer(attention, OptimizerConfig()), 0)
    projections = {f"{name}_proj_weight" for name in "qkv"}
    assert decayed == {*projections, "out_proj.weight"}


def test_parameters_that_do_not_learn_are_left_out():
    model = nn.Linear(2, 2)
    model.bias.requires_grad_(False)
    optimizer = make_optimizer(model, OptimizerConfig())
    assert names(model, optimizer, 0) | names(model, optimizer, 1) == {"weight"}
    with pytest.raises(ConfigError, match="no parameter that learns"):
        make_optimizer(model.requires_grad_(False), OptimizerConfig())


def test_a_step_of_adamw_is_that_of_its_paper():
    model = nn.Linear(1, 1)
    with torch.no_grad():
        model.weight.fill_(2.0)
        model.bias.fill_(2.0)
    optimizer = make_optimizer(model, OptimizerConfig(learning_rate=0.01, weight_decay=0.1))
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()  # the first step is the sign of the gradient, and decay apart from it
    torch.testing.assert_close(model.weight.item(), 2 - 0.01 * 0.1 * 2 - 0.01)
    torch.testing.assert_close(model.bias.item(), 2 - 0.01)


def test_steps_of_sgd_are_nesterovs():
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(2.0)
    config = OptimizerConfig("sgd", learning_rate=0.01, weight_decay=0.0)
    optimizer = make_optimizer(model, config)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.ones(1, 1)).sum().backward()  # gradient 1
        optimizer.step()
    # velocities 1 and 1.9; a step goes by gradient + 0.9 * velocity
    torch.testing.assert_close(model.weight.item(), 2 - 0.01 * (1.9 + (1 + 0.9 * 1.9)))


def test_optimizer_and_schedule_are_known_or_refused():
    with pytest.raises(ConfigError, match=r"adamw.*got .adam."):
        make_optimizer(nn.Linear(1, 1), OptimizerConfig(name="adam"))
    with pytest.raises(ConfigError, match=r"cosine.*got .cosin."):
        schedule_factor(OptimizerConfig(schedule="cosin"), 10)


@pytest.mark.parametrize("schedule", ["cosine", "polynomial", "constant"])
def test_learning_rate_rises_linearly_to_its_highest(schedule):
    factor = schedule_factor(OptimizerConfig(schedule=schedule, warm_up=0.04), 100)
    assert [factor(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_without_warm_up_the_first_step_has_the_highest_rate():
    assert schedule_factor(OptimizerConfig(warm_up=0.0), 10)(0) == 1.0


def test_cosine_is_torchs():
    factor = schedule_factor(OptimizerConfig(warm_up=0.0), 20)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20)
    for step in range(21):
        assert factor(step) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()


def test_polynomial_is_torchs():
    factor = schedule_factor(OptimizerConfig(schedule="polynomial", power=0.9, warm_up=0.0), 20)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=20, power=0.9)
    for step in range(21):
        assert factor(step) == pytest.approx(reference.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        reference.step()


def test_cosine_after_the_warm_up_covers_the_rest():
    factor = schedule_factor(OptimizerConfig(warm_up=0.2), 100)
    assert factor(60) == pytest.approx(0.5)  # half of the 80 steps after the first 20
    assert factor(40) == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)))


@pytest.mark.parametrize("schedule", ["cosine", "polynomial"])
def test_rate_is_zero_after_the_last_step_and_stays_there(schedule):
    factor = schedule_factor(OptimizerConfig(schedule=schedule), 10)
    assert factor(9) > 0
    assert factor(10) == factor(12) == pytest.approx(0)


def test_batches_of_a_step_share_its_mean_and_the_last_step_has_what_is_left():
    assert [accumulation(batch, 5, 2) for batch in range(5)] == [
        (0.5, False),
        (0.5, True),
        (0.5, False),
        (0.5, True),
        (1.0, True),
    ]
    assert [accumulation(batch, 2, 1) for batch in range(2)] == [(1.0, True), (1.0, True)]


def test_accumulated_gradients_are_those_of_the_whole_batch():
    torch.manual_seed(0)
    model, images = nn.Linear(3, 1), torch.randn(6, 3)
    (whole,) = torch.autograd.grad(model(images).square().mean(), model.weight)
    for batch, part in enumerate(images.split(2)):
        share, _ = accumulation(batch, 3, 3)
        (share * model(part).square().mean()).backward()
    torch.testing.assert_close(model.weight.grad, whole)


def drift(model):
    """A step of training: new weights, and new statistics of BatchNorm."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(4, 1, 16, 16))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return build_model("unet", in_channels=1, out_channels=1, features=2)


def test_average_is_torchs_where_its_decay_is_full_grown(network):
    average = WeightEma(network, 0.5)
    average.updates = 8  # (1 + 8) / (10 + 8) is the decay
    reference = AveragedModel(network, avg_fn=get_ema_avg_fn(0.5), use_buffers=True)
    reference.update_parameters(network)  # whose first update is a copy
    for _ in range(3):
        drift(network)
        average.update(network)
        reference.update_parameters(network)
    with average.averaged_weights(network):
        for own, theirs in zip(network.parameters(), reference.module.parameters(), strict=True):
            torch.testing.assert_close(own, theirs)
        expected = dict(reference.module.named_buffers())
        for name, own in network.named_buffers():
            if own.is_floating_point():
                torch.testing.assert_close(own, expected[name])


def test_decay_of_the_average_grows_with_the_updates():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = WeightEma(model, 0.99)
    nn.init.ones_(model.weight)
    expected = 0.0
    for n in range(4):
        average.update(model)
        decay = (1 + n) / (10 + n)
        expected = decay * expected + (1 - decay)
        with average.averaged_weights(model):
            torch.testing.assert_close(model.weight.item(), expected)


def test_model_has_its_own_weights_back_even_after_an_error(network):
    average = WeightEma(network, 0.9)
    drift(network)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(ZeroDivisionError), average.averaged_weights(network):
        assert not torch.equal(network.head.weight, own["head.weight"])
        1 / 0  # noqa: B018
    assert all(torch.equal(own[name], value) for name, value in network.state_dict().items())


def test_what_does_not_learn_keeps_what_it_is_given_while_weights_are_lent(network):
    network.head.bias.requires_grad_(False)
    average = WeightEma(network, 0.9)
    drift(network)
    with average.averaged_weights(network), torch.no_grad():
        network.head.bias.fill_(7.0)  # as calibration does with input ranges
    assert network.head.bias.item() == 7.0


def test_average_goes_on_from_its_state(network):
    torch.manual_seed(1)
    average = WeightEma(network, 0.9)
    drift(network)
    average.update(network)
    restored = WeightEma(network, 0.9)
    restored.load_state_dict({name: value.clone() for name, value in average.state_dict().items()})
    drift(network)
    for each in (average, restored):
        each.update(network)
    states = average.state_dict(), restored.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_state_of_another_network_is_refused(network):
    other = WeightEma(nn.Linear(1, 1), 0.9).state_dict()
    with pytest.raises(CheckpointError, match="another network"):
        WeightEma(network, 0.9).load_state_dict(other)


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_outside_its_range_is_refused(decay, network):
    with pytest.raises(ConfigError, match="decay"):
        WeightEma(network, decay)


def test_a_pruned_weight_decays_like_another():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 2))
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    parametrizations.orthogonal(model[1])
    decayed = names(model, make_optimizer(model, OptimizerConfig()), 0)
    assert decayed == {"0.weight_orig", "1.parametrizations.weight.original"}


def test_running_statistics_of_instance_norm_are_averaged_with_its_weights():
    """The first update has a decay of 1/10: 0.9 of the new values."""
    model = nn.InstanceNorm2d(2, track_running_stats=True, affine=True)
    average = WeightEma(model, 0.99)
    model.running_mean.fill_(1.0)
    average.update(model)
    with average.averaged_weights(model):
        torch.testing.assert_close(model.running_mean, torch.full((2,), 0.9))
    assert torch.equal(model.running_mean, torch.ones(2))
