"""Liquid neural networks with the wiring of neural circuit policies (NCP)."""

from typing import Any

import torch
from ncps.torch import LTCCell
from ncps.wirings import AutoNCP, Wiring
from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError
from analogmed.network.layers.digital_product import DigitalProduct
from analogmed.network.layers.masked import MaskedLinear

WIRING_SEED = 22222
"""Default seed of a wiring, that of ncps."""


def ncp_wiring(units: int, outputs: int, seed: int = WIRING_SEED) -> Wiring:
    """Return a sparse wiring of neurons in three layers: inter, command and motor neurons.

    Args:
        units: number of neurons.
        outputs: number of motor neurons, at most ``units - 3``.
        seed: random seed of the synapses.

    Raises:
        ConfigError: there are too few neurons for the outputs.

    Source: Lechner et al. 2020, doi:10.1038/s42256-020-00237-3; package ncps.
    """
    if outputs < 1 or units < outputs + 3:
        raise ConfigError(
            f"model.options.units: expected 3 or more than outputs ({outputs}), which is 1 or "
            f"more, got {units}"
        )
    return AutoNCP(units, outputs, seed=seed)


class CfCCell(nn.Module):
    """Closed-form continuous-time (CfC) cell with steps of one unit of time.

    h' = (1 - g) f1 + g f2 with f = tanh of a Linear layer, and g = sigmoid of the sum of two.

    Args:
        inputs: number of inputs.
        hidden: number of neurons.
        mask: 1 for a synapse, 0 for none, shape (hidden, inputs + hidden); all by default. It
            applies to f1 and f2.

    Source: Hasani et al. 2022, doi:10.1038/s42256-022-00556-7.
    """

    def __init__(self, inputs: int, hidden: int, mask: Tensor | None = None) -> None:
        super().__init__()
        mask = torch.ones(hidden, inputs + hidden) if mask is None else mask
        self.ff1, self.ff2 = MaskedLinear(mask), MaskedLinear(mask)
        self.time_a = nn.Linear(inputs + hidden, hidden)
        self.time_b = nn.Linear(inputs + hidden, hidden)
        for layer in (self.ff1, self.ff2, self.time_a, self.time_b):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, inputs: Tensor, hidden: Tensor) -> Tensor:
        """Return the next state (B, hidden) of inputs (B, inputs) and the present state."""
        joined = torch.cat([inputs, hidden], 1)
        first, second = self.ff1(joined).tanh(), self.ff2(joined).tanh()
        gate = (self.time_a(joined) + self.time_b(joined)).sigmoid()
        return first * (1 - gate) + gate * second


class WiredCfC(nn.Module):
    """CfC cells, one for each layer of neurons of a wiring.

    Args:
        inputs: number of features of a step.
        wiring: wiring of the neurons.
        every_step: whether to return the outputs after each step, in place of the last one.
    """

    def __init__(self, inputs: int, wiring: Wiring, *, every_step: bool = False) -> None:
        super().__init__()
        self.every_step = every_step
        wiring.build(inputs)
        masks = _masks(wiring)
        sizes = [mask.shape[0] for mask in masks]
        before = [inputs, *sizes]
        self.cells = nn.ModuleList(
            CfCCell(count, size, mask)
            for count, size, mask in zip(before[:-1], sizes, masks, strict=True)
        )
        self.sizes = sizes

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the motor neurons after the last step, (B, outputs), of (B, steps, inputs).

        With ``every_step``, those after each step, shape (B, steps, outputs).
        """
        states = [sequence.new_zeros(len(sequence), size) for size in self.sizes]
        after = []
        for inputs in sequence.unbind(1):
            for index, cell in enumerate(self.cells):
                states[index] = inputs = cell(inputs, states[index])
            after.append(states[-1])
        return torch.stack(after, 1) if self.every_step else after[-1]


def _masks(wiring: Wiring) -> list[Tensor]:
    """Return the synapses of each layer: from the layer before, or the inputs, and from itself."""
    masks = []
    synapses = wiring.sensory_adjacency_matrix
    for index in range(wiring.num_layers):
        neurons = wiring.get_neurons_of_layer(index)
        entering = torch.from_numpy(synapses[:, neurons]).abs().T
        masks.append(torch.cat([entering, torch.ones(len(neurons), len(neurons))], 1))
        synapses = wiring.adjacency_matrix[neurons]
    return masks


class WiredLTC(DigitalProduct):
    """Liquid time-constant (LTC) cell of ncps, which integrates six times per step.

    Args:
        inputs: number of features of a step.
        wiring: wiring of the neurons.
        every_step: whether to return the outputs after each step, in place of the last one.

    Source: Hasani et al. 2021, arXiv:2006.04439; package ncps.
    """

    reason = (
        "each synapse has its own nonlinearity, so that the synapses of a neuron have no common "
        "input"
    )

    def __init__(self, inputs: int, wiring: Wiring, *, every_step: bool = False) -> None:
        super().__init__()
        self.every_step = every_step
        self.cell = LTCCell(wiring, inputs, implicit_param_constraints=True)

    def forward(self, sequence: Tensor) -> Tensor:
        """Return the motor neurons as :class:`WiredCfC` does, of (B, steps, inputs)."""
        # ncps keeps the parameters in a second dictionary, which torch does not update
        self.cell._params = self.cell._parameters
        state = sequence.new_zeros(len(sequence), self.cell.state_size)
        after = []
        for inputs in sequence.unbind(1):
            outputs, state = self.cell(inputs, state)
            after.append(outputs)
        return torch.stack(after, 1) if self.every_step else after[-1]

    def count_macs(self, inputs: Tensor, output: Tensor) -> int:
        """Return three products (slope, weight, reversal potential) per synapse and update."""
        cell: Any = self.cell
        updates = cell.sensory_w.numel() + cell._ode_unfolds * cell.w.numel()
        return 3 * updates * inputs.shape[0] * inputs.shape[1]
