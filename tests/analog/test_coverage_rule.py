"""Every trainable parameter of two or more dimensions is on tiles, or listed with a reason."""

import pytest
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP
from torch import nn

from analogmed.analog import convert, coverage
from analogmed.models.sequences.liquid import WiredLTC, ncp_wiring
from analogmed.network.layers.digital_product import DigitalProduct

SHAPE = (1, 5, 6)


class Sequence(nn.Module):
    """A recurrent network of sequences (B, steps, 6), with a Linear layer on its last step."""

    def __init__(self, recurrent, outputs):
        super().__init__()
        self.recurrent, self.head = recurrent, nn.Linear(outputs, 3)

    def forward(self, x):
        return self.head(self.recurrent(x)[0][:, -1])


class Diagonal(DigitalProduct):
    """A weight for each feature and step."""

    reason = "its matrix is diagonal"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(5, 6))

    def forward(self, x):
        return x * self.weight

    def count_macs(self, inputs, output):
        return output.numel()


class Tables(nn.Module):
    """Parameters that enter no product of a matrix, one in a product, and one without a use."""

    def __init__(self):
        super().__init__()
        self.added = nn.Parameter(torch.randn(5, 6))
        self.scale, self.start = nn.Parameter(torch.randn(1, 1, 6)), nn.Parameter(torch.randn(2, 6))
        self.gates = nn.Parameter(torch.randn(5, 6))
        self.unused = nn.Parameter(torch.randn(2, 2))
        self.norm, self.linear = nn.LayerNorm((5, 6)), nn.Linear(6, 6)

    def forward(self, x):
        x = self.norm(self.scale * (x + self.added) * self.gates.sigmoid())
        return self.linear(x) + self.linear(self.start).sum()


def recurrent(name):
    if name == "lstm":
        return Sequence(nn.LSTM(6, 8, batch_first=True), 8)
    if name == "cfc":
        return Sequence(CfC(6, 8), 8)
    kind = CfC if name == "wired_cfc" else LTC
    return Sequence(kind(6, AutoNCP(12, 4)), 4)


NETWORKS = {
    "lstm": (lambda: recurrent("lstm"), SHAPE),
    "cfc": (lambda: recurrent("cfc"), SHAPE),
    "wired_cfc": (lambda: recurrent("wired_cfc"), SHAPE),
    "ltc": (lambda: recurrent("ltc"), SHAPE),
    "tables": (Tables, SHAPE),
    "diagonal": (lambda: nn.Sequential(Diagonal(), nn.Linear(6, 2)), SHAPE),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 5, 8)),
}


def owned(model, layers):
    """Return the parameters of these layers, by identity."""
    return {id(p) for name in layers for p in model.get_submodule(name).parameters()}


@pytest.mark.parametrize("name", NETWORKS)
def test_all_matrices_of_parameters_are_listed_and_the_listed_layers_are_called(name):
    build, shape = NETWORKS[name]
    analog = convert(build(), "pcm", backend="torch").eval()
    report = coverage(analog, shape)
    calls = dict.fromkeys((*report.analog_layers, *report.uncalled_layers), 0)

    def counting(layer):
        def count(*_):
            calls[layer] += 1

        return count

    for layer in calls:
        analog.get_submodule(layer).register_forward_hook(counting(layer))
    with torch.no_grad():
        analog(torch.zeros(shape))
    assert sum(count > 0 for count in calls.values()) == len(report.analog_layers)
    assert {layer for layer, count in calls.items() if count} == set(report.analog_layers)
    layers = (*report.analog_layers, *report.uncalled_layers, *report.digital_layers)
    named = (*report.digital_products, *report.elementwise, *report.unused)
    listed = owned(analog, layers) | {id(analog.get_parameter(each)) for each in named}
    trainable = {id(p): n for n, p in analog.named_parameters() if p.requires_grad and p.ndim >= 2}
    assert {n for p, n in trainable.items() if p not in listed} == set()


def test_weights_of_a_wired_cell_that_functions_multiply_are_digital_and_its_masks_are_no_weights():
    report = coverage(convert(recurrent("wired_cfc"), "pcm", backend="torch"), SHAPE)
    functional = {f"recurrent.rnn_cell.layer_{i}.ff{j}.weight" for i in range(3) for j in (1, 2)}
    assert set(report.digital_products) == functional
    assert 0 < report.weight_share < 0.6


def test_synapses_of_a_liquid_network_are_digital():
    report = coverage(convert(recurrent("ltc"), "pcm", backend="torch"), SHAPE)
    cell = "recurrent.rnn_cell."
    synapses = {cell + name for name in ("w", "erev", "sigma")}
    synapses |= {cell + "sensory_" + name for name in ("w", "erev", "sigma")}
    assert set(report.digital_products) == synapses
    assert "element by element" in report.digital_products[cell + "w"]
    assert set(report.elementwise) == {cell + "mu", cell + "sensory_mu"}  # subtracted
    weights = 3 * (12 * 12 + 6 * 12)
    assert report.weight_share == pytest.approx(12 / (12 + weights))
    synapse_products = 3 * (5 * 6 * 12 + 5 * 6 * 12 * 12)  # 5 steps of 6 updates; inputs once
    assert report.mac_share == pytest.approx(12 / (12 + synapse_products), rel=0.2)


def test_tables_and_vectors_are_elementwise_and_an_unused_matrix_is_named():
    report = coverage(convert(Tables(), "pcm", backend="torch"), SHAPE)
    assert set(report.elementwise) == {"added", "scale", "start", "norm.weight", "norm.bias"}
    assert set(report.digital_products) == {"gates"}
    assert report.unused == ("unused",)
    assert "unused is never used" in report.warnings
    assert report.weight_share == pytest.approx(36 / (36 + 30))
    assert report.mac_share == pytest.approx(7 * 36 / (7 * 36 + 30))


def test_a_parameter_that_a_layer_takes_by_keyword_is_used():
    class Ended(nn.Module):
        def __init__(self):
            super().__init__()
            self.steps, self.last = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, 2)
            self.first = nn.Parameter(torch.ones(2, 8))

        def forward(self, x):
            hidden, cell = self.first[:, None, None].expand(2, 1, len(x), 8)
            return self.last(self.steps(x, hx=(hidden.contiguous(), cell.contiguous()))[0])

    report = coverage(convert(Ended(), "pcm", digital_layers=("steps",), backend="torch"), SHAPE)
    assert (report.elementwise, report.unused) == (("first",), ())


def test_a_layer_that_declares_its_products_is_listed_with_its_reason_and_macs():
    report = coverage(
        convert(nn.Sequential(Diagonal(), nn.Linear(6, 2)), "pcm", backend="torch"), SHAPE
    )
    assert report.digital_layers == {"0": "its matrix is diagonal"}
    assert report.weight_share == pytest.approx(12 / 42)
    assert report.mac_share == pytest.approx(60 / 90)


def test_frozen_masks_of_a_layer_with_its_own_products_are_no_weights():
    class Wired(nn.Sequential):
        def forward(self, x):
            return super().forward(x.unsqueeze(1))

    network = Wired(WiredLTC(6, ncp_wiring(12, 4)), nn.Linear(4, 2))
    report = coverage(convert(network, "pcm", backend="torch"), (1, 6))
    trained = 4 * (12 * 12 + 6 * 12)  # weight, slope, offset and reversal potential of each synapse
    assert report.weight_share == pytest.approx(8 / (8 + trained))


class OfTwoInputs(Tables):
    def forward(self, x, others):
        return super().forward(x) + others


def test_without_a_forward_pass_all_matrices_outside_layers_count_as_digital():
    report = coverage(convert(OfTwoInputs(), "pcm", backend="torch"))
    matrices = {"added", "start", "gates", "unused", "norm.weight", "norm.bias"}
    assert set(report.digital_products) == matrices
    assert "not determined" in report.digital_products["gates"]
    assert (report.analog_layers, report.elementwise) == (("linear",), ("scale",))
