"""Calibration of input ranges: a high quantile of the inputs of each row of tiles."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from analogmed.analog.aihwkit_backend.layers import from_aihwkit, is_analog, set_ranges_like
from analogmed.analog.ideal_tiles import ideal_tiles
from analogmed.analog.layers.base import AnalogLayer, analog_layers, ranged_layers
from analogmed.analog.output_range import warn_of_clipped_sums
from analogmed.foundation.errors import ConfigError, CoverageError, NonFiniteError
from analogmed.foundation.settings.checks import require_number
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.network.batches import checked_keys, checked_network, network_batches
from analogmed.network.walk import evaluating, hooked


@checks_arguments
@torch.no_grad()
def calibrate(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    quantile: float = 0.9995,
    key: str = "image",
    keys: Sequence[str] | None = None,
) -> nn.Module:
    """Set the input range of every row tile to a quantile of the absolute inputs that reach it.

    aihwkit starts from three standard deviations about the mean, which clips half of a bright
    image. Here all batches pass digitally through the network, without noise or clipping. The range
    is the quantile of all values of all batches and calls together, so that it depends neither on
    the batch size nor on the order. See :class:`InputStatistics` for its resolution.

    A warning names layers of which many sums exceed the range of the output converter, on the first
    four images.

    Args:
        model: analog model, with analogmed's or aihwkit's layers; its ranges are changed in place.
        batches: inputs of the network, each (B, C, *spatial), which are left unchanged; or a loader
            that yields them alone, as the first entry of a tuple, or in a mapping. A few dozen
            images are enough.
        quantile: quantile of the absolute inputs that sets the input range, in (0, 1].
        key: key of the images where a batch is a mapping.
        keys: keys of images and labels as for :func:`analogmed.robustness`, in place of ``key``.

    Returns:
        ``model``, for chaining. (In a notebook, end the line with a semicolon: the last expression
        of a cell is printed.)

    Raises:
        ConfigError: no batch, an empty one, one without images, or ``quantile`` outside (0, 1].
        CoverageError: the model has no analog layer with an input range.
        NonFiniteError: an activation is NaN or Inf; names the layer.
    """
    checked_network(model)
    key = key if keys is None else checked_keys(keys)[0]
    require_number("calibrate: quantile", quantile, above=0, at_most=1)
    layers = analog_layers(model)
    if not layers and any(map(is_analog, model.modules())):
        own = calibrate(from_aihwkit(model), batches, quantile=quantile, key=key)
        return set_ranges_like(model, own)
    if not layers:
        raise CoverageError("calibrate: the model has no analog layer; convert it first")
    ranged = ranged_layers(model)
    if not ranged:
        return model  # the hardware scales each vector separately
    seen = {name: InputStatistics(name, layer) for name, layer in ranged.items()}
    images = (images for _, images in network_batches(model, batches, key=key))
    first = _run(model, ranged, images, seen)
    for name, statistics in seen.items():
        input_range = ranged[name].input_range
        assert input_range is not None
        if statistics.calls:
            input_range.copy_(statistics.ranges(quantile))
        ranged[name].calibrated = True
    warn_of_clipped_sums(model, first)
    return model


def check_calibrated(model: nn.Module) -> None:
    """Raise an error for an analog model whose input ranges were never set.

    In such a model, all ranges still have their initial value. Ranges that were loaded, learned or
    set by hand differ from it in at least one layer.

    Raises:
        ConfigError: states the remedy.
    """
    layers = [layer for layer in model.modules() if is_analog(layer)]
    ranges = [each for layer in layers for each in _ranges_of(layer)]
    if not ranges or any(getattr(layer, "calibrated", False) for layer in layers):
        return
    if all(bool((values == start).all()) for values, start in ranges):
        raise ConfigError(
            f"{type(model).__name__}: the input ranges were never set, all have their initial "
            f"value {ranges[0][1]:g}; expected ranges that fit the data. Call "
            "analogmed.calibrate(model, batches) first, load learned ranges with "
            "load_input_ranges, or set layer.input_range"
        )


def _ranges_of(layer: nn.Module) -> list[tuple[Tensor, float]]:
    """Return the input ranges of a layer or of its tiles, with their initial values."""
    parts: Iterable[Any] = layer.analog_tiles() if isinstance(layer, AnalogLayerBase) else [layer]
    return [
        (part.input_range.detach(), part.rpu_config.pre_post.input_range.init_value)
        for part in parts
        if getattr(part, "input_range", None) is not None
    ]


def _run(
    model: nn.Module,
    ranged: dict[str, AnalogLayer],
    batches: Iterable[Tensor],
    seen: dict[str, "InputStatistics"],
) -> list[Tensor]:
    """Count the inputs of the layers in all batches, and return the first images."""
    first: list[Tensor] = []
    empty = True
    handles = (seen[name].watch(layer) for name, layer in ranged.items())
    with hooked(handles), ideal_tiles(model), evaluating(model):
        for batch in batches:
            if batch.numel() == 0:
                raise ConfigError(f"calibrate: a batch is empty: shape {tuple(batch.shape)}")
            empty = False
            missing = _CHECKED - sum(map(len, first))
            if missing > 0:  # two axes may be those of one signal without a batch axis
                first.append((batch[:missing] if batch.ndim > 2 else batch).clone())
            model(batch.clone())  # a network may change its input in place
    if empty:
        raise ConfigError("calibrate: no batch was given; the input ranges are unchanged")
    return first


_CHECKED = 4
"""Number of images whose sums are compared with the range of the output converter."""
_MANTISSA_BITS = 12
_SHIFT = 23 - _MANTISSA_BITS  # float32 has 23
_BINADE = 1 << _MANTISSA_BITS  # bins between two powers of two
_CHUNK = 1 << 20  # values that are counted at once


class InputStatistics:
    """Distribution of the absolute inputs of each row of a layer's tiles, over all its calls.

    Values are counted in bins of the float32 format with 12 bits of mantissa, so that the counts of
    different batches add up. A quantile is the upper edge of its bin, at most 1/4096 above the
    exact one, or the largest value if that is less.

    Args:
        name: full name of the layer, for errors.
        layer: analog layer, whose grid of tiles defines which inputs a row receives.

    Attributes:
        calls: number of calls counted.
    """

    def __init__(self, name: str, layer: AnalogLayer) -> None:
        self._name, self._layer = name, layer
        self._rows = [_Histogram() for _ in layer.grid.rows]
        self.calls = 0

    def watch(self, layer: nn.Module) -> RemovableHandle:
        """Count the inputs of each call of a layer, and return the hook's handle."""

        def count(_: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            self.add(inputs[0] if inputs else named["input"])

        return layer.register_forward_pre_hook(count, with_kwargs=True)

    @torch.no_grad()
    def add(self, inputs: Tensor) -> None:
        """Count the inputs of one call, with or without a batch axis.

        Raises:
            NonFiniteError: an input is NaN or Inf; names the layer.
        """
        if inputs.numel() and not torch.isfinite(torch.stack(inputs.aminmax())).all():
            raise NonFiniteError(f"calibrate: the input of layer '{self._name}' holds NaN or Inf")
        inputs = self._layer.batched(inputs)
        for histogram, (start, stop) in zip(self._rows, self._layer.grid.rows, strict=True):
            values = self._layer.row_inputs(inputs, start, stop, vectors=False)
            for part in values.flatten().split(_CHUNK):
                if part.numel():
                    histogram.add(part.abs().float())
        self.calls += 1

    def ranges(self, quantile: float) -> Tensor:
        """Return the quantile of each row, shape (rows of tiles,).

        Where more than this share of the inputs is zero, it is the largest value; 1 where all are
        zero.
        """
        return torch.tensor([histogram.range(quantile) for histogram in self._rows])


class _Histogram:
    """Number of values in each bin, from the lowest bin above 0 to the highest that is not empty.

    The counts use 32 KiB for each power of two in between, at most 8 MiB.
    """

    def __init__(self) -> None:
        self._counts: Tensor | None = None  # zeros, then the bins from self._first on
        self._first = 1
        self._largest = 0.0

    def add(self, values: Tensor) -> None:
        """Count values of 0 or more, shape (values,), float32, at least one."""
        bins = values.view(torch.int32) >> _SHIFT
        highest = bins.max()
        lowest = torch.where(bins > 0, bins, highest).min()
        counts = self._counts_of(int(lowest), int(highest), bins.device)
        places = bins.sub_(self._first - 1).clamp_(min=0)
        counts.index_add_(0, places, counts.new_ones(()).expand(len(places)))
        self._largest = max(self._largest, float(values.max()))

    @torch.inference_mode(False)  # so that later calls in another mode can add to the counts
    def _counts_of(self, lowest: int, highest: int, device: torch.device) -> Tensor:
        """Return the counts, extended by whole powers of two so that they cover these bins."""
        counts = self._counts
        if counts is None:
            counts = torch.zeros(1, dtype=torch.int64, device=device)
        if highest > 0:
            first = max(1, lowest // _BINADE * _BINADE)
            stop = (highest // _BINADE + 1) * _BINADE
            if len(counts) == 1:
                self._first = first
            below = max(0, self._first - first)
            above = max(0, stop - self._first - (len(counts) - 1))
            if below or above:
                self._first -= below
                parts = counts[:1], counts.new_zeros(below), counts[1:], counts.new_zeros(above)
                counts = torch.cat(parts)
        self._counts = counts
        return counts

    def range(self, quantile: float) -> float:
        """Return the quantile, or the largest value if it is 0, or 1 if that is 0 as well."""
        if self._counts is None or self._largest == 0:
            return 1.0
        total = self._counts.cumsum(0)
        number = int(total[-1])
        rank = min(number, max(1, math.ceil(quantile * number)))
        place = int((total < rank).sum())
        if place == 0:  # zeros
            return self._largest
        edge = torch.tensor((self._first + place) << _SHIFT, dtype=torch.int32).view(torch.float32)
        return min(float(edge), self._largest)
