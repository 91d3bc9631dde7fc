"""Analog coverage of a network, and the reasons for its digital layers."""

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn

from analogmed.analog.aihwkit_backend.layers import is_analog
from analogmed.analog.layers.base import AnalogLayer
from analogmed.foundation.errors import PackedSequenceError, ShapeError
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.foundation.text import Rendered, shortened
from analogmed.network.layers.digital_product import DigitalProduct
from analogmed.network.products import FunctionalProducts, is_matrix
from analogmed.network.seeding import seeded
from analogmed.network.selection import ASKED_FOR, digital_reason, multiplies_weight
from analogmed.network.walk import evaluating, hooked


@dataclass(frozen=True, repr=False)
class Coverage(Rendered):
    """Share of a model's weights and multiply-accumulates that runs on tiles.

    Attributes:
        weight_share: share of the multiplying weights, in [0, 1]. Analog layers and parameters that
            the forward pass of one input did not use are not counted.
        mac_share: share of the multiply-accumulates of one forward pass; NaN if the pass failed.
        digital_layers: name and reason of each layer that multiplies a weight digitally.
        analog_layers: names of the layers on tiles that the forward pass called; all layers on
            tiles if it failed.
        digital_products: name and reason of each parameter that the forward pass multiplies outside
            a layer, and therefore digitally.
        uncalled_layers: names of the layers on tiles that the forward pass did not call.
        elementwise: names of the trainable parameters of two or more dimensions that are no
            weights of a product: tables and biases, which are added or looked up, and vectors.
        unused: names of the trainable parameters of two or more dimensions outside these layers
            that the forward pass did not use.

    Together, layers and parameters cover all trainable parameters of two or more dimensions.
    """

    weight_share: float
    mac_share: float
    digital_layers: dict[str, str]
    analog_layers: tuple[str, ...]
    digital_products: dict[str, str] = field(default_factory=dict)
    uncalled_layers: tuple[str, ...] = ()
    elementwise: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def facts(self) -> dict[str, object]:
        """Return the shares on tiles, and the layers that stay digital."""
        return {
            "analog layers": len(self.analog_layers),
            "weights on tiles": f"{self.weight_share:.1%}",
            "multiply-accumulates on tiles": f"{self.mac_share:.1%}",
            "digital": shortened(self.digital_layers | self.digital_products),
            "not called": shortened(self.uncalled_layers),
            "not used": shortened(self.unused),
        }

    def __str__(self) -> str:
        lines = [
            f"{len(self.analog_layers)} analog layers: {self.weight_share:.1%} of the weights and "
            f"{self.mac_share:.1%} of the multiply-accumulates"
        ]
        digital = self.digital_layers | self.digital_products
        lines += [f"  digital: {name}: {reason}" for name, reason in digital.items()]
        lines += [f"  not called: {name}" for name in self.uncalled_layers]
        lines += [f"  not used: {name}" for name in self.unused]
        return "\n".join(lines)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One sentence per weight and layer that is digital, or on tiles but unused."""
        digital = self.digital_layers | self.digital_products
        return (
            *(f"{name} stays digital: {reason}" for name, reason in digital.items()),
            *(f"{name} is on tiles, but is never called" for name in self.uncalled_layers),
            *(f"{name} is never used" for name in self.unused),
        )


@checks_arguments
def coverage(model: nn.Module, input_shape: tuple[int, ...] | None = None) -> Coverage:
    """Report which part of a model is analog.

    Args:
        model: converted model, or a plain one, which has no analog layers.
        input_shape: (B, C, *spatial), for counting multiply-accumulates; the default is one input
            of 64 pixels a side. The share hardly depends on it.

    Raises:
        ShapeError: the model does not accept an input of ``input_shape``, or calls a recurrent
            layer on tiles with a packed sequence.
    """
    analog = [name for name, layer in model.named_modules() if is_analog(layer)]
    digital = _digital_layers(model)
    run = _watch(model, [*analog, *digital], input_shape)
    called = [name for name in analog if name not in run.uncalled]
    others = _parameters_outside(model, [*analog, *digital])
    products = _digital_products(others, run)
    weights = {name: _weights(model.get_submodule(name)) for name in [*analog, *digital]}
    weights |= {name: float(w.numel()) for name, w in model.named_parameters() if name in products}
    others = {name: w for name, w in others.items() if name not in products}
    return Coverage(
        _share({n: w for n, w in weights.items() if n not in run.uncalled}, called),
        _share(run.macs | run.products | run.elementwise, called),
        digital,
        tuple(called),
        products,
        tuple(name for name in analog if name in run.uncalled),
        tuple(name for name in others if run.used is None or name in run.used),
        tuple(name for name in others if run.used is not None and name not in run.used),
    )


def _parameters_outside(model: nn.Module, layers: list[str]) -> dict[str, nn.Parameter]:
    """Return the trainable parameters of two or more dimensions that these layers do not own."""
    owned = {id(p) for name in layers for p in model.get_submodule(name).parameters()}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.ndim >= 2 and id(parameter) not in owned
    }


def _digital_products(others: dict[str, nn.Parameter], run: "_Run") -> dict[str, str]:
    """Return the weights that are multiplied digitally outside a layer, with reasons."""
    if run.used is None:
        return {name: _UNKNOWN for name, weight in others.items() if is_matrix(weight)}
    return dict.fromkeys(run.elementwise, _ELEMENTWISE) | dict.fromkeys(run.products, _FUNCTIONAL)


def left_digital(model: nn.Module) -> tuple[str, ...]:
    """Return the layers of a converted model that stayed digital although tiles could compute them.

    They were requested to stay digital, or aihwkit has no such layer. Converting the plain network
    with these names as ``digital`` maps the same layers onto tiles again.
    """
    could_be = (ASKED_FOR, _NOT_CONVERTED)
    return tuple(name for name, reason in _digital_layers(model).items() if reason in could_be)


_NOT_CONVERTED = "not converted"
_FUNCTIONAL = (
    "it is multiplied outside of a layer; use a module such as nn.Conv2d or nn.Linear, registered "
    "in the network, to map it onto tiles"
)
_ELEMENTWISE = "it is multiplied element by element, which a crossbar does not compute"
_UNKNOWN = "the forward pass failed, so its use is not determined; set the shape of an input"


def _digital_layers(model: nn.Module) -> dict[str, str]:
    """Return the name and reason of each layer that multiplies a weight digitally."""
    digital: dict[str, str] = {}
    for name, layer in model.named_modules():
        if multiplies_weight(layer) and not is_analog(layer) and not _inside(name, digital):
            digital[name] = digital_reason(name, layer) or _NOT_CONVERTED
    return digital


def _inside(name: str, parents: dict[str, str]) -> bool:
    return any(name.startswith(parent + ".") for parent in parents)


def _share(amounts: dict[str, float], analog: list[str]) -> float:
    total = sum(amounts.values())
    return sum(amounts[name] for name in analog) / total if total else math.nan


def _weights(layer: nn.Module) -> float:
    if isinstance(layer, AnalogLayerBase):
        return float(sum(tile.get_weights()[0].numel() for tile in layer.analog_tiles()))
    if isinstance(layer, AnalogLayer):
        return float(layer.weight.numel())
    matrices = [p for p in layer.parameters() if p.ndim >= 2]
    if isinstance(layer, DigitalProduct):  # its frozen masks are no weights
        matrices = [p for p in matrices if p.requires_grad] or matrices
    return float(sum(p.numel() for p in matrices))


@dataclass(frozen=True)
class _Run:
    """Counts of one forward pass.

    Attributes:
        macs: multiply-accumulates by layer.
        products: multiply-accumulates by weight that is multiplied outside these layers.
        elementwise: multiplications by weight that is multiplied element by element.
        used: names of the parameters outside these layers that had a part in the result; ``None``
            if the pass failed.
        uncalled: names of the layers that were not called.
    """

    macs: dict[str, float]
    products: dict[str, float]
    elementwise: dict[str, float]
    used: frozenset[str] | None
    uncalled: frozenset[str]


def _watch(model: nn.Module, names: list[str], input_shape: tuple[int, ...] | None) -> _Run:
    macs = dict.fromkeys(names, 0.0)
    uncalled = set(names)

    def count(name: str, layer: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        uncalled.discard(name)
        result = output[0] if isinstance(output, tuple) else output
        if isinstance(result, Tensor) and inputs:
            macs[name] += _layer_macs(layer, inputs[0], result)

    layers = {name: model.get_submodule(name) for name in names}
    inputs = _zeros(model, names, input_shape)
    products = FunctionalProducts(model, [inputs])
    try:
        with (
            hooked(
                layer.register_forward_hook(partial(count, name)) for name, layer in layers.items()
            ),
            torch.no_grad(),
            evaluating(model),
            seeded(0),
            products.ignoring(layers.values()),
            products,
        ):
            model(inputs)
    except PackedSequenceError:
        raise  # an input of another shape does not help
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if input_shape is not None:
            raise ShapeError(
                f"coverage: {type(model).__name__} does not take an input of shape "
                f"{input_shape}: {error}"
            ) from error
        return _Run(dict.fromkeys(names, math.nan), {}, {}, None, frozenset())
    elementwise = {n: count for n, count in products.elementwise.items() if n not in products.macs}
    return _Run(macs, products.macs, elementwise, frozenset(products.used), frozenset(uncalled))


def _zeros(model: nn.Module, names: list[str], shape: tuple[int, ...] | None) -> Tensor:
    layers = (layer for name, layer in model.named_modules() if name in names)
    first: Any = next(layers, None)
    if shape is None and hasattr(first, "in_channels"):
        shape = (1, first.in_channels, *(64,) * len(first.kernel_size))
    parameter = next(model.parameters(), torch.empty(()))
    return parameter.new_zeros(shape or (1, int(getattr(first, "in_features", 1))))


def _layer_macs(layer: nn.Module, inputs: Tensor, output: Tensor) -> float:
    """Return the number of multiply-accumulates of a layer for the whole batch."""
    if isinstance(layer, DigitalProduct):
        return float(layer.count_macs(inputs, output))
    channels: Any
    if getattr(layer, "transposed", False):
        channels, per_vector = layer.in_channels, inputs
    elif hasattr(layer, "kernel_size"):
        channels, per_vector = layer.out_channels, output
    else:
        channels, per_vector = inputs.shape[-1], inputs
    return _weights(layer) * per_vector.numel() / channels
