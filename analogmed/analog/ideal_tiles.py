"""Digital computation of an analog model: ideal tiles without converters and noise."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from analogmed.analog.layers.base import analog_layers


@contextmanager
def ideal_tiles(model: nn.Module) -> Iterator[nn.Module]:
    """Compute the analog layers of a model digitally within the context.

    Args:
        model: analog model with analogmed's layers; no chip of it may be read meanwhile.
    """
    layers = list(analog_layers(model).values())
    converters = {id(layer.io): layer.io for layer in layers}
    before = {key: io.is_perfect for key, io in converters.items()}
    ranges = [layer.input_range for layer in layers]
    try:
        for io in converters.values():
            io.is_perfect = True
        for layer in layers:
            layer.input_range = None
        yield model
    finally:
        for key, io in converters.items():
            io.is_perfect = before[key]
        for layer, input_range in zip(layers, ranges, strict=True):
            layer.input_range = input_range
