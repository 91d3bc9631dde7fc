"""Replacement of layers of a network, and temporary hooks and evaluation mode."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from analogmed.network.copy import copy_network


def replace_layers(
    model: nn.Module,
    wanted: Callable[[str, nn.Module], bool],
    twin_of: Callable[[str, nn.Module], nn.Module],
) -> nn.Module:
    """Return a network with some layers replaced, which shares all other tensors.

    Every reference to a layer is replaced: names, and entries of plain lists, dicts and
    attributes of objects. A layer used in several places gets a single replacement.

    Args:
        model: network; it may itself be the layer to replace.
        wanted: predicate on name and layer that selects the layers to replace.
        twin_of: function from a layer's name and the layer to its replacement.
    """
    twins: dict[nn.Module, nn.Module] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        if layer not in twins and wanted(name, layer):
            twins[layer] = twin_of(name, layer)
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return copy_network(model, shared | {id(layer): twin for layer, twin in twins.items()})


def own_attributes(layer: nn.Module) -> dict[str, Any]:
    """Return the attributes of a layer for its replacement, with separate hook dictionaries."""
    return {
        name: copy.copy(value) if isinstance(value, dict) else value
        for name, value in vars(layer).items()
    }


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the block and restore the mode of every module afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks after the block, or if a later one cannot be registered.

    Args:
        handles: handles of the hooks; an iterator registers them as it yields them.
    """
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield
