"""Importance scores: contribution of each channel and block of a network to its output."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError, NonFiniteError
from analogmed.models.blocks import ChannelLinear
from analogmed.models.subnet import Subnet
from analogmed.network.layers.matrix import MAPPED, TRANSPOSED

PARTS = ("down", "up", "join")
"""Parts of a level: the encoder block, its upsampling partner, and the block that joins."""

_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    nn.GroupNorm,
)
_PASSED_ON = tuple(
    f"torch.nn.modules.{kind}" for kind in ("activation", "dropout", "pooling", "upsampling")
)


def importance_of_inputs(module: nn.Module, of_outputs: Tensor) -> Tensor:
    """Return the importance of the input channels of a layer, or of a sequence of layers.

    ``s_l = abs(W_{l+1}).T @ s_{l+1}``. For a convolution, W is the sum over its kernel; a
    transposed convolution has the transpose; a norm contributes its scale; activations, pooling and
    upsampling leave importance unchanged. Offsets are ignored.

    Args:
        module: a layer of these types, or an ``nn.Sequential`` of them.
        of_outputs: importance of the output channels, shape (C_out,).

    Returns:
        float64 tensor, shape (C_in,).

    Raises:
        ConfigError: there is no rule for a layer.
        NonFiniteError: a weight is NaN or infinite.

    Source: Yu et al. 2018, arXiv:1711.05908 (NISP).
    """
    if isinstance(module, nn.Sequential):
        for layer in reversed(module):
            of_outputs = importance_of_inputs(layer, of_outputs)
        return of_outputs
    if isinstance(module, ChannelLinear):
        return importance_of_inputs(module.linear, of_outputs)
    of_outputs = of_outputs.double()
    if isinstance(module, _NORMS):
        return of_outputs if module.weight is None else _absolute(module) * of_outputs
    if isinstance(module, MAPPED):
        matrices = _matrices(module)  # (groups, inputs of a group, outputs of a group)
        return (matrices @ of_outputs.view(len(matrices), -1, 1)).flatten()
    passes_on = isinstance(module, nn.Identity) or type(module).__module__ in _PASSED_ON
    if passes_on and not list(module.children()):
        return of_outputs
    raise ConfigError(f"importance: no rule is known for {module}")


def block_importance(network: Subnet) -> dict[tuple[int, str], Tensor]:
    """Return the importance of each output channel of the blocks of a network.

    The importance of the logits is 1. Channels that both the skip and the next level read have the
    sum of the two.

    Args:
        network: network of the search space, of any genotype.

    Returns:
        float64 tensor (C,) for each level, counted from the image, and part of it, as in
        :data:`PARTS`. The deepest level and those of a classification have ``down`` only.

    Raises:
        NonFiniteError: a weight is NaN or infinite.
    """
    levels = [dict(level.named_children()) for level in network.levels]
    logits = int(network.get_parameter("head.weight").shape[0])
    importance = importance_of_inputs(network.head, torch.ones(logits, dtype=torch.float64))
    found: dict[tuple[int, str], Tensor] = {}
    for number, level in enumerate(levels):  # the decoder, from the logits to the deepest level
        if "join" in level:
            found[number, "join"] = importance
            skip, up = _split(importance_of_inputs(level["join"], importance), network, number)
            found[number, "down"], found[number, "up"] = skip, up
            importance = importance_of_inputs(level["up"], up)
    for number in reversed(range(len(levels))):  # the encoder, from the deepest level to the image
        skip = found.get((number, "down"), torch.zeros_like(importance))
        found[number, "down"] = skip + importance
        importance = importance_of_inputs(levels[number]["down"], found[number, "down"])
    return found


def mean_of_level(importance: Mapping[tuple[int, str], Tensor], level: int) -> float:
    """Return the importance of a level's block: the mean over all output channels of its parts.

    Args:
        importance: importance, as :func:`block_importance` returns it.
        level: level, counted from the image.
    """
    found = [importance[level, part] for part in PARTS if (level, part) in importance]
    return float(torch.cat(found).mean())


def scaled_weights(network: Subnet, level: int) -> list[Tensor]:
    """Return the weights of a level's block, each times the importance of the channel it feeds.

    Args:
        network: network of any genotype.
        level: level, counted from the image.

    Returns:
        float64 tensors of the shapes of the weights, layer by layer; empty for a block without.
    """
    found = block_importance(network)
    modules = dict(network.levels[level].named_children())
    return [
        scaled
        for part in PARTS
        if (level, part) in found
        for scaled in _scaled(modules[part], found[level, part])
    ]


def _scaled(module: nn.Module, of_outputs: Tensor) -> list[Tensor]:
    if isinstance(module, ChannelLinear):
        return _scaled(module.linear, of_outputs)
    if isinstance(module, nn.Sequential):
        scaled: list[Tensor] = []
        for layer in reversed(module):
            scaled = _scaled(layer, of_outputs) + scaled
            of_outputs = importance_of_inputs(layer, of_outputs)
        return scaled
    if not isinstance(module, MAPPED):
        return []
    weight = module.weight.detach().double()
    out_axis = 1 if isinstance(module, TRANSPOSED) else 0
    return [weight * of_outputs.view(-1, *(1,) * (weight.ndim - 1 - out_axis))]


def _split(joined: Tensor, network: Subnet, number: int) -> tuple[Tensor, Tensor]:
    """Return the skip and the upsampled channels of the input of a joining block."""
    channels = int(network.levels[number].down_channels)  # type: ignore[arg-type]
    return joined[:channels], joined[channels:]


def _matrices(layer: nn.Module) -> Tensor:
    """Return absolute weights summed over the kernel.

    The shape is (groups, inputs of a group, outputs of a group).
    """
    summed = _absolute(layer)
    summed = summed.flatten(2).sum(2) if summed.ndim > 2 else summed
    matrices = summed.unflatten(0, (int(getattr(layer, "groups", 1)), -1))
    return matrices if isinstance(layer, TRANSPOSED) else matrices.mT


def _absolute(layer: nn.Module) -> Tensor:
    weight = layer.get_parameter("weight").detach()
    if not bool(torch.isfinite(weight).all()):
        raise NonFiniteError(f"importance: weights of {layer} are NaN or infinite")
    return weight.double().abs()
