"""Recurrent layers on tiles."""

import pytest
import torch
from aihwkit.nn import AnalogLSTMCell, AnalogRNN
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from analogmed.analog import Chip, calibrate, convert, coverage
from analogmed.analog.conversion import conversion_of
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.network.weights import load_weights, weights_of

SHAPE = (2, 4, 5)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory = nn.LSTM(5, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.memory(x)[0][:, -1])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Network().eval()


def test_all_weights_of_a_recurrent_layer_are_on_tiles(network):
    report = coverage(convert(network, "pcm"), SHAPE)
    assert report.analog_layers == ("memory.ih_l0", "memory.hh_l0", "head")
    assert (report.weight_share, report.mac_share, report.digital_layers) == (1.0, 1.0, {})


def test_ideal_tiles_give_the_results_of_torch(network):
    inputs = torch.randn(SHAPE)
    torch.testing.assert_close(
        convert(network, "ideal")(inputs), network(inputs), atol=1e-5, rtol=0
    )


def test_ideal_tiles_give_the_results_of_aihwkit():
    config = TorchInferenceRPUConfig()
    config.forward.is_perfect = True
    torch.manual_seed(0)
    theirs = AnalogRNN(AnalogLSTMCell, 5, 6, rpu_config=config).eval()
    cell = theirs.rnn.layers[0].cell
    plain = nn.LSTM(5, 6)
    with torch.no_grad():
        for name in ("ih", "hh"):
            weight, bias = getattr(cell, f"weight_{name}").get_weights()
            getattr(plain, f"weight_{name}_l0").copy_(weight)
            getattr(plain, f"bias_{name}_l0").copy_(bias)
    inputs = torch.randn(4, 2, 5)
    found = convert(plain, {"preset": "ideal"}, backend="torch")(inputs)[0]
    torch.testing.assert_close(found, theirs(inputs)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("digital", "listed"), [(["memory"], {"memory"}), (["*.hh_l0"], {"memory.hh_l0"})]
)
def test_a_layer_or_one_of_its_matrices_stays_digital(network, digital, listed):
    analog = convert(network, "pcm", digital_layers=digital)
    assert set(coverage(analog, SHAPE).digital_layers) == listed
    assert conversion_of(analog)["digital_layers"] == sorted(listed)
    inputs = torch.randn(SHAPE)
    torch.testing.assert_close(
        convert(network, "ideal", digital_layers=digital)(inputs),
        network(inputs),
        atol=1e-5,
        rtol=0,
    )


def test_an_unknown_matrix_is_refused_with_the_nearest_one(network):
    with pytest.raises(ConfigError, match=r"'memory\.hh_l1'; did you mean 'memory\.hh_l0'"):
        convert(network, "pcm", digital_layers=["memory.hh_l1"])


def test_every_step_draws_new_noise_and_a_chip_repeats_its_result(network):
    inputs = torch.ones(SHAPE)
    analog = convert(network, "pcm")
    calibrate(analog, [inputs])
    assert analog.memory.hh_l0.calibrated
    chip = Chip(analog, seed=0)
    products = []
    handle = analog.memory.ih_l0.register_forward_hook(lambda *args: products.append(args[2]))
    first = chip.at(0.0)(inputs)
    handle.remove()
    (product,) = products  # of all signals and steps, which have equal inputs
    assert len({tuple(each.tolist()) for each in product.flatten(0, 1)}) == 2 * 4
    assert torch.equal(first, Chip(analog, seed=0).at(0.0)(inputs))
    assert torch.equal(first[:1], Chip(analog, seed=0).at(0.0)(inputs[:1]))  # in any batch
    assert not torch.equal(first, chip.at(86_400.0)(inputs))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("gradients", [False, True])
def test_without_noise_a_sequence_gives_the_results_of_its_single_steps(kind, gradients):
    torch.manual_seed(0)
    layer = kind(5, 6, num_layers=2, batch_first=True)
    inputs = torch.randn(3, 4, 5)
    analog = calibrate(convert(layer.eval(), {"preset": "pcm", "out_noise": 0.0}), [inputs])
    expected, state = [], None
    with torch.set_grad_enabled(gradients):
        for step in inputs.split(1, 1):
            output, state = analog(step, state)
            expected.append(output)
        assert torch.equal(analog(inputs)[0], torch.cat(expected, 1))


def test_weights_of_the_analog_network_fit_the_plain_one(network):
    analog = convert(network, "pcm").train()
    optimizer = torch.optim.SGD(analog.parameters(), 0.1)
    analog(torch.randn(SHAPE)).square().sum().backward()
    optimizer.step()
    weights = {n: w for n, w in weights_of(analog).items() if not n.endswith("input_range")}
    other = Network().eval()
    load_weights(other, weights, "test")
    assert torch.equal(other.memory.weight_hh_l0, analog.memory.hh_l0.weight)
    assert not torch.equal(other.memory.weight_hh_l0, network.memory.weight_hh_l0)


def test_aihwkits_layers_compute_recurrent_layers_too(network):
    inputs = torch.randn(SHAPE)
    analog = convert(network, "ideal", backend="aihwkit")
    assert coverage(analog, SHAPE).weight_share == 1.0
    torch.testing.assert_close(analog(inputs), network(inputs), atol=1e-5, rtol=0)


def test_a_packed_sequence_ends_in_a_sentence_with_the_remedy():
    class Packed(Network):
        def forward(self, x):
            return self.head(self.memory(pack_sequence(list(x)))[1][0][0])

    network = Packed().eval()
    with pytest.raises(ShapeError, match=r"'memory' on tiles: .*digital_layers=\[\"memory\"\]"):
        coverage(convert(network, "pcm"), SHAPE)
    report = coverage(convert(network, "pcm", digital_layers=["memory"]), SHAPE)
    assert set(report.digital_layers) == {"memory"}


def test_a_forward_pass_may_read_weights_by_the_names_of_torch(network):
    class Reading(Network):
        def forward(self, x):
            return super().forward(x.to(self.memory.weight_ih_l0.dtype))

    inputs = torch.ones(SHAPE)
    reading = Reading().eval()
    reading.load_state_dict(network.state_dict())
    found = convert(reading, "ideal")(inputs)
    torch.testing.assert_close(found, network(inputs), atol=1e-5, rtol=0)
