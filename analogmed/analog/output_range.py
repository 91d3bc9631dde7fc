"""Sums of tiles that exceed the range of the output converter, which cuts them off."""

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from analogmed.analog.histogram import Histogram
from analogmed.analog.ideal_tiles import ideal_tiles
from analogmed.analog.layers.base import AnalogLayer, ranged_layers
from analogmed.analog.tile.ir_drop import pulse_trains
from analogmed.network.walk import evaluating, hooked

LARGEST_SHARE = 0.3
"""Share of the sums of a layer above which a warning names it.

With larger shares, networks can lose their prediction; up to this one, none that was tried did.
"""
_MOST_NAMES = 3


def clipped_shares(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, float]:
    """Return the share of the sums of each layer that exceed the range of the output converter.

    The sums are those of target weights and calibrated inputs, without noise. Layers whose inputs
    are scaled vector by vector, or whose output converter has no range, are left out.

    Args:
        model: analog model with calibrated input ranges.
        batches: inputs of the network, each (B, C, *spatial).
    """
    clipped: dict[str, int] = defaultdict(int)
    counted: dict[str, int] = defaultdict(int)

    def count(name: str, row: int, excess: Tensor) -> None:
        clipped[name] += int((excess > 1).sum())
        counted[name] += excess.numel()

    _observe(model, batches, count)
    return {name: clipped[name] / counted[name] for name in counted}


@torch.no_grad()
def fit_to_outputs(model: nn.Module, batches: Iterable[Tensor], quantile: float) -> None:
    """Widen the input ranges of rows of tiles whose sums exceed the range of the output converter.

    Sums are in units of the input range, so that they shrink as it grows.

    Args:
        model, batches: as of :func:`clipped_shares`; the ranges of the model change in place.
        quantile: share of the sums that fit into the range afterwards, in (0, 1].
    """
    seen: dict[tuple[str, int], Histogram] = defaultdict(Histogram)
    _observe(model, batches, lambda name, row, excess: seen[name, row].add(excess))
    layers = ranged_layers(model)
    for (name, row), excess in seen.items():
        if (factor := excess.range(quantile)) > 1:
            layers[name].input_range[row] *= factor  # type: ignore[index]


def warn_of_clipped_sums(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Warn of the layers of which more than ``LARGEST_SHARE`` of the sums are cut off.

    Args:
        model, batches: as of :func:`clipped_shares`.
    """
    shares = clipped_shares(model, batches)
    above = sorted((n for n in shares if shares[n] > LARGEST_SHARE), key=lambda n: -shares[n])
    if not above:
        return
    bound = ranged_layers(model)[above[0]].rpu_config.forward.out_bound
    listed = ", ".join(
        f"{name or 'the model'} ({shares[name]:.0%})" for name in above[:_MOST_NAMES]
    )
    further = len(above) - _MOST_NAMES
    warnings.warn(
        f"calibrate: sums of {listed}{f' and {further} further layers' * (further > 0)} exceed the "
        f"range of the output converter (hardware.out_bound {bound:g}) and are cut off; expected "
        f"at most {LARGEST_SHARE:.0%} of a layer. Set calibration.fit_outputs true, keep "
        f"{above[0] or 'the model'} digital (digital_layers), or take tiles of fewer rows "
        "(hardware.tile_size) or a larger hardware.out_bound.",
        stacklevel=5,
    )


@torch.no_grad()
def _observe(
    model: nn.Module, batches: Iterable[Tensor], observe: Callable[[str, int, Tensor], object]
) -> None:
    """Run a model digitally, and observe the sums of its tiles.

    Args:
        model, batches: as of :func:`clipped_shares`.
        observe: function of the name of a layer, a row of its tiles, and absolute sums in units of
            the largest output.
    """
    layers = {name: layer for name, layer in ranged_layers(model).items() if _has_bound(layer)}
    ranges = {name: layer.input_range.clone() for name, layer in layers.items()}  # type: ignore[union-attr]

    def watch(name: str, layer: AnalogLayer) -> RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> None:
            values = layer.batched(inputs[0] if inputs else named["input"])
            for row, sums in _sums(layer, values, ranges[name]):
                observe(name, row, sums.abs() / layer.io.out_bound)

        return layer.register_forward_pre_hook(hook, with_kwargs=True)

    handles = (watch(name, layer) for name, layer in layers.items())
    with hooked(handles), ideal_tiles(model), evaluating(model):
        for batch in batches:
            model(batch.clone())


def _has_bound(layer: AnalogLayer) -> bool:
    io = layer.io
    return not io.is_perfect and 0 < io.out_bound < math.inf


def _sums(layer: AnalogLayer, inputs: Tensor, ranges: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each row of tiles with its sums in units of (input range x mapping scale)."""
    io = layer.io
    largest = io.inp_bound if io.inp_bound > 0 else math.inf
    places = zip(layer.grid.rows, layer.reference_rows(), ranges, strict=True)
    for number, ((start, stop), row, limit) in enumerate(places):
        values = layer.row_inputs(inputs, start, stop, vectors=False) / limit
        kernel = layer.row_kernel(row.weight, start, stop)
        for pulses in pulse_trains(values.clamp(-largest, largest), io):
            yield number, layer.kernel_product(pulses.values, kernel)
