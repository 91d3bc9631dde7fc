"""Walking through a network: exchange its layers, and look at it in evaluation mode."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn


def replace_layers(
    model: nn.Module,
    wanted: Callable[[str, nn.Module], bool],
    twin_of: Callable[[str, nn.Module], nn.Module],
) -> nn.Module:
    """Exchange layers of a model in place; a layer used in several places gets one twin.

    Args:
        model: the network; it may itself be the layer to exchange.
        wanted: whether the layer of this name is to be exchanged.
        twin_of: from a layer's name and the layer to its twin.

    Returns:
        ``model``, or its twin.
    """
    twins: dict[nn.Module, nn.Module] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if not wanted(name, layer):
            continue
        if layer not in twins:
            twins[layer] = twin_of(name, layer)
        if not name:
            return twins[layer]
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, twins[layer])
    return model


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
