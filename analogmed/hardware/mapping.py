"""How the layers of a network lie on crossbar tiles, and how often each tile is used."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from torch import nn

from analogmed.errors import ConfigError, CoverageError
from analogmed.even_split import split_even
from analogmed.hardware.trace import CONVOLUTIONS, TRANSPOSED, Call, Skip, trace
from analogmed.layer_names import is_named, refuse_unknown

RowSplit = Literal["channels", "even"]
_ALWAYS_DIGITAL = (
    nn.MultiheadAttention,
    nn.modules.linear.NonDynamicallyQuantizableLinear,  # the attention's, read from outside
    nn.Bilinear,
    nn.RNNBase,
    nn.RNNCellBase,
)


@dataclass(frozen=True)
class LayerTiles:
    """One layer on tiles.

    A grouped layer is one matrix per group, each on its own tiles.

    Attributes:
        name: of the layer in its network.
        type: class name of the layer.
        rows: inputs of one group's matrix, R.
        cols: outputs of one group's matrix, C.
        groups: number of matrices.
        row_sizes: rows of each row tile of one group; they add up to ``rows``.
        col_sizes: columns of each column tile of one group; they add up to ``cols``.
        tile_size: rows and columns of a tile.
        reuse_factor: matrix-vector products per tile for one input, V.
        transposed: whether it is a transposed convolution.
    """

    name: str
    type: str
    rows: int
    cols: int
    groups: int
    row_sizes: tuple[int, ...]
    col_sizes: tuple[int, ...]
    tile_size: tuple[int, int]
    reuse_factor: int
    transposed: bool

    @property
    def tiles(self) -> int:
        """Tiles that the layer takes."""
        return self.groups * len(self.row_sizes) * len(self.col_sizes)

    @property
    def cells(self) -> int:
        """Tile cells that hold a weight."""
        return self.groups * self.rows * self.cols

    @property
    def utilisation(self) -> float:
        """Share of the cells of its tiles that hold a weight, in (0, 1]."""
        return self.cells / (self.tiles * math.prod(self.tile_size))

    @property
    def macs(self) -> int:
        """Multiplications for one input; positions of the padding count, as everywhere."""
        return self.reuse_factor * self.cells


@dataclass(frozen=True)
class TileMap:
    """The layers of a network on tiles.

    Attributes:
        layers: those on tiles, in the network's order.
        digital_layers: those that were to stay digital, and others that multiply a weight but have
            no place on tiles (torch's attention, recurrent and bilinear layers).
        unused_layers: those that the forward pass did not call; they are on no tile.
        tile_size: rows and columns of a tile.
        row_split: how rows were cut.
        parameters: of the whole network.
        leaf_modules: modules of the network that hold no other module.
        calls: of the layers on tiles and of those in ``digital_macs``, in the order of execution.
        skips: feature maps that outlive the call after the one that made them.
        digital_macs: multiplications for one input of each digital layer that is a convolution, a
            transposed convolution or a Linear layer.
    """

    layers: tuple[LayerTiles, ...]
    digital_layers: tuple[str, ...]
    unused_layers: tuple[str, ...]
    tile_size: tuple[int, int]
    row_split: RowSplit
    parameters: int
    leaf_modules: int
    calls: tuple[Call, ...]
    skips: tuple[Skip, ...]
    digital_macs: Mapping[str, int]

    def summary(self) -> dict[str, int | float]:
        """The whole network in numbers.

        Utilisation and reuse factor come as three means:

        - ``per_tile``: each tile counts once; the utilisation is then the share of all cells used.
        - ``per_layer``: each layer on tiles counts once.
        - ``per_leaf_module``: the seed paper's Table 1. The sum over the layers on tiles **without
          transposed convolutions**, divided by **all leaf modules** of the network (activations,
          norms and pools too). It follows the paper when ``row_split`` is ``"channels"``.

        The LGG U-Net (3 channels to 1, 32 features) on an input of 1 x 3 x 256 x 256, with tiles
        of 512 x 512 and ``row_split="channels"``, has per leaf module 7.427 % and 6574.73, as
        printed in the paper. With ``transposed="digital"`` too, so over its 19 convolutions, it
        has 65 tiles (147 of 256 x 256), 24.6 % per layer and 41.4 % per tile. On a chip that also
        computes its 4 transposed convolutions it has 70 tiles (159), 27.5 % and 42.3 %.

        Returns:
            ``parameters``, ``leaf_modules``, ``analog_layers``, ``tiles``, ``cells``, ``macs`` (of
            the layers on tiles, for one input), and ``utilisation_*`` (shares in (0, 1]) and
            ``reuse_factor_*`` for each of the three means.
        """
        return {
            "parameters": self.parameters,
            "leaf_modules": self.leaf_modules,
            "analog_layers": len(self.layers),
            "tiles": sum(layer.tiles for layer in self.layers),
            "cells": sum(layer.cells for layer in self.layers),
            "macs": sum(layer.macs for layer in self.layers),
            **self._means("utilisation", lambda layer: layer.utilisation),
            **self._means("reuse_factor", lambda layer: float(layer.reuse_factor)),
        }

    def table(self) -> pd.DataFrame:
        """One row per layer on tiles, in the network's order.

        Returns:
            columns ``layer``, ``type``, ``rows`` and ``cols`` (of one group's matrix), ``groups``,
            ``row_tiles`` and ``col_tiles`` (of one group), ``tiles``, ``cells``, ``utilisation``,
            ``reuse_factor``, ``macs``.
        """
        return pd.DataFrame(
            {
                "layer": layer.name,
                "type": layer.type,
                "rows": layer.rows,
                "cols": layer.cols,
                "groups": layer.groups,
                "row_tiles": len(layer.row_sizes),
                "col_tiles": len(layer.col_sizes),
                "tiles": layer.tiles,
                "cells": layer.cells,
                "utilisation": layer.utilisation,
                "reuse_factor": layer.reuse_factor,
                "macs": layer.macs,
            }
            for layer in self.layers
        )

    def _means(self, name: str, value: Callable[[LayerTiles], float]) -> dict[str, float]:
        tiles = sum(layer.tiles for layer in self.layers)
        mapped_by_paper = [layer for layer in self.layers if not layer.transposed]
        return {
            f"{name}_per_tile": sum(value(layer) * layer.tiles for layer in self.layers) / tiles,
            f"{name}_per_layer": sum(map(value, self.layers)) / len(self.layers),
            f"{name}_per_leaf_module": sum(map(value, mapped_by_paper)) / self.leaf_modules,
        }


def map_tiles(
    model: nn.Module,
    input_shape: Sequence[int],
    tile_size: int | Sequence[int] = 512,
    *,
    row_split: RowSplit = "channels",
    transposed: Literal["analog", "digital"] = "analog",
    digital: Iterable[str] = (),
) -> TileMap:
    """Lay the convolutions, transposed convolutions and Linear layers of a network on tiles.

    A convolution is a matrix of (input channels x kernel volume) rows and as many columns as output
    channels, used once per output position. A transposed convolution has a row per input channel
    and (output channels x kernel volume) columns, and is used once per input position; where
    kernels overlap, the results are added digitally. A Linear layer is used once per vector. The
    bias is digital. A layer called several times has its tiles once and adds up its uses.

    Args:
        model: the network; a copy of it is run once, in evaluation mode.
        input_shape: shape of one input with its batch axis, (1, C, *spatial).
        tile_size: rows and columns of a tile; one number for both.
        row_split: ``"channels"`` keeps the rows of an input channel on one tile, so that there are
            ``ceil(C_in / floor(tile rows / kernel volume))`` row tiles; ``"even"`` is aihwkit's,
            ``ceil(rows / tile rows)`` nearly equal parts. Columns are always cut evenly.
        transposed: ``"digital"`` puts no transposed convolution on tiles, as aihwkit and the seed
            paper do.
        digital: names (or patterns, ``"head*"``) of layers that stay digital, or of blocks whose
            layers all do; beside layers whose attribute ``stays_digital`` is true.

    Returns:
        the map of the layers that the network calls.

    Raises:
        ConfigError: an argument is out of its range, or ``digital`` names nothing.
        CoverageError: an input channel of a layer does not fit on a tile (``row_split="channels"``
            only), or no layer is on tiles.
        ShapeError: the network cannot be run on ``input_shape``.
    """
    size = _tile_shape(tile_size)
    _check_choice("row_split", row_split, ("channels", "even"))
    _check_choice("transposed", transposed, ("analog", "digital"))
    patterns = _known_patterns(model, digital)
    analog, left_digital = _choose(model, transposed == "analog", patterns)
    countable = [name for name in left_digital if _is_countable(model.get_submodule(name))]
    traced = trace(model, [*analog, *countable], input_shape)
    vectors: Counter[str] = Counter()
    for call in traced.calls:
        vectors[call.layer] += call.vectors
    layers = tuple(
        _lay(name, layer, vectors[name], size, row_split)
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
        digital_macs={
            name: vectors[name] * math.prod(_matrix(model.get_submodule(name))[:3])
            for name in countable
            if vectors[name] > 0
        },
    )


def _tile_shape(tile_size: int | Sequence[int]) -> tuple[int, int]:
    sizes = (tile_size, tile_size) if isinstance(tile_size, int) else tuple(tile_size)
    if len(sizes) != 2 or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ConfigError(f"tile_size: expected rows and columns, 1 or more, found {tile_size}")
    return sizes[0], sizes[1]


def _check_choice(name: str, value: str, choices: tuple[str, str]) -> None:
    if value not in choices:
        raise ConfigError(f"{name}: expected '{choices[0]}' or '{choices[1]}', found '{value}'")


def _known_patterns(model: nn.Module, digital: Iterable[str]) -> tuple[str, ...]:
    patterns = tuple(digital)
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    refuse_unknown("digital", patterns, names)
    return patterns


def _choose(
    model: nn.Module, transposed_too: bool, digital: tuple[str, ...]
) -> tuple[dict[str, nn.Module], tuple[str, ...]]:
    """The layers to put on tiles by name, and the names of those left digital."""
    analog: dict[str, nn.Module] = {}
    left_digital = []
    named = {
        layer
        for name, layer in model.named_modules(remove_duplicate=False)  # by either of two names
        if is_named(name, digital)
    }
    for name, layer in model.named_modules():
        if not isinstance(layer, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED, *_ALWAYS_DIGITAL)):
            continue
        stays = isinstance(layer, _ALWAYS_DIGITAL) or (
            isinstance(layer, TRANSPOSED) and not transposed_too
        )
        stays = stays or getattr(layer, "stays_digital", False)
        if stays or layer in named:
            left_digital.append(name)
        else:
            analog[name] = layer
    return analog, tuple(left_digital)


def _is_countable(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, *CONVOLUTIONS, *TRANSPOSED))


def _lay(
    name: str, layer: nn.Module, vectors: int, tile_size: tuple[int, int], row_split: RowSplit
) -> LayerTiles:
    rows, cols, groups, channel_rows = _matrix(layer)
    tile_rows, tile_cols = tile_size
    if row_split == "even":
        row_sizes = split_even(rows, tile_rows)
    elif channel_rows > tile_rows:
        raise CoverageError(
            f"layer '{name}': one input channel takes {channel_rows} rows (its kernel volume), but "
            f"a tile has {tile_rows}; use larger tiles or row_split='even'"
        )
    else:
        channels = split_even(rows // channel_rows, tile_rows // channel_rows)
        row_sizes = tuple(count * channel_rows for count in channels)
    return LayerTiles(
        name=name,
        type=type(layer).__name__,
        rows=rows,
        cols=cols,
        groups=groups,
        row_sizes=row_sizes,
        col_sizes=split_even(cols, tile_cols),
        tile_size=tile_size,
        reuse_factor=vectors,
        transposed=isinstance(layer, TRANSPOSED),
    )


def _matrix(layer: nn.Module) -> tuple[int, int, int, int]:
    """Rows and columns of one group's matrix, groups, and rows per input channel."""
    if isinstance(layer, CONVOLUTIONS):
        kernel = math.prod(layer.kernel_size)
        channels = layer.in_channels // layer.groups
        return channels * kernel, layer.out_channels // layer.groups, layer.groups, kernel
    if isinstance(layer, TRANSPOSED):
        kernel = math.prod(layer.kernel_size)
        columns = layer.out_channels // layer.groups * kernel
        return layer.in_channels // layer.groups, columns, layer.groups, 1
    assert isinstance(layer, nn.Linear)
    return layer.in_features, layer.out_features, 1, 1
