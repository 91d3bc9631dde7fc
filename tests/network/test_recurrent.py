"""Recurrent layers of torch as Linear layers."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence
from torch.utils._pytree import tree_leaves

from analogmed.foundation.errors import ShapeError
from analogmed.network.recurrent import unroll_recurrent
from analogmed.network.selection import digital_reason

INPUT, HIDDEN, STEPS, BATCH = 5, 6, 4, 3
LAYERS = [
    *((kind, {}) for kind in (nn.LSTM, nn.GRU, nn.RNN)),
    *((kind, {"num_layers": 2, "bidirectional": True}) for kind in (nn.LSTM, nn.GRU, nn.RNN)),
    *((kind, {"batch_first": True, "bias": False}) for kind in (nn.LSTM, nn.GRU, nn.RNN)),
    (nn.RNN, {"nonlinearity": "relu"}),
]
CELLS = [(kind, {}) for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)]


def layer_of(kind, options):
    torch.manual_seed(0)
    return kind(INPUT, HIDDEN, **options)


def assert_close(found, expected):
    for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def first_state(layer, kind, expected):
    """Return a random state with the shapes of the state that a layer returns."""
    state = expected if kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell) else expected[1]
    leaves = [torch.randn(leaf.shape) for leaf in tree_leaves(state)]
    return leaves[0] if len(leaves) == 1 else tuple(leaves)


@pytest.mark.parametrize(("kind", "options"), LAYERS + CELLS)
def test_outputs_states_and_gradients_are_those_of_torch(kind, options):
    layer = layer_of(kind, options)
    unrolled = unroll_recurrent(layer)
    cell = (kind, options) in CELLS
    for shape in ([BATCH, INPUT], [INPUT]) if cell else ([STEPS, BATCH, INPUT], [STEPS, INPUT]):
        inputs = torch.randn(shape)
        expected = layer(inputs)
        assert_close(unrolled(inputs), expected)
        state = first_state(layer, kind, expected)
        assert_close(unrolled(inputs, state), layer(inputs, state))
    gradients = []
    for each in (layer, unrolled):
        layer.zero_grad()
        sum(leaf.square().sum() for leaf in tree_leaves(each(inputs, state))).backward()
        gradients.append({name: p.grad.clone() for name, p in layer.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:LSTM with projections")
def test_a_projection_is_a_linear_layer_too():
    layer = layer_of(nn.LSTM, {"proj_size": 2, "num_layers": 2, "bidirectional": True})
    unrolled = unroll_recurrent(layer)
    inputs = torch.randn(STEPS, BATCH, INPUT)
    expected = layer(inputs)
    assert_close(unrolled(inputs), expected)
    state = tuple(torch.randn(part.shape) for part in expected[1])
    assert_close(unrolled(inputs, state), layer(inputs, state))
    assert unrolled.hr_l1_reverse.weight is layer.weight_hr_l1_reverse


def test_dropout_between_layers_is_that_of_torch():
    layer = layer_of(nn.GRU, {"num_layers": 2, "dropout": 0.5})
    unrolled = unroll_recurrent(layer)
    inputs = torch.randn(STEPS, BATCH, INPUT)
    torch.manual_seed(1)
    expected = layer(inputs)
    torch.manual_seed(1)
    assert_close(unrolled(inputs), expected)
    assert_close(unrolled.eval()(inputs), layer.eval()(inputs))


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory = nn.LSTM(INPUT, HIDDEN, num_layers=2, batch_first=True)
        self.cell = nn.GRUCell(HIDDEN, 4)

    def forward(self, x):
        self.memory.flatten_parameters()
        return self.cell(self.memory(x)[0][:, -1])


def test_weights_have_the_names_of_torch_in_the_state_dict():
    network = Network()
    unrolled = copy.deepcopy(unroll_recurrent(network))
    state = network.state_dict()
    assert unrolled.state_dict().keys() == state.keys()
    other = {name: torch.randn(weight.shape) for name, weight in state.items()}
    unrolled.load_state_dict(other)
    assert all(torch.equal(unrolled.state_dict()[name], other[name]) for name in other)
    assert torch.equal(unrolled.memory.hh_l1.weight, other["memory.weight_hh_l1"])
    network.load_state_dict(unrolled.state_dict())
    assert_close(unrolled(torch.ones(2, 3, INPUT)), network(torch.ones(2, 3, INPUT)))
    unfit = {**other, "memory.weight_hh_l2": torch.ones(2)}
    unfit.pop("cell.bias_ih")
    with pytest.raises(RuntimeError, match=r"(?s)Missing.*cell\.ih\.bias.*Unexpected.*hh_l2"):
        unrolled.load_state_dict(unfit)


def test_the_matrix_of_the_state_is_called_once_per_step_and_the_network_is_left_unchanged():
    network, calls = Network(), []
    unrolled = unroll_recurrent(network)
    for name, layer in unrolled.named_modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda *_, name=name: calls.append(name))
    unrolled(torch.ones(2, 3, INPUT))
    of_layers = {
        f"memory.{kind}_l{layer}": n for kind, n in (("ih", 1), ("hh", 3)) for layer in (0, 1)
    }
    assert {name: calls.count(name) for name in calls} == of_layers | {"cell.ih": 1, "cell.hh": 1}
    assert type(network.memory) is nn.LSTM


def test_named_layers_and_others_than_those_of_torch_stay():
    class Own(nn.LSTM):
        def forward(self, input, hx=None):
            return super().forward(input + 1, hx)

    class Started(nn.GRUCell):
        def start(self, x):
            return x.new_zeros(len(x), self.hidden_size)

    network = nn.ModuleDict(
        {"own": Own(2, 2), "named": nn.GRU(2, 2), "more": Started(2, 2), "last": nn.GRU(2, 2)}
    )
    unrolled = unroll_recurrent(network, ("named",))
    kinds = [type(layer).__name__ for layer in unrolled.values()]
    assert kinds == ["Own", "GRU", "Started", "UnrolledLayer"]
    assert digital_reason("more", network["more"]).startswith("Started is a subclass of nn.GRUCell")


def test_packed_sequences_are_refused():
    unrolled = unroll_recurrent(layer_of(nn.LSTM, {}))
    packed = pack_sequence([torch.ones(3, INPUT), torch.ones(2, INPUT)])
    with pytest.raises(ShapeError, match=r"got a packed sequence.*digital_layers=\[\"\*\"\]"):
        unrolled(packed)


@pytest.mark.parametrize(("kind", "options"), LAYERS + CELLS)
def test_parameters_have_the_names_of_torch_as_attributes(kind, options):
    layer = layer_of(kind, options)
    unrolled = copy.copy(unroll_recurrent(layer))
    for name, weight in layer.named_parameters():
        assert getattr(unrolled, name) is weight
    with pytest.raises(AttributeError, match="weight_ih_l7"):
        _ = unrolled.weight_ih_l7


def test_a_first_state_of_another_shape_is_refused_as_torch_does():
    layer = layer_of(nn.GRU, {"num_layers": 2})
    cell = layer_of(nn.LSTMCell, {})
    row = torch.ones(BATCH, HIDDEN)
    for each, inputs, state in (
        (layer, torch.ones(STEPS, BATCH, INPUT), torch.ones(3, BATCH, HIDDEN)),
        (layer, torch.ones(STEPS, BATCH, INPUT), torch.ones(2, 1, HIDDEN)),
        (layer, torch.ones(STEPS, INPUT), torch.ones(2, 1, HIDDEN)),
        (cell, torch.ones(BATCH, INPUT), (torch.ones(1, HIDDEN), row)),
        (cell, torch.ones(BATCH, INPUT), (row, torch.ones(BATCH, 1))),
    ):
        with pytest.raises((RuntimeError, ValueError)):
            each(inputs, state)
        with pytest.raises(ShapeError, match=r"hx of recurrent layer .* expected a first state of"):
            unroll_recurrent(each)(inputs, state)


def test_full_backward_hooks_are_called():
    layer, seen = layer_of(nn.LSTM, {}), []
    layer.register_full_backward_hook(lambda *args: seen.append(len(args)))
    inputs = torch.ones(STEPS, BATCH, INPUT, requires_grad=True)
    unroll_recurrent(layer)(inputs)[0].sum().backward()
    assert seen == [3]
