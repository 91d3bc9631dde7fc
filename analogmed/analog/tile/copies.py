"""Copies of a layer's weights on the rows of a tile that would be idle otherwise.

A layer with few inputs uses few rows of its tile. Its weights may be stored several times, one copy
below the other, with the same inputs on the rows of each copy. The sum of a column is then that
many times as large at the same output noise and the same step of the converter, and the errors of
the devices average over the copies. The digital scale divides by the number of copies. Sums reach
the converter's bound earlier.
"""

import copy
import math

from aihwkit.simulator.configs import TorchInferenceRPUConfig
from aihwkit.simulator.parameters.io import IOParameters
from torch import Tensor


def most_copies(config: TorchInferenceRPUConfig) -> int:
    """Return the largest number of copies of a configuration, 1 for one of aihwkit's own."""
    return getattr(config.mapping, "row_copies", 1)


def repeated(weight: Tensor, copies: int) -> Tensor:
    """Return the weights as they are stored, shape (..., copies * rows)."""
    return weight if copies == 1 else weight.repeat(*(1,) * (weight.ndim - 1), copies)


def mean_of_copies(weight: Tensor, copies: int) -> Tensor:
    """Return the mean of the copies of each weight, shape (..., rows)."""
    return weight if copies == 1 else weight.unflatten(-1, (copies, -1)).mean(-2)


def per_copy(io: IOParameters, copies: int) -> IOParameters:
    """Return converters, bounds and noise in units of the sum over one copy of the rows.

    Output noise, step and bound are the same in units of the whole sum, and so the number of copies
    times smaller in these units. Noise of the weights averages over the copies. The rows of all
    copies share an input converter, so that its noise does not.
    """
    if copies == 1:
        return io
    own = copy.deepcopy(io)
    own.out_noise /= copies
    own.out_bound /= copies
    own.w_noise /= math.sqrt(copies)
    return own
