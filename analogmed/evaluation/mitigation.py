"""Ways to correct a chip after programming, without writing its devices: each a context.

Inside a context the reading computes with the correction; afterwards the model is as it was, so
that another chip or time starts from the same state.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analogmed.analog.calibrate import mean_range, row_quantiles
from analogmed.analog.layers import AnalogLayer
from analogmed.errors import CoverageError

Forward = Callable[[Tensor], Tensor]


@contextmanager
def batchnorm_of_chip(
    model: nn.Module, forward: Forward, batches: Iterable[Tensor]
) -> Iterator[None]:
    """BatchNorm with means and variances as they are on the chip now.

    Each batch is normalised with its own statistics, so that a layer sees what the layers before it
    will put out afterwards; the new statistics are the means over the batches.

    Args:
        model: the analog model, whose statistics change while the context lasts.
        forward: a reading of a chip of it.
        batches: unlabelled images, each (B, C, *spatial); few large ones are best.

    Raises:
        CoverageError: the network has no BatchNorm with running statistics, or saw no batch.

    Source: Joshi et al. 2020, Nature Communications 11, 2473 (AdaBS).
    """
    layers = batchnorms(model)
    if not layers:
        raise CoverageError("the network has no BatchNorm statistics to estimate anew")
    seen: dict[_BatchNorm, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(layer.register_forward_hook(_restate(seen)).remove)
        for batch in batches:
            forward(batch)
    if not seen:
        raise CoverageError("BatchNorm: no batch was given, or no layer was reached")
    with ExitStack() as stack:
        for layer, found in seen.items():
            means, variances = zip(*found, strict=True)
            stack.enter_context(_lent(layer.running_mean, torch.stack(means).mean(0)))
            stack.enter_context(_lent(layer.running_var, torch.stack(variances).mean(0)))
        yield


@contextmanager
def input_ranges_of_chip(
    model: nn.Module, forward: Forward, batches: Iterable[Tensor], quantile: float
) -> Iterator[None]:
    """Input ranges of the converters that fit what reaches each layer on the chip now.

    Args:
        model: the analog model, whose ranges change while the context lasts.
        forward: a reading of a chip of it; read the chip anew inside the context.
        batches: unlabelled images, each (B, C, *spatial).
        quantile: share of absolute inputs that shall fit, in (0, 1].

    Raises:
        CoverageError: the hardware has no input ranges, or no batch was given.
        NonFiniteError: an activation is NaN or Inf; names the layer.
    """
    layers = ranged_layers(model)
    if not layers:
        raise CoverageError("the hardware scales each vector by itself: it has no input ranges")
    seen: dict[str, list[Tensor]] = defaultdict(list)

    def watch(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        return lambda layer, inputs: seen[name].append(
            row_quantiles(name, layer, inputs[0], quantile)
        )

    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_pre_hook(watch(name)).remove)
        for batch in batches:
            forward(batch)
    if not seen:
        raise CoverageError("input ranges: no batch was given, or no layer was reached")
    with ExitStack() as stack:
        for name, found in seen.items():
            stack.enter_context(_lent(layers[name].input_range, mean_range(found)))
        yield


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers that keep running statistics."""
    found = (m for m in model.modules() if isinstance(m, _BatchNorm))
    return [layer for layer in found if layer.running_mean is not None]


def ranged_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """The analog layers that have input ranges, by name."""
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, AnalogLayer) and layer.input_range is not None
    }


def _restate(
    seen: dict[_BatchNorm, list[tuple[Tensor, Tensor]]],
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        assert isinstance(layer, _BatchNorm)
        values = inputs[0]
        axes = [0, *range(2, values.ndim)]
        seen[layer].append((values.mean(axes), values.var(axes)))
        return F.batch_norm(
            values, None, None, layer.weight, layer.bias, training=True, eps=layer.eps
        )

    return hook


@contextmanager
def _lent(target: Tensor | None, values: Tensor) -> Iterator[None]:
    """Other values in a parameter or buffer, for a while."""
    assert target is not None
    before = target.detach().clone()
    with torch.no_grad():
        target.copy_(values)
    try:
        yield
    finally:
        with torch.no_grad():
            target.copy_(before)
