"""Calibration of input ranges: a high quantile of the inputs of each row of tiles."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from analogmed.analog.aihwkit_backend.layers import from_aihwkit, is_analog, set_ranges_like
from analogmed.analog.histogram import Histogram
from analogmed.analog.ideal_tiles import ideal_tiles
from analogmed.analog.layers.base import AnalogLayer, analog_layers, ranged_layers
from analogmed.analog.output_range import fit_to_outputs, warn_of_clipped_sums
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
    fit_outputs: bool = False,
    key: str = "image",
    keys: Sequence[str] | None = None,
) -> nn.Module:
    """Set the input range of every row tile to a quantile of the absolute inputs that reach it.

    aihwkit starts from three standard deviations about the mean, which clips half of a bright
    image. Here all batches pass digitally through the network, without noise or clipping. The range
    is the quantile of all values of all batches and calls together, so that it depends neither on
    the batch size nor on the order. See :class:`InputStatistics` for its resolution.

    A warning names layers of which many sums exceed the range of the output converter. Sums are
    those of the first four images.

    Args:
        model: analog model, with analogmed's or aihwkit's layers; its ranges are changed in place.
        batches: inputs of the network, each (B, C, *spatial), which are left unchanged; or a loader
            that yields them alone, as the first entry of a tuple, or in a mapping. A few dozen
            images are enough.
        quantile: quantile of the absolute inputs that sets the input range, in (0, 1].
        fit_outputs: whether to widen the input range of a row of tiles whose sums would exceed the
            range of the output converter, until all but 1 - ``quantile`` of them fit.
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
        own = calibrate(
            from_aihwkit(model), batches, quantile=quantile, fit_outputs=fit_outputs, key=key
        )
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
    if fit_outputs:
        fit_to_outputs(model, first, quantile)
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


class InputStatistics:
    """Distribution of the absolute inputs of each row of a layer's tiles, over all its calls.

    See :class:`analogmed.analog.histogram.Histogram` for its resolution.

    Args:
        name: full name of the layer, for errors.
        layer: analog layer, whose grid of tiles defines which inputs a row receives.

    Attributes:
        calls: number of calls counted.
    """

    def __init__(self, name: str, layer: AnalogLayer) -> None:
        self._name, self._layer = name, layer
        self._rows = [Histogram() for _ in layer.grid.rows]
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
            histogram.add(values.abs())
        self.calls += 1

    def ranges(self, quantile: float) -> Tensor:
        """Return the quantile of each row, shape (rows of tiles,).

        Where more than this share of the inputs is zero, it is the largest value; 1 where all are
        zero.
        """
        return torch.tensor([histogram.range(quantile) for histogram in self._rows])
