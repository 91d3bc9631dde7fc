"""Copies of networks, including those whose weights are computed before each forward pass."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError


def copy_network(model: nn.Module, replaced: Mapping[int, Any] | None = None) -> nn.Module:
    """Return a deep copy of a network.

    torch cannot copy tensors that were computed with gradients. Pruning and the older norms
    (``torch.nn.utils.prune``, ``weight_norm``, ``spectral_norm``) leave such a tensor in place of a
    weight. The copy contains its values until its own hook recomputes them.

    Args:
        model: network to copy; it is left unchanged.
        replaced: replacements of objects of the network, by the ``id`` of the original object.

    Raises:
        ConfigError: the network contains an object that cannot be copied; the message names it.
    """
    memo: dict[int, Any] = {id(tensor): tensor.detach().clone() for tensor in _computed(model)}
    memo |= replaced or {}
    try:
        return copy.deepcopy(model, memo)
    except (RuntimeError, TypeError) as error:
        where = _not_copied(model) or type(model).__name__
        raise ConfigError(
            f"the network cannot be copied: {where}: {error}; detach it, or take it out of the "
            "network"
        ) from error


def _computed(model: nn.Module) -> list[Tensor]:
    values = (value for module in model.modules() for value in vars(module).values())
    return [value for value in values if isinstance(value, Tensor) and not value.is_leaf]


def _not_copied(model: nn.Module) -> str:
    """Return the first module attribute that cannot be copied, or an empty text without one."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key == "_modules" or (isinstance(value, Tensor) and not value.is_leaf):
                continue
            try:
                copy.deepcopy(value)
            except (RuntimeError, TypeError):
                return f"{key} of layer '{name}' ({type(module).__name__})"
    return ""
