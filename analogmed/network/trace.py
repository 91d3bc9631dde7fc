"""Execution trace of a network for one input: layer calls in order, and skip connections."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.network.copy import copy_network
from analogmed.network.layers.digital_product import DigitalProduct
from analogmed.network.layers.matrix import count_macs, count_vectors
from analogmed.network.seeding import seeded


@dataclass(frozen=True)
class Call:
    """One call of a layer.

    Attributes:
        layer: name of the layer.
        vectors: number of MVMs, see :func:`analogmed.network.layers.matrix.count_vectors`; 0 for a
            layer that computes no product of a matrix.
        macs: number of multiply-accumulates.
    """

    layer: str
    vectors: int
    macs: int


@dataclass(frozen=True)
class Skip:
    """A feature map that is still needed after the layer that follows its producer.

    Attributes:
        born: index of the call that produced it; -1 for the input of the network.
        read: index of the last call during or after which it is read, ``born + 2`` or more.
        elements: number of elements.
    """

    born: int
    read: int
    elements: int


@dataclass(frozen=True)
class Trace:
    """Calls of the traced layers in order, and the skips between them."""

    calls: tuple[Call, ...]
    skips: tuple[Skip, ...]


def trace(model: nn.Module, names: Iterable[str], input_shape: Sequence[int]) -> Trace:
    """Run a copy of a network once and record the calls of some of its layers.

    The copy runs on torch's meta device, which computes shapes without allocating memory, but takes
    milliseconds per function. A network that does not support this, or a small one on a small
    input, which may have thousands of steps, runs on zeros on its own device.

    Args:
        model: network to trace; it is left unchanged.
        names: names of the convolutions, transposed convolutions, Linear layers and digital
            products to record.
        input_shape: shape of the input, (1, C, *spatial).

    Raises:
        ConfigError: ``input_shape`` is not the shape of a single input.
        ShapeError: the network fails on an input of this shape.
    """
    shape = tuple(input_shape)
    if len(shape) < 2 or shape[0] != 1 or min(shape) < 1:
        raise ConfigError(
            f"input_shape: expected that of one input with its batch axis, such as (1, C, H, W), "
            f"found {shape}"
        )
    names = tuple(names)
    if not _is_small(model, shape):
        try:
            return _run(_meta_copy(model), names, shape)
        except Exception:
            pass  # the meta device is not always supported; real errors occur again on zeros
    try:
        return _run(copy_network(model), names, shape)
    except Exception as error:
        raise ShapeError(
            f"{type(model).__name__} cannot be run on an input of shape {shape}: {error}"
        ) from error


_SMALL_INPUT, _SMALL_NETWORK = 2**16, 2**20
"""Numbers of values up to which a network runs on zeros at once."""


def _is_small(model: nn.Module, shape: tuple[int, ...]) -> bool:
    parameters = [parameter for parameter in model.parameters() if not is_lazy(parameter)]
    weights = sum(parameter.numel() for parameter in parameters)
    return math.prod(shape) <= _SMALL_INPUT and weights <= _SMALL_NETWORK


def _meta_copy(model: nn.Module) -> nn.Module:
    weights = {id(p): nn.Parameter(_on_meta(p), p.requires_grad) for p in model.parameters()}
    buffers = {id(buffer): _on_meta(buffer) for buffer in model.buffers()}
    return copy_network(model, {**weights, **buffers})


def _on_meta(tensor: Tensor) -> Tensor:
    return torch.empty_like(tensor, device="meta", requires_grad=False)


def _run(model: nn.Module, names: tuple[str, ...], shape: tuple[int, ...]) -> Trace:
    calls: list[Call | None] = []  # in order of their start, as in the lifetimes
    entered: list[int] = []
    lifetimes = _Lifetimes()

    def entering(_layer: nn.Module, _inputs: tuple[Any, ...]) -> None:
        lifetimes.call += 1
        entered.append(len(calls))
        calls.append(None)

    def counting(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            result = output[0] if isinstance(output, tuple) else output
            vectors = 0
            if not isinstance(layer, DigitalProduct):
                vectors = count_vectors(layer, inputs[0], result)
            calls[entered.pop()] = Call(name, vectors, count_macs(layer, inputs[0], result))

        return count

    for name in names:
        layer = model.get_submodule(name)
        layer.register_forward_pre_hook(entering)
        layer.register_forward_hook(counting(name))
    inputs = torch.zeros(shape, **device_and_dtype(model))
    lifetimes.add(inputs)
    with torch.no_grad(), seeded(0), lifetimes:
        model.eval()(inputs)
    return Trace(tuple(call for call in calls if call is not None), lifetimes.skips())


def device_and_dtype(model: nn.Module) -> dict[str, Any]:
    """Return ``device`` and ``dtype`` of a network's inputs: those of its first weights."""
    weights = [weight for weight in model.parameters() if weight.is_floating_point()]
    return {"device": weights[0].device, "dtype": weights[0].dtype} if weights else {}


class OperatorMode(TorchDispatchMode):
    """Mode that sees each operator of torch, without the seconds in which torch imports Dynamo."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # no network is compiled while such a mode is active


@dataclass
class _Feature:
    born: int
    read: int
    elements: int


class _Lifetimes(OperatorMode):
    """Recorder of the creation and last read of each storage that depends on the input.

    Tensors that do not depend on the input, such as an attention mask, are constants of the chip.
    """

    def __init__(self) -> None:
        super().__init__()
        self.call = -1
        self._features: list[_Feature] = []
        self._by_storage: dict[int, _Feature] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        inputs = storages_of((args, kwargs))
        outputs = func(*args, **(kwargs or {}))
        read = [self._by_storage[key] for key in inputs if key in self._by_storage]
        for feature in read:
            feature.read = self.call
        for key, tensor in storages_of(outputs).items():
            if key in inputs:
                continue
            if read:
                self.add(tensor)
            else:
                self._by_storage.pop(key, None)  # a constant reuses the memory of an old tensor
        return outputs

    def add(self, tensor: Tensor) -> None:
        """Register a new storage that depends on the input."""
        storage = tensor.untyped_storage()
        elements = storage.nbytes() // tensor.element_size()
        feature = _Feature(self.call, self.call, elements)
        self._features.append(feature)
        self._by_storage[storage._cdata] = feature

    def skips(self) -> tuple[Skip, ...]:
        """Return features that are read later than by the next call."""
        return tuple(
            Skip(feature.born, feature.read, feature.elements)
            for feature in self._features
            if feature.read - feature.born >= 2
        )


def storages_of(tree: Any) -> dict[int, Tensor]:
    """Return the tensors in a nested structure by their storage, without those that have none.

    Sparse tensors and parameters that are not initialised have no storage.
    """
    tensors = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
    return {
        tensor.untyped_storage()._cdata: tensor
        for tensor in tensors
        if tensor.layout is torch.strided and not is_lazy(tensor)
    }
