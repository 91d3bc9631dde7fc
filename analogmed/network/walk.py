"""Walking through a network: exchange its layers, and look at it in evaluation mode."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from torch import nn

from analogmed.network.copy import copy_of


def replace_layers(
    model: nn.Module,
    wanted: Callable[[str, nn.Module], bool],
    twin_of: Callable[[str, nn.Module], nn.Module],
) -> nn.Module:
    """Return a network with some of its layers exchanged, which shares all other tensors.

    Every reference to a layer is exchanged: names, and entries of plain lists, dicts and
    attributes of objects. A layer used in several places gets one twin.

    Args:
        model: the network; it may itself be the layer to exchange.
        wanted: whether the layer of this name is to be exchanged.
        twin_of: from a layer's name and the layer to its twin.
    """
    twins: dict[nn.Module, nn.Module] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        if layer not in twins and wanted(name, layer):
            twins[layer] = twin_of(name, layer)
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy_of(model, shared | {id(layer): twin for layer, twin in twins.items()})


def own_attributes(layer: nn.Module) -> dict[str, Any]:
    """Return the attributes of a layer for its twin, with its own dictionaries of hooks."""
    return {
        name: copy.copy(value) if isinstance(value, dict) else value
        for name, value in vars(layer).items()
    }


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module is in the mode it had."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
