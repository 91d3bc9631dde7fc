"""Copies of networks, also of those whose weights are computed before each pass."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError


def copy_of(model: nn.Module, replaced: Mapping[int, Any] | None = None) -> nn.Module:
    """A deep copy of a network.

    torch copies no tensor that was computed with gradients. Pruning and the older norms
    (``torch.nn.utils.prune``, ``weight_norm``, ``spectral_norm``) leave such a one in the place of
    a weight; the copy has its values there, until its own hook computes them anew.

    Args:
        model: the network; it is left as it was.
        replaced: what shall stand in the copy for an object of the network, by the object's ``id``.

    Raises:
        ConfigError: the network holds something that cannot be copied; names it.
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
    """The first attribute of a module that cannot be copied; empty if it is none by itself."""
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key == "_modules" or (isinstance(value, Tensor) and not value.is_leaf):
                continue
            try:
                copy.deepcopy(value)
            except (RuntimeError, TypeError):
                return f"{key} of layer '{name}' ({type(module).__name__})"
    return ""
