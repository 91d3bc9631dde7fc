"""Context managers that correct a chip after programming, without writing its devices.

Inside a context the read uses the correction. Afterwards the model is restored, so that another
chip or time starts from the same state.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from analogmed.analog.calibration import InputStatistics
from analogmed.analog.layers.base import ranged_layers
from analogmed.foundation.errors import CoverageError
from analogmed.network.walk import hooked

Forward = Callable[[Tensor], Tensor]


@contextmanager
def batchnorm_of_chip(
    model: nn.Module, forward: Forward, batches: Iterable[Tensor]
) -> Iterator[None]:
    """Replace BatchNorm means and variances by those on the chip within a context.

    Each batch is normalised with its own statistics, so that the input of a layer has the corrected
    statistics of the preceding layers. The new statistics are those of the values of all batches
    together: batches are weighted by size, and the variance includes that between batches.

    Args:
        model: analog model, whose statistics change within the context.
        forward: read of a chip of the model.
        batches: unlabelled images, each (B, C, *spatial); a single batch of all images is best.

    Raises:
        CoverageError: the network has no BatchNorm with running statistics, no batch was given, or
            a layer has a single value per channel.

    Source: Joshi et al. 2020, Nature Communications 11, 2473 (AdaBS).
    """
    layers = batchnorms(model)
    if not layers:
        raise CoverageError("the network has no BatchNorm statistics to estimate again")
    seen: dict[_BatchNorm, list[_Moments]] = defaultdict(list)
    with hooked(layer.register_forward_hook(_restate(seen)) for layer in layers):
        for batch in batches:
            forward(batch)
    if not seen:
        raise CoverageError("BatchNorm: no batch was given, or no layer was reached")
    with ExitStack() as stack:
        for layer, found in seen.items():
            mean, variance = _pooled(found)
            stack.enter_context(_lent(layer.running_mean, mean))
            stack.enter_context(_lent(layer.running_var, variance))
        yield


@contextmanager
def input_ranges_of_chip(
    model: nn.Module, forward: Forward, batches: Iterable[Tensor], quantile: float
) -> Iterator[None]:
    """Set the input ranges of each layer from its inputs on the chip within a context.

    Args:
        model: analog model, whose ranges change within the context.
        forward: read of a chip of the model; read the chip again inside the context.
        batches: unlabelled images, each (B, C, *spatial).
        quantile: quantile of a layer's absolute inputs that sets the input range, in (0, 1].

    Raises:
        CoverageError: the hardware has no input ranges, or no batch was given.
        NonFiniteError: an activation is NaN or Inf; the message names the layer.
    """
    layers = ranged_layers(model)
    if not layers:
        raise CoverageError("the hardware scales each vector by itself: it has no input ranges")
    seen = {name: InputStatistics(name, layer) for name, layer in layers.items()}
    with hooked(seen[name].watch(layer) for name, layer in layers.items()):
        for batch in batches:
            forward(batch)
    reached = {name: each for name, each in seen.items() if each.calls}
    if not reached:
        raise CoverageError("input ranges: no batch was given, or no layer was reached")
    with ExitStack() as stack:
        for name, statistics in reached.items():
            stack.enter_context(_lent(layers[name].input_range, statistics.ranges(quantile)))
        yield


def batchnorms(model: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers that track running statistics."""
    found = (m for m in model.modules() if isinstance(m, _BatchNorm))
    return [layer for layer in found if layer.running_mean is not None]


class _Moments(NamedTuple):
    """Statistics of a batch: values per channel, their mean and their mean squared deviation."""

    n_values: int
    mean: Tensor
    variance: Tensor


def _pooled(batches: Sequence[_Moments]) -> tuple[Tensor, Tensor]:
    """Return mean and variance (n - 1 in the denominator) of all batches together, per channel."""
    total = sum(batch.n_values for batch in batches)
    means = torch.stack([batch.mean.double() for batch in batches])
    variances = torch.stack([batch.variance.double() for batch in batches])
    shares = means.new_tensor([batch.n_values / total for batch in batches])[:, None]
    mean = (shares * means).sum(0)
    variance = (shares * (variances + (means - mean) ** 2)).sum(0)
    return mean, variance * (total / (total - 1))


def _restate(
    seen: dict[_BatchNorm, list[_Moments]],
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        assert isinstance(layer, _BatchNorm)
        values = inputs[0]
        axes = [0, *range(2, values.ndim)]
        count = values.numel() // values.shape[1]
        if count < 2:
            raise CoverageError(
                "BatchNorm: a layer sees one value per channel, which has no variance; expected at "
                "least 2. Use more images, or larger batches of them"
            )
        seen[layer].append(_Moments(count, values.mean(axes), values.var(axes, correction=0)))
        return F.batch_norm(
            values, None, None, layer.weight, layer.bias, training=True, eps=layer.eps
        )

    return hook


@contextmanager
def _lent(target: Tensor | None, values: Tensor) -> Iterator[None]:
    """Swap values into a parameter or buffer within a context."""
    assert target is not None
    before = target.detach().clone()
    with torch.no_grad():
        target.copy_(values)
    try:
        yield
    finally:
        with torch.no_grad():
            target.copy_(before)
