"""Products of weights that a network computes outside its layers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from analogmed.network.trace import OperatorMode, storages_of
from analogmed.network.walk import hooked

UNREGISTERED = "a tensor that is no parameter of the network"
"""Label of a weight that is used by the network but is not one of its parameters."""

_PRODUCTS = frozenset(
    {
        "convolution", "_convolution", "convolution_overrideable", "linear", "matmul", "einsum",
        "mm", "addmm", "_addmm_activation", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot",
        "_trilinear", "tensordot", "mkldnn_linear", "conv1d", "conv2d", "conv3d",
        "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    }
)  # fmt: skip
_ELEMENTWISE = frozenset({"mul", "mul_", "div", "div_", "addcmul", "addcmul_", "lerp", "lerp_"})
_OF_TORCH = ("aten", "prim", "prims")


class FunctionalProducts(OperatorMode):
    """Recorder of weight products that are not computed by a layer.

    A tensor is data if it depends on the input. Every other tensor is a constant that depends on
    the parameters from which it was computed. A product of a constant with data, such as
    ``F.conv2d(x, self.w)``, is recorded under the names of these parameters. Operators of other
    libraries count as products if they take data and a constant of two or more dimensions.
    A frozen parameter, such as a mask, is named only where no trainable one has a part in the
    product.

    Args:
        model: network that runs while the mode is active.
        inputs: inputs of the network, which are the initial data.

    Attributes:
        macs: multiply-accumulates by name of the weight; 0 if they cannot be counted.
        elementwise: multiplications by name of a trainable matrix that is multiplied by data
            element by element. A vector, such as a scale per channel, is not a matrix.
        used: names of the parameters that any function combines with data.
    """

    def __init__(self, model: nn.Module, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.macs: dict[str, float] = {}
        self.elementwise: dict[str, float] = {}
        self.used: set[str] = set()
        self._data = {key for tensor in inputs for key in storages_of(tensor)}
        self._origin: dict[int, frozenset[str]] = {}
        self._depth = 0
        for _, buffer in model.named_buffers():
            self._origin |= dict.fromkeys(storages_of(buffer), frozenset())
        parameters = dict(model.named_parameters())
        trainable = {name for name, each in parameters.items() if each.requires_grad}
        self._trainable = {UNREGISTERED, *(trainable or parameters)}
        self._matrices = {name for name, each in parameters.items() if is_matrix(each)}
        for name, parameter in parameters.items():
            self._origin |= dict.fromkeys(storages_of(parameter), frozenset({name}))

    @contextmanager
    def ignoring(self, layers: Iterable[nn.Module]) -> Iterator[None]:
        """Record nothing inside these layers, whose MVMs are counted separately."""

        def enter(_layer: nn.Module, inputs: object, by_keyword: object) -> None:
            self._depth += 1
            self.used.update(*map(self._weights_in, _tensors((inputs, by_keyword))))

        def leave(_layer: nn.Module, _inputs: object, output: object) -> None:
            self._depth -= 1
            self._data.update(storages_of(output))

        with hooked(
            handle
            for layer in layers
            for handle in (
                layer.register_forward_pre_hook(enter, with_kwargs=True),
                layer.register_forward_hook(leave),
            )
        ):
            yield

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        inputs = storages_of((args, kwargs))
        if self._depth == 0 and self._data.intersection(inputs):
            self._record(func, args, kwargs, outputs)
        self._mark(inputs, storages_of(outputs))
        return outputs

    def _record(self, func: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> None:
        constants = _tensors((args, kwargs))
        self.used.update(*map(self._weights_in, constants))
        if _multiplies(func):
            counts, macs = self.macs, _macs(func, args, kwargs, outputs)
            names = self._named(each for each in constants if each.ndim >= 2)
        elif func._opname in _ELEMENTWISE:
            counts, macs = self.elementwise, float(outputs.numel())
            names = self._named(constants) & self._matrices & self._trainable
        else:
            return
        for name in names:
            counts[name] = counts.get(name, 0.0) + macs / len(names)

    def _named(self, constants: Iterable[Tensor]) -> frozenset[str]:
        """Return the weights in these tensors: the trainable ones, if there are any."""
        names = frozenset[str]().union(*map(self._weights_in, constants))
        return names & self._trainable or names

    def _weights_in(self, tensor: Tensor) -> frozenset[str]:
        keys = storages_of(tensor)
        if self._data.intersection(keys):
            return frozenset()
        unknown = isinstance(tensor, nn.Parameter) and not self._origin.keys() & keys.keys()
        named = frozenset({UNREGISTERED}) if unknown else frozenset()
        return named.union(*(self._origin.get(key, frozenset()) for key in keys))

    def _mark(self, inputs: Mapping[int, Tensor], outputs: Mapping[int, Tensor]) -> None:
        if self._data.intersection(inputs):
            self._data.update(outputs)
            return
        parts = [self._origin.get(key, _unregistered(inputs[key])) for key in inputs]
        origin = frozenset[str]().union(*parts)
        for key in outputs:
            self._data.discard(key)  # an earlier tensor may have used the same memory
            self._origin[key] = origin


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def is_matrix(parameter: Tensor) -> bool:
    """Return whether two or more dimensions of a parameter are larger than 1."""
    return not is_lazy(parameter) and sum(size > 1 for size in parameter.shape) >= 2


def _unregistered(tensor: Tensor) -> frozenset[str]:
    return frozenset({UNREGISTERED} if isinstance(tensor, nn.Parameter) else ())


def _multiplies(func: Any) -> bool:
    return func._opname in _PRODUCTS or func.namespace not in _OF_TORCH


def _macs(func: Any, args: Any, kwargs: dict[str, Any], outputs: Any) -> float:
    count: Callable[..., int] | None = flop_registry.get(func._overloadpacket)
    if count is not None:
        return count(*args, **kwargs, out_val=outputs) / 2
    if func._opname in ("mv", "addmv"):
        return float(args[-2].numel())
    return 0.0


def unregistered_layers(model: nn.Module) -> dict[str, str]:
    """Return layers with weights that a network stores only in plain containers.

    torch does not register layers in a plain list, tuple, set or dict: their weights are not
    trained, not saved and not moved to a device.

    Returns:
        class name of each layer, by its location, such as ``"blocks[0]"``.
    """
    registered = set(model.modules())
    found: dict[str, str] = {}
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key.startswith("_") and key in _OF_MODULES:
                continue
            for place, layer in _layers_in(value, key):
                if layer not in registered and any(True for _ in layer.parameters()):
                    found[f"{name}.{place}" if name else place] = type(layer).__name__
    return found


_OF_MODULES = frozenset(vars(nn.Module()))


def _layers_in(value: object, place: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(value, nn.Module):
        yield place, value
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from _layers_in(item, f"{place}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _layers_in(item, f"{place}[{key!r}]")
