"""Liquid networks, compared with ncps."""

import copy

import pytest
import torch
from ncps.torch import LTC, CfC
from ncps.wirings import AutoNCP

from analogmed.foundation.errors import ConfigError
from analogmed.models.sequences.liquid import CfCCell, WiredCfC, WiredLTC, ncp_wiring

INPUTS, UNITS, OUTPUTS = 5, 12, 4


def copy_cell(cell, theirs):
    with torch.no_grad():
        for name in ("ff1", "ff2", "time_a", "time_b"):
            ours, other = getattr(cell, name), getattr(theirs, name)
            ours.weight.copy_(other.weight)
            ours.bias.copy_(other.bias)


def test_a_cell_is_that_of_ncps():
    torch.manual_seed(0)
    theirs = CfC(INPUTS, UNITS, backbone_layers=0)
    cell = CfCCell(INPUTS, UNITS)
    copy_cell(cell, theirs.rnn_cell)
    sequence = torch.randn(3, 6, INPUTS)
    state = torch.zeros(3, UNITS)
    for inputs in sequence.unbind(1):
        state = cell(inputs, state)
    torch.testing.assert_close(state, theirs(sequence)[1], atol=1e-6, rtol=0)


def test_wired_cells_are_those_of_ncps():
    torch.manual_seed(0)
    theirs = CfC(INPUTS, AutoNCP(UNITS, OUTPUTS))
    ours = WiredCfC(INPUTS, ncp_wiring(UNITS, OUTPUTS))
    for index, cell in enumerate(ours.cells):
        other = getattr(theirs.rnn_cell, f"layer_{index}")
        copy_cell(cell, other)
        assert torch.equal(cell.ff1.mask, other.sparsity_mask > 0)
    assert 0 < sum(float(cell.ff1.mask.float().mean()) for cell in ours.cells) / 3 < 1
    sequence = torch.randn(3, 6, INPUTS)
    torch.testing.assert_close(ours(sequence), theirs(sequence)[0][:, -1], atol=1e-6, rtol=0)


def test_a_wired_layer_has_the_weights_of_its_formula():
    network = WiredCfC(64, ncp_wiring(48, 24))
    assert network.sizes == [15, 9, 24]
    before = (64, 15, 9)
    expected = sum(4 * h * (n + h + 1) for n, h in zip(before, network.sizes, strict=True))
    assert sum(p.numel() for p in network.parameters()) == expected == 8_964


def test_the_wiring_depends_on_its_seed_alone():
    masks = [WiredCfC(6, ncp_wiring(16, 4, seed)).cells[0].ff1.mask for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])


@pytest.mark.parametrize(("units", "outputs"), [(5, 3), (4, 0)])
def test_a_wiring_with_too_few_neurons_is_refused(units, outputs):
    with pytest.raises(ConfigError, match=r"model\.options\.units: expected 3 or more than"):
        ncp_wiring(units, outputs)


def test_a_liquid_time_constant_network_is_that_of_ncps():
    torch.manual_seed(0)
    ours = WiredLTC(INPUTS, ncp_wiring(UNITS, OUTPUTS))
    theirs = LTC(INPUTS, AutoNCP(UNITS, OUTPUTS))
    theirs.rnn_cell.load_state_dict(ours.cell.state_dict())
    sequence = torch.randn(2, 3, INPUTS)
    torch.testing.assert_close(ours(sequence), theirs(sequence)[0][:, -1], atol=1e-6, rtol=0)


def test_a_liquid_time_constant_network_has_the_weights_and_products_of_its_formula():
    inputs, units, outputs = 96, 32, 16
    network = WiredLTC(inputs, ncp_wiring(units, outputs))
    trainable = sum(p.numel() for p in network.parameters() if p.requires_grad)
    formula = 4 * inputs * units + 4 * units**2 + 3 * units + 2 * inputs + 2 * outputs
    assert trainable == formula == 16_704
    sequence = torch.zeros(2, 5, inputs)
    assert network.count_macs(sequence, sequence) == 2 * 5 * 3 * (inputs * units + 6 * units**2)


def test_a_wired_ltc_computes_with_the_weights_that_torch_replaces():
    torch.manual_seed(0)
    first, second = (WiredLTC(INPUTS, ncp_wiring(UNITS, OUTPUTS)) for _ in range(2))
    inputs = torch.randn(3, 6, INPUTS)
    expected = second(inputs)
    weights = {name: w.detach() for name, w in second.named_parameters()}
    assert not torch.equal(first(inputs), expected)
    assert torch.equal(torch.func.functional_call(first, weights, inputs), expected)
    first.load_state_dict(second.state_dict(), assign=True)
    assert torch.equal(first(inputs), expected)
    assert torch.equal(copy.deepcopy(first)(inputs), expected)
