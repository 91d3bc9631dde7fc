"""Layers of a network on crossbar tiles: number of tiles, utilisation and reuse."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from analogmed.foundation.text import Rendered, shortened
from analogmed.network.tiling import RowSplit as RowSplit
from analogmed.network.trace import Call, Skip


@dataclass(frozen=True)
class LayerTiles:
    """One layer on tiles.

    A grouped layer has one matrix per group, each on separate tiles.

    Attributes:
        name: name of the layer in its network.
        type: class name of the layer.
        rows: number of inputs of one group's matrix, R.
        cols: number of outputs of one group's matrix, C.
        groups: number of matrices.
        row_sizes: rows of each row tile of one group; they sum to ``rows``.
        col_sizes: columns of each column tile of one group; they sum to ``cols``.
        tile_size: rows and columns of a tile.
        reuse_factor: number of MVMs per tile for one input, V.
        transposed: whether the layer is a transposed convolution.
        copies: number of times that each weight is stored, on rows below each other.
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
    copies: int = 1

    @property
    def tiles(self) -> int:
        """Number of tiles of the layer."""
        return self.groups * len(self.row_sizes) * len(self.col_sizes)

    @property
    def cells(self) -> int:
        """Number of tile cells that store a weight, each copy included."""
        return self.copies * self.groups * self.rows * self.cols

    @property
    def utilisation(self) -> float:
        """Share of the cells of its tiles that store a weight, in (0, 1]."""
        return self.cells / (self.tiles * math.prod(self.tile_size))

    @property
    def macs(self) -> int:
        """Number of MACs for one input, including padding positions."""
        return self.reuse_factor * self.groups * self.rows * self.cols


@dataclass(frozen=True, repr=False)
class TileMap(Rendered):
    """The layers of a network on tiles.

    Attributes:
        layers: layers on tiles, in the network's order.
        digital_layers: layers that were requested to stay digital, and others that multiply a
            weight but cannot be mapped onto tiles (torch's attention and bilinear layers, and
            layers that declare a digital product).
        unused_layers: layers that the forward pass did not call; they are not mapped.
        tile_size: rows and columns of a tile.
        row_split: row splitting method.
        parameters: number of parameters of the whole network.
        leaf_modules: number of modules without child modules.
        calls: calls of the layers on tiles and in ``digital_macs``, in the order of execution.
        skips: feature maps that are needed after the call that follows their producer.
        digital_macs: MACs for one input of each digital layer that is a convolution, a
            transposed convolution or a Linear layer, or declares its products.
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

    def facts(self) -> dict[str, object]:
        """Return parameters, tiles and their utilisation, and the layers without tiles."""
        tiles, cells = (sum(getattr(layer, n) for layer in self.layers) for n in ("tiles", "cells"))
        rows, columns = self.tile_size
        return {
            "parameters": f"{self.parameters:,}",
            "layers on tiles": len(self.layers),
            "tiles": f"{tiles} of {rows} x {columns}",
            "utilisation": f"{cells / (tiles * rows * columns):.1%}" if tiles else "0.0%",
            "digital": shortened(self.digital_layers),
            "not called": shortened(self.unused_layers),
        }

    def summary(self) -> dict[str, int | float]:
        """Return the metrics of the whole network.

        Utilisation and reuse factor are reported as three means:

        - ``per_tile``: each tile counts once; the utilisation is then the share of all cells used.
        - ``per_layer``: each layer on tiles counts once.
        - ``per_leaf_module``: as in Table 1 of Hamzaoui et al. The sum over the layers on tiles
          **without transposed convolutions**, divided by **all leaf modules** of the network
          (activations, norms and pools too). It reproduces the paper if ``row_split`` is
          ``"channels"``.

        For the LGG U-Net (3 channels to 1, 32 features) on an input of 1 x 3 x 256 x 256, with
        tiles of 512 x 512 and ``row_split="channels"``, the utilisation per leaf module is 7.427 %
        and the reuse factor 6574.73, as printed in the paper. With ``transposed="digital"``, i.e.
        over its 19 convolutions, it has 65 tiles (147 of 256 x 256), and a utilisation of 24.6 %
        per layer and 41.4 % per tile. With its 4 transposed convolutions on tiles too, it has 70
        tiles (159), and a utilisation of 27.5 % and 42.3 %.

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
        """Return one row per layer on tiles, in the network's order.

        Returns:
            columns ``layer``, ``type``, ``rows`` and ``cols`` (of one group's matrix), ``groups``,
            ``row_tiles`` and ``col_tiles`` (of one group), ``copies`` (if a layer has several),
            ``tiles``, ``cells``, ``utilisation``, ``reuse_factor``, ``macs``.
        """
        table = pd.DataFrame(
            {
                "layer": layer.name,
                "type": layer.type,
                "rows": layer.rows,
                "cols": layer.cols,
                "groups": layer.groups,
                "row_tiles": len(layer.row_sizes),
                "col_tiles": len(layer.col_sizes),
                "copies": layer.copies,
                "tiles": layer.tiles,
                "cells": layer.cells,
                "utilisation": layer.utilisation,
                "reuse_factor": layer.reuse_factor,
                "macs": layer.macs,
            }
            for layer in self.layers
        )
        has_copies = any(layer.copies > 1 for layer in self.layers)
        return table if has_copies else table.drop(columns="copies")

    def digital_table(self) -> pd.DataFrame:
        """Return one row per digital layer, in the network's order.

        Returns:
            columns ``layer``, ``macs`` (for one input; empty where they are not counted, as in
            attention) and ``mac_share`` (of the counted MACs of the whole network).
        """
        total = sum(layer.macs for layer in self.layers) + sum(self.digital_macs.values())
        macs = [self.digital_macs.get(name, math.nan) for name in self.digital_layers]
        shares = [count / total for count in macs]
        columns = {"layer": list(self.digital_layers), "macs": macs, "mac_share": shares}
        return pd.DataFrame(columns)

    def _means(self, name: str, value: Callable[[LayerTiles], float]) -> dict[str, float]:
        tiles = sum(layer.tiles for layer in self.layers)
        mapped_by_paper = [layer for layer in self.layers if not layer.transposed]
        return {
            f"{name}_per_tile": sum(value(layer) * layer.tiles for layer in self.layers) / tiles,
            f"{name}_per_layer": sum(map(value, self.layers)) / len(self.layers),
            f"{name}_per_leaf_module": sum(map(value, mapped_by_paper)) / self.leaf_modules,
        }
