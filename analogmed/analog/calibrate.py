"""Input ranges from data: the converter's full scale is a high quantile of what a tile sees."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
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
    image. Here each batch runs digitally through the network, with no noise and no clipping, and
    the ranges are the mean of the batches' quantiles.

    Args:
        model: an analog model, of analogmed's layers or of aihwkit's; its ranges are changed in
            place.
        batches: inputs as the network gets them, each (B, C, *spatial). A few dozen images do.
        quantile: share of inputs that shall fit, in (0, 1].

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
    seen: dict[str, list[Tensor]] = defaultdict(list)
    _run(model, layers, ranged, batches, quantile, seen)
    if not seen:
        raise ConfigError("calibrate: no batch was given; the input ranges are unchanged")
    for name, ranges in seen.items():
        input_range = ranged[name].input_range
        assert input_range is not None
        input_range.copy_(mean_range(ranges))
    return model


def _run(
    model: nn.Module,
    layers: dict[str, AnalogLayer],
    ranged: dict[str, AnalogLayer],
    batches: Iterable[Tensor],
    quantile: float,
    seen: dict[str, list[Tensor]],
) -> None:
    def watch(name: str, layer: AnalogLayer, inputs: tuple[Tensor, ...]) -> None:
        seen[name].append(row_quantiles(name, layer, inputs[0], quantile))

    handles = [
        layer.register_forward_pre_hook(lambda la, inputs, name=name: watch(name, la, inputs))
        for name, layer in ranged.items()
    ]
    perfect = {id(la.rpu_config): la.rpu_config.forward for la in layers.values()}
    before = {key: io.is_perfect for key, io in perfect.items()}
    ranges = {name: layer.input_range for name, layer in ranged.items()}
    try:
        for io in perfect.values():
            io.is_perfect = True
        for layer in ranged.values():
            layer.input_range = None
        with evaluating(model):
            for batch in batches:
                if batch.numel() == 0:
                    raise ConfigError(f"calibrate: a batch is empty: shape {tuple(batch.shape)}")
                model(batch)
    finally:
        for key, io in perfect.items():
            io.is_perfect = before[key]
        for name, layer in ranged.items():
            layer.input_range = ranges[name]
        for handle in handles:
            handle.remove()


def row_quantiles(name: str, layer: AnalogLayer, inputs: Tensor, quantile: float) -> Tensor:
    """Quantile of the absolute inputs of each row of a layer's tiles.

    Args:
        name: of the layer, for errors.
        layer: whose grid of tiles says which inputs a row takes.
        inputs: of the layer, with or without a batch axis.
        quantile: in (0, 1].

    Returns:
        shape (rows of tiles,); NaN where all inputs of a row are zero.

    Raises:
        NonFiniteError: an input is NaN or Inf; names the layer.
    """
    if not torch.isfinite(inputs).all():
        raise NonFiniteError(f"calibrate: the input of layer '{name}' holds NaN or Inf")
    inputs = layer.batched(inputs)
    return torch.stack(
        [
            _quantile(layer.row_inputs(inputs, start, stop, vectors=False), quantile)
            for start, stop in layer.grid.rows
        ]
    )


def mean_range(quantiles: Sequence[Tensor]) -> Tensor:
    """Input ranges from the :func:`row_quantiles` of several batches.

    Returns:
        of each row, the mean over the batches that told something of it; 1 if none did.
    """
    return torch.stack(list(quantiles)).nanmean(0).nan_to_num(1.0)


def _quantile(values: Tensor, quantile: float) -> Tensor:
    """Exact quantile of |values|; ``torch.quantile`` refuses large tensors. NaN if all are zero."""
    flat = values.abs().flatten()
    rank = min(flat.numel(), max(1, math.ceil(quantile * flat.numel())))
    value = flat.kthvalue(rank).values
    largest = flat.max()
    return torch.where(value > 0, value, torch.where(largest > 0, largest, torch.nan))
