"""Exact joining of parallel branches: layers that read the same tensor become one layer."""

import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, fx, nn

from analogmed.foundation.errors import ConfigError
from analogmed.models.classification.repacking import count_calls, traced
from analogmed.network.copy import copy_network
from analogmed.network.selection import STAYS_DIGITAL

_Layer: TypeAlias = Any
"""A convolution or a linear layer."""
_Node: TypeAlias = Any
"""A node of torch.fx."""
_ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")


class _Kernel(NamedTuple):
    """Kernel that contains those of all branches, along each axis."""

    size: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]


def join_branches(network: nn.Module, *, embed: bool = False) -> nn.Module:
    """Return a copy of a network in which parallel branches are one layer each.

    Branches are convolutions with one group, or linear layers, that read the same tensor and are
    called once. Two convolutions whose outputs are only added become one convolution: their kernels
    are added, and a smaller one is padded with zeros to the size of the larger one (as in RepVGG,
    Ding et al. 2021, arXiv:2101.03697). Other branches with equal kernel size, stride, padding and
    dilation become one layer that computes the channels of all of them; each reader takes its part.
    The outputs are those of the network up to rounding. On a chip they are not: one matrix is
    mapped in place of several.

    Norms between convolutions and an addition hinder it: fold them first, by ``fold_norms``.

    Args:
        network: network that torch.fx can trace; it is left unchanged.
        embed: whether kernels of different sizes are joined, too, where outputs are not added. A
            smaller kernel is padded with zeros, which take cells of a tile and have its noise.

    Returns:
        the network in evaluation mode. Joined layers have the name of the first branch, with the
        ending ``_joined``.

    Raises:
        ConfigError: the network cannot be traced by torch.fx, or has no such branches.
    """
    model = copy_network(network).eval()
    joiner = _Joiner(fx.GraphModule(model, traced(model)))
    while joiner.join_sum():
        pass
    for nodes in list(joiner.parallel()):
        joiner.join_parts(nodes, embed=embed)
    if not joiner.joined:
        raise ConfigError(
            f"{type(network).__name__}: no parallel branches to join; expected two or more "
            "convolutions or linear layers of one tensor, with the same stride and one group each"
            + ("" if embed else ", and with the same kernel size, padding and dilation")
            + ". Use the network as it is."
        )
    return joiner.result(type(network).__name__)


class _Joiner:
    def __init__(self, module: fx.GraphModule) -> None:
        self.joined = 0
        self._module, self._graph = module, module.graph
        self._layers: dict[str, _Layer] = dict(module.named_modules())
        self._calls = count_calls(self._graph)
        for node in list(self._graph.nodes):
            if node.op == "call_module" and isinstance(self._layers[node.target], nn.Identity):
                node.replace_all_uses_with(node.args[0])
                self._graph.erase_node(node)

    def result(self, name: str) -> nn.Module:
        """Return the module of the changed graph, without unused layers."""
        self._graph.lint()
        self._module.delete_all_unused_submodules()
        return fx.GraphModule(self._module, self._graph, class_name=name).eval()

    def join_sum(self) -> bool:
        """Join the first two branches that are only added, if there are any."""
        for node in self._graph.nodes:
            if node.target not in _ADDITIONS or len(node.args) != 2 or node.kwargs:
                continue
            first, second = node.args
            if not (self._is_branch(first) and self._is_branch(second)) or first is second:
                continue
            alone = len(first.users) == len(second.users) == 1
            layers = [self._layers[first.target], self._layers[second.target]]
            same_input = first.args[0] is second.args[0] and self._is_unchanged([first, second])
            kernel = _common_kernel(layers, embed=True)
            if alone and same_input and kernel and _outputs(layers[0]) == _outputs(layers[1]):
                weights = torch.stack([_embedded(layer, kernel) for layer in layers])
                bias = torch.stack([_bias(layer) for layer in layers]).sum(0)
                joined = self._insert([first, second], kernel, weights.sum(0), bias)
                node.replace_all_uses_with(joined)
                for old in (node, first, second):
                    self._graph.erase_node(old)
                return True
        return False

    def parallel(self) -> Iterator[list[_Node]]:
        """Yield the branches of each tensor that several of them read."""
        by_input: dict[_Node, list[_Node]] = {}
        for node in self._graph.nodes:
            if self._is_branch(node):
                by_input.setdefault(node.args[0], []).append(node)
        for nodes in by_input.values():
            if len(nodes) > 1 and self._is_unchanged(nodes):
                yield nodes

    def join_parts(self, nodes: list[_Node], *, embed: bool) -> None:
        """Join those of the branches of one tensor that fit each other."""
        while nodes:
            first, *others = nodes
            group, rest = [first], list[_Node]()
            for node in others:
                layers = [self._layers[each.target] for each in (*group, node)]
                (group if _common_kernel(layers, embed=embed) else rest).append(node)
            nodes = rest
            if len(group) > 1:
                self._join_group(group, embed)

    def _join_group(self, nodes: list[_Node], embed: bool) -> None:
        nodes = _in_order_of_concatenation(nodes)
        layers = [self._layers[node.target] for node in nodes]
        kernel = _common_kernel(layers, embed=embed)
        assert kernel is not None
        weight = torch.cat([_embedded(layer, kernel) for layer in layers])
        joined = self._insert(nodes, kernel, weight, torch.cat([_bias(layer) for layer in layers]))
        axis = -1 if isinstance(layers[0], nn.Linear) else 1
        start = 0
        with self._graph.inserting_after(joined):
            for node, layer in zip(nodes, layers, strict=True):
                part = (joined, axis, start, _outputs(layer))
                node.replace_all_uses_with(self._graph.call_function(torch.narrow, part))
                self._graph.erase_node(node)
                start += _outputs(layer)
        _join_concatenation(self._graph, joined, len(nodes))

    def _insert(
        self, nodes: Sequence[_Node], kernel: _Kernel, weight: Tensor, bias: Tensor
    ) -> _Node:
        """Insert the joined layer at the place of the first branch."""
        layers = [self._layers[node.target] for node in nodes]
        has_bias = any(layer.bias is not None for layer in layers)
        joined = _with_weight(layers, kernel, weight, bias if has_bias else None)
        first = min(nodes, key=list(self._graph.nodes).index)
        name = f"{first.target}_joined"
        self._module.add_submodule(name, joined)
        self._layers[name], self._calls[name] = joined, 1
        self.joined += 1
        with self._graph.inserting_before(first):
            return self._graph.call_module(name, (first.args[0],))

    def _is_branch(self, node: object) -> bool:
        if not isinstance(node, fx.Node) or node.op != "call_module" or node.kwargs:
            return False
        layer = self._layers[str(node.target)]
        return (
            type(layer) in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
            and getattr(layer, "groups", 1) == 1
            and self._calls[str(node.target)] == 1
            and not layer._forward_hooks
            and not layer._forward_pre_hooks
        )

    def _is_unchanged(self, nodes: Sequence[_Node]) -> bool:
        """Return whether no operation changes the common input of branches in place."""
        return not any(
            getattr(self._layers.get(str(user.target)), "inplace", False)
            or user.kwargs.get("inplace", False)
            or user.target is operator.iadd
            or (user.op == "call_method" and str(user.target).endswith("_"))
            for user in nodes[0].args[0].users
        )


def _common_kernel(layers: Sequence[_Layer], *, embed: bool) -> _Kernel | None:
    """Return the kernel that contains those of all layers; ``None`` if there is none."""
    first = layers[0]
    if len({type(layer) for layer in layers}) > 1:
        return None
    if len({bool(getattr(layer, STAYS_DIGITAL, False)) for layer in layers}) > 1:
        return None
    if isinstance(first, nn.Linear):
        return _Kernel((), (), ())
    known = [_padding(layer) for layer in layers]
    paddings = [padding for padding in known if padding is not None]
    if len({layer.stride for layer in layers}) > 1 or len(paddings) < len(layers):
        return None
    modes = {m.padding_mode for m, p in zip(layers, paddings, strict=True) if any(p)}
    if len(modes) > 1:
        return None
    axes = []
    for axis in range(len(first.kernel_size)):
        of_layers = [
            (layer.kernel_size[axis], padding[axis], layer.dilation[axis])
            for layer, padding in zip(layers, paddings, strict=True)
        ]
        found = _common_axis(of_layers, embed=embed)
        if found is None:
            return None
        axes.append(found)
    return _Kernel(*map(tuple, zip(*axes, strict=True)))


def _common_axis(
    of_layers: Sequence[tuple[int, int, int]], *, embed: bool
) -> tuple[int, int, int] | None:
    """Return size, padding and dilation along an axis that contain those of all layers.

    Outputs have equal sizes, and equal centres, if 2 x padding - dilation x (size - 1) is equal.
    """
    steps = {dilation for size, _, dilation in of_layers if size > 1} or {1}
    grown = {2 * padding - dilation * (size - 1) for size, padding, dilation in of_layers}
    most = max(padding for _, padding, _ in of_layers)
    step = max(steps)
    apart = [most - padding for _, padding, _ in of_layers]
    if len(steps) > 1 or len(grown) > 1 or any(distance % step for distance in apart):
        return None
    if not embed and (any(apart) or len({size for size, _, _ in of_layers}) > 1):
        return None
    return (2 * most - grown.pop()) // step + 1, most, step


def _padding(layer: _Layer) -> tuple[int, ...] | None:
    """Return the padding at each side; ``None`` where the sides differ."""
    if not isinstance(layer.padding, str):
        return tuple(layer.padding)
    if layer.padding == "valid":
        return (0,) * len(layer.kernel_size)
    both = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return None if any(each % 2 for each in both) else tuple(each // 2 for each in both)


def _embedded(layer: _Layer, kernel: _Kernel) -> Tensor:
    """Return the weights of a layer in the common kernel, (out, in, *kernel)."""
    weight = layer.weight.detach()
    if isinstance(layer, nn.Linear):
        return weight
    padding = _padding(layer)
    assert padding is not None
    embedded = weight.new_zeros((*weight.shape[:2], *kernel.size))
    place = tuple(
        slice((most - own) // step, (most - own) // step + size)
        for most, own, step, size in zip(
            kernel.padding, padding, kernel.dilation, layer.kernel_size, strict=True
        )
    )
    embedded[(..., *place)] = weight
    return embedded


def _bias(layer: _Layer) -> Tensor:
    """Return the bias of a layer, or zeros."""
    if layer.bias is None:
        return layer.weight.new_zeros(_outputs(layer)).detach()
    return layer.bias.detach()


def _outputs(layer: _Layer) -> int:
    """Return the number of output channels of a layer."""
    return int(layer.weight.shape[0])


def _with_weight(
    layers: Sequence[_Layer], kernel: _Kernel, weight: Tensor, bias: Tensor | None
) -> _Layer:
    """Return a layer like the branches, with other weights."""
    first = layers[0]
    joined: _Layer
    if isinstance(first, nn.Linear):
        joined = nn.Linear(first.in_features, len(weight), bias is not None)
    else:
        padded = [layer for layer in layers if any(_padding(layer) or ())]
        joined = type(first)(
            first.in_channels,
            len(weight),
            kernel.size,
            first.stride,
            kernel.padding,
            kernel.dilation,
            bias=bias is not None,
            padding_mode=(padded or layers)[0].padding_mode,
        )
    joined.weight = nn.Parameter(weight, requires_grad=first.weight.requires_grad)
    if bias is not None:
        joined.bias = nn.Parameter(bias, requires_grad=first.weight.requires_grad)
    if hasattr(first, STAYS_DIGITAL):
        setattr(joined, STAYS_DIGITAL, getattr(first, STAYS_DIGITAL))
    return joined


def _in_order_of_concatenation(nodes: list[_Node]) -> list[_Node]:
    """Return branches in the order in which one concatenation reads them, if it is their reader."""
    readers = {user for node in nodes for user in node.users}
    if len(readers) > 1 or not (reader := next(iter(readers))).args:
        return nodes
    listed = reader.args[0]
    if reader.target is not torch.cat or not set(nodes) <= set(listed):
        return nodes
    return sorted(nodes, key=list(listed).index)


def _join_concatenation(graph: fx.Graph, joined: _Node, number: int) -> None:
    """Let a concatenation of all parts of a layer, in their order, read the layer."""
    parts = sorted(joined.users, key=lambda node: node.args[2])
    readers = {user for part in parts for user in part.users}
    reader = next(iter(readers), None)
    if len(readers) != 1 or reader is None or reader.target is not torch.cat or not reader.args:
        return
    listed = list(reader.args[0])
    axis = reader.args[1] if len(reader.args) > 1 else reader.kwargs.get("dim", 0)
    start = listed.index(parts[0]) if parts[0] in listed else -1
    is_whole = len(parts) == number and listed[start : start + number] == parts
    if start < 0 or axis != parts[0].args[1] or not is_whole or len(set(listed)) < len(listed):
        return
    listed[start : start + number] = [joined]
    reader.args = (listed, *reader.args[1:])
    if len(listed) == 1:
        reader.replace_all_uses_with(joined)
        graph.erase_node(reader)
    for part in parts:
        graph.erase_node(part)
