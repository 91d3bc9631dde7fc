"""Input ranges from data: the converter's full scale is a high quantile of what a tile sees."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from aihwkit.nn.modules.base import AnalogLayerBase
from torch import Tensor, nn

from analogmed.analog.aihwkit_layers import from_aihwkit, is_analog, set_ranges_like
from analogmed.analog.layers import AnalogLayer
from analogmed.analog.traverse import evaluating
from analogmed.errors import ConfigError, CoverageError, NonFiniteError


@torch.no_grad()
def calibrate(
    model: nn.Module, batches: Iterable[Tensor], *, quantile: float = 0.9995
) -> nn.Module:
    """Set the input range of every row tile to a quantile of the absolute inputs that reach it.

    aihwkit starts from three standard deviations about the mean, which clips half of a bright
    image. Here all batches run digitally through the network, with no noise and no clipping. The
    range is the quantile of all values of all batches and calls together, so that it depends
    neither on the batch size nor on the order; see :class:`InputStatistics` for its resolution.

    Args:
        model: an analog model, of analogmed's layers or of aihwkit's; its ranges are changed in
            place.
        batches: inputs as the network gets them, each (B, C, *spatial); they are left as they are.
            A few dozen images are enough.
        quantile: share of inputs that must fit, in (0, 1].

    Returns:
        ``model``, for chaining.

    Raises:
        ConfigError: no batch, an empty one, or ``quantile`` outside (0, 1].
        CoverageError: the model has no analog layer with an input range.
        NonFiniteError: an activation is NaN or Inf; names the layer.
    """
    if not 0 < quantile <= 1:
        raise ConfigError(f"calibrate: quantile must lie in (0, 1], got {quantile}")
    layers = {n: m for n, m in model.named_modules() if isinstance(m, AnalogLayer)}
    if not layers and any(map(is_analog, model.modules())):
        own = calibrate(from_aihwkit(model), batches, quantile=quantile)
        return set_ranges_like(model, own)
    if not layers:
        raise CoverageError("calibrate: the model has no analog layer; convert it first")
    ranged = {name: layer for name, layer in layers.items() if layer.input_range is not None}
    if not ranged:
        return model  # the hardware scales each vector by itself
    seen = {name: InputStatistics(name, layer) for name, layer in ranged.items()}
    _run(model, layers, ranged, batches, seen)
    for name, statistics in seen.items():
        input_range = ranged[name].input_range
        assert input_range is not None
        if statistics.calls:
            input_range.copy_(statistics.ranges(quantile))
        ranged[name].calibrated = True
    return model


def check_calibrated(model: nn.Module) -> None:
    """Raise an error for an analog model whose input ranges were never set.

    Such a model was not calibrated, and all its ranges have the value that they start from. Ranges
    that were loaded, learned or set by hand differ from it in at least one layer.

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
    """Input ranges of a layer or of its tiles, with the value that they start from."""
    parts: Iterable[Any] = layer.analog_tiles() if isinstance(layer, AnalogLayerBase) else [layer]
    return [
        (part.input_range.detach(), part.rpu_config.pre_post.input_range.init_value)
        for part in parts
        if getattr(part, "input_range", None) is not None
    ]


def _run(
    model: nn.Module,
    layers: dict[str, AnalogLayer],
    ranged: dict[str, AnalogLayer],
    batches: Iterable[Tensor],
    seen: dict[str, "InputStatistics"],
) -> None:
    handles = [seen[name].watch(layer) for name, layer in ranged.items()]
    perfect = {id(la.rpu_config): la.rpu_config.forward for la in layers.values()}
    before = {key: io.is_perfect for key, io in perfect.items()}
    ranges = {name: layer.input_range for name, layer in ranged.items()}
    empty = True
    try:
        for io in perfect.values():
            io.is_perfect = True
        for layer in ranged.values():
            layer.input_range = None
        with evaluating(model):
            for batch in batches:
                if batch.numel() == 0:
                    raise ConfigError(f"calibrate: a batch is empty: shape {tuple(batch.shape)}")
                empty = False
                model(batch.clone())  # a network may change its input in place
    finally:
        for key, io in perfect.items():
            io.is_perfect = before[key]
        for name, layer in ranged.items():
            layer.input_range = ranges[name]
        for handle in handles:
            handle.remove()
    if empty:
        raise ConfigError("calibrate: no batch was given; the input ranges are unchanged")


_MANTISSA_BITS = 12
_SHIFT = 23 - _MANTISSA_BITS  # float32 has 23


class InputStatistics:
    """Distribution of the absolute inputs of each row of a layer's tiles, over all its calls.

    Values are counted in bins of the float32 format with 12 bits of mantissa, so that counts of any
    batches add up. A quantile is the upper edge of its bin, at most 1/4096 above the exact one, or
    the largest value if that is less.

    Args:
        name: full name of the layer, for errors.
        layer: its grid of tiles defines which inputs a row takes.

    Attributes:
        calls: number of calls counted.
    """

    def __init__(self, name: str, layer: AnalogLayer) -> None:
        self._name, self._layer = name, layer
        self._counts: list[tuple[Tensor, Tensor] | None] = [None] * len(layer.grid.rows)
        self._largest = [0.0] * len(layer.grid.rows)
        self.calls = 0

    def watch(self, layer: nn.Module) -> Any:
        """Count the inputs of each call of a layer; returns the hook's handle."""

        def count(_: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            self.add(inputs[0] if inputs else named["input"])

        return layer.register_forward_pre_hook(count, with_kwargs=True)

    @torch.no_grad()
    def add(self, inputs: Tensor) -> None:
        """Count the inputs of one call, with or without a batch axis.

        Raises:
            NonFiniteError: an input is NaN or Inf; names the layer.
        """
        if not torch.isfinite(inputs).all():
            raise NonFiniteError(f"calibrate: the input of layer '{self._name}' holds NaN or Inf")
        inputs = self._layer.batched(inputs)
        for index, (start, stop) in enumerate(self._layer.grid.rows):
            values = self._layer.row_inputs(inputs, start, stop, vectors=False)
            self._count(index, values.abs().flatten().float())
        self.calls += 1

    def ranges(self, quantile: float) -> Tensor:
        """Return the quantile of each row, shape (rows of tiles,).

        Where more than this share is zero, it is the largest value; 1 where all values are zero.
        """
        return torch.tensor([self._range(index, quantile) for index in range(len(self._counts))])

    def _count(self, index: int, values: Tensor) -> None:
        if values.numel() == 0:
            return
        counts = torch.bincount(values.view(torch.int32) >> _SHIFT)
        bins = counts.nonzero().flatten()
        counts = counts[bins]
        known = self._counts[index]
        if known is not None:
            bins, places = torch.cat([known[0], bins]).unique(return_inverse=True)
            counts = torch.zeros_like(bins).index_add(0, places, torch.cat([known[1], counts]))
        self._counts[index] = bins, counts
        self._largest[index] = max(self._largest[index], float(values.max()))

    def _range(self, index: int, quantile: float) -> float:
        known, largest = self._counts[index], self._largest[index]
        if known is None or largest == 0:
            return 1.0
        bins, counts = known
        total = counts.cumsum(0)
        number = int(total[-1])
        rank = min(number, max(1, math.ceil(quantile * number)))
        found = int(bins[int((total < rank).sum())])
        if found == 0:  # zeros
            return largest
        edge = torch.tensor((found + 1) << _SHIFT, dtype=torch.int32).view(torch.float32)
        return min(float(edge), largest)
