"""Exact simplifications of a trained network: norms folded into convolutions, one input channel."""

from collections import Counter

import torch
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.padding import _ConstantPadNd, _ReflectionPadNd, _ReplicationPadNd
from torch.nn.utils.fusion import fuse_conv_bn_eval

from analogmed.foundation.errors import ConfigError
from analogmed.network.copy import copy_network
from analogmed.network.walk import replace_layers

_OF_EACH_CHANNEL = (nn.Identity, _ConstantPadNd, _ReflectionPadNd, _ReplicationPadNd)
"""Layers that compute the same of each image channel."""


def fold_norms(network: nn.Module) -> nn.Module:
    """Return a copy of a network with its norms folded into the convolutions before them.

    A batch norm with running statistics is folded if its input is the output of a convolution that
    is used by nothing else. The outputs in evaluation mode are those of the network up to rounding.
    On a chip they are not: the range of each column, and so its mapping, changes.

    Args:
        network: trained network; it is left unchanged.

    Returns:
        the network in evaluation mode; folded norms are ``nn.Identity``.

    Raises:
        ConfigError: the network cannot be traced by torch.fx.
    """
    model = copy_network(network).eval()
    pairs = _folded_pairs(model)
    layers = dict(model.named_modules())
    with torch.no_grad():
        fused = {
            convolution: fuse_conv_bn_eval(layers[convolution], layers[norm])
            for convolution, norm in pairs.items()
        }
    norms = {layers[norm] for norm in pairs.values()}
    twins = {layers[name]: layer for name, layer in fused.items()}
    return replace_layers(
        model,
        lambda _, layer: layer in twins or layer in norms,
        lambda _, layer: twins.get(layer) or nn.Identity(),
    ).eval()


def with_one_channel(network: nn.Module) -> nn.Module:
    """Return a copy of a network that takes one image channel in place of several equal ones.

    The kernels of the first convolution are summed over the image channels. The outputs are those
    of the network on images whose channels are all equal after normalisation, up to rounding.

    Args:
        network: network whose images, perhaps padded, are the input of one convolution only.

    Raises:
        ConfigError: the network cannot be traced by torch.fx, or its images have another use.
    """
    model = copy_network(network)
    graph, layers = traced(model), dict(model.named_modules())
    node = next(node for node in graph.nodes if node.op == "placeholder")
    first: nn.Module | None = nn.Identity()
    while isinstance(first, _OF_EACH_CHANNEL):
        users = list(node.users)
        is_called = len(users) == 1 and users[0].op == "call_module"
        first = layers[str(users[0].target)] if is_called else None
        node = users[0] if is_called else node
    if not _is_convolution(first) or count_calls(graph)[str(node.target)] > 1:
        raise ConfigError(
            f"{type(network).__name__}: expected images that are the input of one convolution, got "
            f"{', '.join(map(str, users)) or 'no use'}. Sum the kernels of your network by hand."
        )
    assert isinstance(first, _ConvNd)
    if first.groups > 1:
        raise ConfigError(
            f"{type(network).__name__}: the first convolution has {first.groups} groups; expected "
            "1, which reads all image channels"
        )
    one = copy_network(first)
    assert isinstance(one, _ConvNd)
    one.in_channels = 1
    one.weight = nn.Parameter(first.weight.detach().sum(dim=1, keepdim=True))
    return replace_layers(model, lambda _, layer: layer is first, lambda _, __: one)


def _folded_pairs(model: nn.Module) -> dict[str, str]:
    """Return the convolutions whose output only a batch norm reads, and these norms."""
    graph, layers = traced(model), dict(model.named_modules())
    calls = count_calls(graph)
    found: dict[str, str] = {}
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(source, fx.Node):
            continue
        name, norm = str(node.target), layers.get(str(node.target))
        before = str(source.target)
        is_pair = (
            isinstance(norm, _BatchNorm)
            and norm.running_mean is not None
            and source.op == "call_module"
            and _is_convolution(layers.get(before))
        )
        if is_pair and len(source.users) == 1 and calls[before] == calls[name] == 1:
            found[before] = name
    return found


def _is_convolution(layer: nn.Module | None) -> bool:
    return isinstance(layer, _ConvNd) and not isinstance(layer, _ConvTransposeNd)


def count_calls(graph: fx.Graph) -> Counter[str]:
    """Return how often each layer is called."""
    return Counter(str(node.target) for node in graph.nodes if node.op == "call_module")


def traced(model: nn.Module) -> fx.Graph:
    """Return the operations of a network in their order.

    Raises:
        ConfigError: the network cannot be traced by torch.fx.
    """
    try:
        return fx.symbolic_trace(model).graph
    except Exception as error:
        raise ConfigError(
            f"{type(model).__name__}: torch.fx cannot trace the network, so that the order of its "
            f"layers is unknown ({type(error).__name__}: {error})"
        ) from error
