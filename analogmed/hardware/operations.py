"""Operations that a network computes on a digital processor, for look-up or timing.

A convolution, transposed convolution or Linear layer forms one operation with the norm and the
activation that follow it directly. Every other layer is one operation, and so is each torch
function outside layers (concatenations, attention). Views are free and not recorded. Layers with a
custom forward are distinguished by their class and the shapes of their weights.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from analogmed.foundation.errors import ShapeError
from analogmed.network.copy import copy_network
from analogmed.network.layers.matrix import MAPPED
from analogmed.network.trace import OperatorMode, device_and_dtype, storages_of
from analogmed.network.walk import hooked

_NORMS = (
    nn.modules.batchnorm._BatchNorm,  # includes instance norms
    nn.GroupNorm,
    nn.LayerNorm,
)
FILL = 0.5
"""Value of all inputs; avoids denormal numbers, which are slow on some processors."""


@dataclass(frozen=True)
class Operation:
    """Key of an operation in the look-up table.

    Attributes:
        operation: class of the layer, or name of the torch function.
        kernel: kernel of a convolution or pool, such as ``3x3``; empty if not applicable, as for
            all following fields.
        dilation: dilation of a convolution.
        in_channels: input channels of a convolution, or inputs of a Linear layer.
        out_channels: output channels of a convolution, or outputs of a Linear layer.
        spatial: spatial size of the input, such as ``64x64``.
        norm: class of the norm that belongs to the operation.
        activation: class of the activation that belongs to the operation.
        dtype: data type of the input.
        arguments: all other arguments that can affect the time.
    """

    operation: str
    kernel: str
    dilation: str
    in_channels: str
    out_channels: str
    spatial: str
    norm: str
    activation: str
    dtype: str
    arguments: str


KEY = tuple(field.name for field in dataclasses.fields(Operation))


@dataclass(frozen=True)
class Recorded:
    """Recorded operations of a network.

    Attributes:
        counts: number of executions of each operation for one input.
        runs: functions by operation that create new inputs and return the computation.
    """

    counts: Counter[Operation]
    runs: dict[Operation, Callable[[], Callable[[], object]]]


def record(model: nn.Module, input_shape: Sequence[int]) -> Recorded:
    """Run a copy of a network once in evaluation mode and list its operations.

    Args:
        model: network to record; it is left unchanged.
        input_shape: shape of the input, (1, C, *spatial).

    Raises:
        ShapeError: the network fails on an input of this shape.
    """
    model = copy_network(model).eval()
    recorder = _Recorder()
    handles = (
        handle
        for module in model.modules()
        if not any(module.children())
        for handle in (
            module.register_forward_pre_hook(recorder.enter),
            module.register_forward_hook(recorder.leave, with_kwargs=True),
        )
    )
    inputs = torch.full(tuple(input_shape), FILL, **device_and_dtype(model))
    try:
        with hooked(handles), torch.inference_mode(), recorder:
            model(inputs)
    except (RuntimeError, ValueError, IndexError) as error:
        raise ShapeError(
            f"{type(model).__name__} cannot be run on an input of shape {tuple(input_shape)}: "
            f"{error}"
        ) from error
    return recorder.finish()


@dataclass
class _Group:
    """A layer with the norm and the activation that follow it."""

    modules: list[nn.Module]
    inputs: tuple[Any, ...]
    named: dict[str, Any]
    output: Any


class _Recorder(OperatorMode):
    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._group: _Group | None = None
        self._counts: Counter[Operation] = Counter()
        self._runs: dict[Operation, Callable[[], Callable[[], object]]] = {}

    def enter(self, _module: nn.Module, _inputs: tuple[Any, ...]) -> None:
        self._depth += 1

    def leave(
        self, module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any
    ) -> None:
        self._depth -= 1
        first = inputs[0] if inputs else None
        if self._depth or (output is first and not getattr(module, "inplace", False)):
            return  # inside another layer, or without computation (dropout)
        group = self._group
        if group and first is group.output and _belongs(module, group.modules):
            group.modules.append(module)
            group.output = output
            return
        self._close()
        self._group = _Group([module], _specs(inputs), _specs(named), output)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        specs = _specs((args, kwargs or {}))
        outputs = func(*args, **(kwargs or {}))
        if self._depth == 0 and _computes(func, (args, kwargs), outputs):
            self._close()
            self._add(_of_function(func, specs), _runner(func, *specs))
        return outputs

    def finish(self) -> Recorded:
        self._close()
        return Recorded(self._counts, self._runs)

    def _close(self) -> None:
        if self._group is not None:
            group = self._group
            self._add(
                _of_layers(group.modules, group.inputs),
                _runner(_chain(group.modules), group.inputs, group.named),
            )
        self._group = None

    def _add(self, operation: Operation, run: Callable[[], Callable[[], object]]) -> None:
        self._counts[operation] += 1
        self._runs.setdefault(operation, run)


@dataclass(frozen=True)
class _Spec:
    """Shape and data type of a tensor."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def __repr__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')}[{'x'.join(map(str, self.shape))}]"

    def make(self) -> Tensor:
        tensor = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=self.device)
        return tensor.fill_(FILL) if self.dtype.is_floating_point else tensor.zero_()


def _specs(tree: Any) -> Any:
    return tree_map(
        lambda leaf: (
            _Spec(tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device)
            if isinstance(leaf, Tensor)
            else leaf
        ),
        tree,
    )


def _runner(
    function: Callable[..., object], args: Any, kwargs: Any
) -> Callable[[], Callable[[], object]]:
    def prepare() -> Callable[[], object]:
        made, named = tree_map(
            lambda leaf: leaf.make() if isinstance(leaf, _Spec) else leaf, (args, kwargs)
        )
        return lambda: function(*made, **named)

    return prepare


def _chain(modules: list[nn.Module]) -> Callable[..., object]:
    def run(*inputs: Any, **named: Any) -> object:
        outputs = modules[0](*inputs, **named)
        for module in modules[1:]:
            outputs = module(outputs)
        return outputs

    return run


def _belongs(module: nn.Module, group: list[nn.Module]) -> bool:
    """Return whether a layer is the norm, or a following activation, of a layer with weights."""
    if not isinstance(group[0], MAPPED):
        return False
    if isinstance(module, _NORMS):
        return len(group) == 1
    return _is_activation(module) and not _is_activation(group[-1])


def _arguments(module: nn.Module) -> str:
    """Return everything in addition to the inputs that can affect the time of a layer."""
    kind = type(module)
    if kind.forward.__module__.startswith("torch.nn."):
        return module.extra_repr()
    tensors = (*module.named_parameters(), *module.named_buffers())
    shapes = [f"{name}[{'x'.join(map(str, tensor.shape))}]" for name, tensor in tensors]
    return " ".join([f"{kind.__module__}.{kind.__qualname__}", *shapes, module.extra_repr()])


def _is_activation(module: nn.Module) -> bool:
    return type(module).__module__ == "torch.nn.modules.activation"


def _computes(func: Any, inputs: Any, outputs: Any) -> bool:
    """Return whether a function computes something, unlike views and queries about a tensor."""
    made = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor)]
    if not made:
        return False
    if func._schema.is_mutable:
        return True
    return bool(storages_of(made).keys() - storages_of(inputs).keys())


def _of_layers(modules: list[nn.Module], inputs: tuple[Any, ...]) -> Operation:
    first = modules[0]
    found = [leaf for leaf in tree_leaves(inputs) if isinstance(leaf, _Spec)]
    spec = found[0] if found else _Spec((), (), torch.float32, torch.device("cpu"))
    norm = [type(module).__name__ for module in modules if isinstance(module, _NORMS)]
    activation = [type(module).__name__ for module in modules[1:] if _is_activation(module)]
    return Operation(
        operation=type(first).__name__,
        kernel=_sizes(getattr(first, "kernel_size", "")),
        dilation=_sizes(getattr(first, "dilation", "")),
        in_channels=str(getattr(first, "in_channels", getattr(first, "in_features", ""))),
        out_channels=str(getattr(first, "out_channels", getattr(first, "out_features", ""))),
        spatial=_sizes(spec.shape[2:]),
        norm="".join(norm) if len(modules) > 1 else "",
        activation="".join(activation),
        dtype=str(spec.dtype).removeprefix("torch."),
        arguments=f"{inputs}; {'; '.join(map(_arguments, modules))}",
    )


def _of_function(func: Any, specs: tuple[Any, Any]) -> Operation:
    found = [leaf for leaf in tree_leaves(specs) if isinstance(leaf, _Spec)]
    dtype = str(found[0].dtype).removeprefix("torch.") if found else ""
    spatial = _sizes(found[0].shape[2:]) if found else ""
    return Operation(str(func), "", "", "", "", spatial, "", "", dtype, f"{specs[0]} {specs[1]}")


def _sizes(sizes: Any) -> str:
    return "x".join(map(str, sizes)) if isinstance(sizes, tuple | list) else str(sizes)
