"""Mapping of the layers of a network onto crossbar tiles."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from torch import nn

from analogmed.foundation.errors import ConfigError, CoverageError
from analogmed.foundation.settings.checks import require_choice, require_whole
from analogmed.foundation.settings.forms import checks_arguments
from analogmed.hardware.tile_map import LayerTiles, RowSplit, TileMap
from analogmed.network.layers.digital_product import DigitalProduct
from analogmed.network.layers.matrix import MAPPED, TRANSPOSED, WeightMatrix
from analogmed.network.recurrent import unroll_recurrent
from analogmed.network.selection import (
    checked_patterns,
    digital_reason,
    multiplies_weight,
    refuse_unknown,
)
from analogmed.network.tiling import row_copies as copies_of
from analogmed.network.tiling import split_even, split_rows
from analogmed.network.trace import trace


@checks_arguments
def map_tiles(
    model: nn.Module,
    input_shape: Sequence[int],
    tile_size: int | Sequence[int] = 512,
    *,
    row_split: RowSplit = "even",
    transposed: Literal["analog", "digital"] = "analog",
    digital_layers: Iterable[str] = (),
    row_copies: int = 1,
) -> TileMap:
    """Map the convolutions, transposed convolutions and Linear layers of a network onto tiles.

    A convolution is a matrix of (input channels x kernel volume) rows and one column per output
    channel, used once per output position. A transposed convolution has one row per input channel
    and (output channels x kernel volume) columns, and is used once per input position; overlapping
    results are added digitally. A Linear layer is used once per vector. The bias is digital. A
    layer that is called several times is stored once, and its uses add up. Recurrent layers of
    torch are Linear layers; that of the state is called once per step. The layers are selected as
    in :func:`analogmed.convert`.

    Args:
        model: network; a copy of it runs once in evaluation mode.
        input_shape: shape of one input with its batch axis, (1, C, *spatial).
        tile_size: rows and columns of a tile; one number for both.
        row_split: ``"even"`` is aihwkit's split into ``ceil(rows / tile rows)`` nearly equal parts,
            as :func:`analogmed.convert` splits rows by default; ``"channels"`` keeps the rows of an
            input channel on one tile, which results in
            ``ceil(C_in / floor(tile rows / kernel volume))`` row tiles. A layer whose kernel volume
            exceeds the tile's rows is split evenly in both cases. Columns are always split evenly.
        transposed: ``"digital"`` keeps transposed convolutions digital, as in aihwkit and Hamzaoui
            et al.
        digital_layers: names or patterns (``"head*"``) of layers or blocks that stay digital, in
            addition to layers whose attribute ``stays_digital`` is true.
        row_copies: largest number of times that each weight is stored, as in
            :class:`analogmed.Hardware`.

    Returns:
        map of the layers that the network calls.

    Raises:
        ConfigError: an argument is out of range, or ``digital_layers`` matches no layer.
        CoverageError: no layer is mapped onto tiles.
        ShapeError: the network fails on an input of shape ``input_shape``.
    """
    size = _tile_shape(tile_size)
    if not isinstance(input_shape, Sequence) or not all(isinstance(n, int) for n in input_shape):
        raise ConfigError(
            "input_shape: expected whole numbers (1, C, *spatial), got "
            f"{type(input_shape).__name__}. Give images.shape."
        )
    require_choice("row_split", row_split, ("channels", "even"))
    require_whole("row_copies", row_copies, least=1)
    require_choice("transposed", transposed, ("analog", "digital"))
    model = unroll_recurrent(model)
    patterns = _known_patterns(model, digital_layers)
    analog, left_digital = _choose(model, transposed == "analog", patterns)
    countable = [name for name in left_digital if isinstance(model.get_submodule(name), _COUNTED)]
    traced = trace(model, [*analog, *countable], input_shape)
    vectors, macs = Counter[str](), Counter[str]()
    for call in traced.calls:
        vectors[call.layer] += call.vectors
        macs[call.layer] += call.macs
    layers = tuple(
        _lay(name, layer, vectors[name], size, row_split, row_copies)
        for name, layer in analog.items()
        if vectors[name] > 0
    )
    if not layers:
        raise CoverageError(
            f"{type(model).__name__} has no layer on tiles: none of its convolutions, transposed "
            "convolutions and Linear layers is both used by its forward pass and meant to be analog"
        )
    return TileMap(
        layers=layers,
        digital_layers=left_digital,
        unused_layers=tuple(name for name in analog if vectors[name] == 0),
        tile_size=size,
        row_split=row_split,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        leaf_modules=sum(not any(module.children()) for module in model.modules()),
        calls=traced.calls,
        skips=traced.skips,
        digital_macs={name: macs[name] for name in countable if macs[name] > 0},
    )


_COUNTED = (*MAPPED, DigitalProduct)
"""Digital layers whose multiply-accumulates are counted."""


def _tile_shape(tile_size: int | Sequence[int]) -> tuple[int, int]:
    sizes = (tile_size, tile_size) if isinstance(tile_size, int) else tuple(tile_size)
    if len(sizes) != 2 or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ConfigError(f"tile_size: expected rows and columns, 1 or more, found {tile_size}")
    return sizes[0], sizes[1]


def _known_patterns(model: nn.Module, digital: Iterable[str]) -> tuple[str, ...]:
    patterns = checked_patterns("digital_layers", digital)
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    refuse_unknown("digital_layers", patterns, names)
    return patterns


def _choose(
    model: nn.Module, transposed_too: bool, digital: tuple[str, ...]
) -> tuple[dict[str, nn.Module], tuple[str, ...]]:
    """Return the layers to map onto tiles by name, and the names of the digital layers."""
    analog: dict[str, nn.Module] = {}
    left_digital = []
    staying = {
        layer
        for name, layer in model.named_modules(remove_duplicate=False)  # aliases included
        if multiplies_weight(layer)
        and (
            digital_reason(name, layer, digital)
            or (isinstance(layer, TRANSPOSED) and not transposed_too)
        )
    }
    for name, layer in model.named_modules():
        if layer in staying:
            left_digital.append(name)
        elif multiplies_weight(layer):
            analog[name] = layer
    return analog, tuple(left_digital)


def _lay(
    name: str,
    layer: nn.Module,
    vectors: int,
    tile_size: tuple[int, int],
    row_split: RowSplit,
    most_copies: int,
) -> LayerTiles:
    matrix = WeightMatrix.of(layer)
    tile_rows, tile_cols = tile_size
    row_sizes = split_rows(matrix.rows, tile_rows, row_split, matrix.channel_rows)
    return LayerTiles(
        name=name,
        type=type(layer).__name__,
        rows=matrix.rows,
        cols=matrix.cols,
        groups=matrix.groups,
        row_sizes=row_sizes,
        col_sizes=split_even(matrix.cols, tile_cols),
        tile_size=tile_size,
        reuse_factor=vectors,
        transposed=isinstance(layer, TRANSPOSED),
        copies=copies_of(max(row_sizes), tile_rows, most_copies),
    )
