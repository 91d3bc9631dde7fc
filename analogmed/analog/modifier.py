"""Weight noise of hardware-aware training."""

import torch
from aihwkit.simulator.parameters.enums import WeightModifierType
from aihwkit.simulator.parameters.inference import WeightModifierParameter
from torch import Tensor

from analogmed.analog.tile import quantise, step_size


def modify(
    weight: Tensor, cols: tuple[tuple[int, int], ...], modifier: WeightModifierParameter
) -> Tensor:
    """Disturb the weights of one row of tiles for one training step; gradients pass straight.

    Args:
        weight: mapped weights, shape (groups, columns, rows).
        cols: [start, stop) of each column tile.
        modifier: kind and size of the noise, as in aihwkit.
    """
    kind = modifier.type
    if kind in (WeightModifierType.NONE, WeightModifierType.COPY):
        return weight
    if kind is WeightModifierType.MULT_NORMAL:
        noise = modifier.std_dev * weight.detach() * torch.randn_like(weight)
        return weight + noise
    largest = _largest(weight.detach(), cols, modifier)
    if kind is WeightModifierType.ADD_NORMAL:
        return weight + modifier.std_dev * largest * torch.randn_like(weight)
    relative = weight / largest
    step = step_size(modifier.res, 1.0)
    return quantise(relative, step, modifier.sto_round) * largest


def _largest(
    weight: Tensor, cols: tuple[tuple[int, int], ...], modifier: WeightModifierParameter
) -> Tensor:
    if not modifier.rel_to_actual_wmax:
        return weight.new_tensor(modifier.assumed_wmax)
    largest = torch.ones_like(weight[:, :, :1])
    for start, stop in cols:
        largest[:, start:stop] = weight[:, start:stop].abs().amax((1, 2), keepdim=True)
    return torch.where(largest > 0, largest, torch.ones_like(largest))
