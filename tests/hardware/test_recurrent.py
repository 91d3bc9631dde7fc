"""Tiles, time and energy of layers inside a recurrence."""

import pytest
import torch
from torch import nn

from analogmed.hardware import estimate, load_profile, map_tiles
from analogmed.network.layers.digital_product import DigitalProduct

STEPS, FEATURES, HIDDEN = 25, 5, 6
SHAPE = (1, STEPS, FEATURES)
PROFILE = load_profile("hermes-core")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.memory = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.head = nn.Linear(HIDDEN, 3)

    def forward(self, x):
        return self.head(self.memory(x)[0][:, -1])


class Convolutional(nn.Module):
    """A recurrence of a convolution over 40 positions."""

    def __init__(self):
        super().__init__()
        self.gates = nn.Conv1d(2, 1, 1)

    def forward(self, x):
        state = torch.zeros_like(x[:, 0])
        for step in range(x.shape[1]):
            state = self.gates(torch.stack([x[:, step], state], 1))[:, 0].tanh()
        return state


class Cumulated(DigitalProduct):
    reason = "it is a diagonal recurrence"

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(STEPS, FEATURES))

    def forward(self, x):
        return x * self.weight

    def count_macs(self, inputs, output):
        return 2 * output.numel()


def test_the_reuse_factor_of_a_recurrent_layer_is_its_number_of_steps():
    mapped = map_tiles(Recurrent(), SHAPE, 256)
    reuse = {layer.name: layer.reuse_factor for layer in mapped.layers}
    assert reuse == {"memory.ih_l0": STEPS, "memory.hh_l0": STEPS, "head": 1}
    macs = STEPS * 4 * HIDDEN * (FEATURES + HIDDEN) + 3 * HIDDEN
    assert mapped.summary()["macs"] == macs
    assert mapped.digital_layers == ()


def test_time_is_the_sum_over_steps_and_a_budget_replicates_only_products_of_known_inputs():
    mapped = map_tiles(Recurrent(), SHAPE, PROFILE.tile_size)
    alone = estimate(mapped, PROFILE)
    assert len(alone.stages) == 1 + STEPS + 1  # inputs of all steps, each state, head
    one = alone.stages[-1].time_s
    assert alone.latency_s == pytest.approx((2 * STEPS + 1) * one)
    budget = estimate(mapped, PROFILE, tile_budget=100)
    assert (budget.tiles, budget.latency_s) == (STEPS + 2, pytest.approx((STEPS + 2) * one))
    replicas = {stage.layer: stage.replicas for stage in budget.stages}
    assert replicas == {"memory.ih_l0": STEPS, "memory.hh_l0": 1, "head": 1}


def test_replicas_share_the_positions_of_one_step():
    mapped = map_tiles(Convolutional(), (1, 10, 40), PROFILE.tile_size)
    alone = estimate(mapped, PROFILE)
    budget = estimate(mapped, PROFILE, tile_budget=100)
    assert budget.tiles == 40  # 10 steps of 40 positions
    assert budget.latency_s == pytest.approx(alone.latency_s / 40)


@pytest.mark.parametrize("digital", [["memory"], ["*.hh_l0"]])
def test_multiply_accumulates_of_digital_matrices_count_all_steps(digital):
    mapped = map_tiles(Recurrent(), SHAPE, 256, digital_layers=digital)
    assert mapped.digital_macs["memory.hh_l0"] == STEPS * 4 * HIDDEN * HIDDEN
    assert set(mapped.digital_layers) == set(mapped.digital_macs)


def test_layers_that_declare_their_products_are_digital_with_their_macs():
    model = nn.Sequential(Cumulated(), nn.Linear(FEATURES, 2))
    mapped = map_tiles(model, SHAPE, PROFILE.tile_size)
    assert (mapped.digital_layers, mapped.digital_macs) == (("0",), {"0": 2 * STEPS * FEATURES})
    assert estimate(mapped, PROFILE).uncosted_layers == ("0",)
