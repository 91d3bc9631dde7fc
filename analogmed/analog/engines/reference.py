"""Reference engine for the products of tiles: plain torch, on any device, with gradients."""

from typing import cast

from torch import Tensor

from analogmed.analog.engines.interface import TiledLayer
from analogmed.analog.tile.ir_drop import WireModel, is_transient
from analogmed.analog.tile.product import Crossbar, disturbs_sums, read_tile, sees_vectors
from analogmed.analog.tile.range_gradient import pass_range_gradient
from analogmed.analog.tile.rows import TileRow


class TorchEngine:
    """Reference engine, on any device, with gradients."""

    def product(self, layer: TiledLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`analogmed.analog.engines.interface.Engine`."""
        rows = layer.tile_rows()
        total = self._read_row(layer, inputs, 0, rows[0])
        for index, row in enumerate(rows[1:], start=1):
            total += self._read_row(layer, inputs, index, row)
        return total if bias is None else total + _along_channels(bias, total)

    def _read_row(self, layer: TiledLayer, inputs: Tensor, index: int, row: TileRow) -> Tensor:
        io = layer.io
        start, stop = layer.grid.rows[index]
        weight, scale = row.weight, row.scale
        generator = layer.reading.generator if layer.reading else None
        vectors = sees_vectors(io)
        part = layer.row_inputs(inputs, start, stop, vectors=vectors)
        if layer.input_range is not None:
            limit = layer.input_range[index]
            part = part.clamp(-limit.detach().abs(), limit.detach().abs())
            if layer.training:
                part = pass_range_gradient(part, limit, layer.rpu_config.pre_post.input_range)
            part, scale = part / limit, scale * limit
        kernel = None if vectors else layer.row_kernel(weight, start, stop)

        def product(values: Tensor) -> Tensor:
            if kernel is None:
                return layer.vector_product(values, weight)
            return layer.kernel_product(values, kernel)

        crossbar = self._crossbar(layer, index, weight, part.ndim) if disturbs_sums(io) else None
        outputs = read_tile(
            part,
            product,
            io,
            vector_dim=layer.vector_dim,
            generator=generator,
            crossbar=crossbar,
        )
        if vectors:
            outputs = layer.merge_groups(outputs)
        return outputs * _along_channels(scale, outputs)

    def _crossbar(self, layer: TiledLayer, index: int, weight: Tensor, ndim: int) -> Crossbar:
        io = layer.io
        span = layer.grid.rows[index]
        groups, columns, _ = weight.shape
        vectors = sees_vectors(io)

        def product(values: Tensor, matrix: Tensor) -> Tensor:
            if vectors:
                return layer.vector_product(values, matrix)
            kernel = layer.row_kernel(matrix.expand(groups, columns, -1), *span)
            if matrix.shape[1] == columns:
                return layer.kernel_product(values, kernel)
            single = kernel.unflatten(0, (groups, columns))[:, 0]
            return layer.kernel_product(values, single).repeat_interleave(columns, 1)

        def per_column(values: Tensor) -> Tensor:
            if vectors and layer.vector_dim == 2:
                return values.reshape(1, groups, columns, *(1,) * (ndim - 3))
            return values.reshape(1, groups * columns, *(1,) * (ndim - 2))

        return Crossbar(weight, product, per_column, self._wires(layer, index, weight))

    def _wires(self, layer: TiledLayer, index: int, weight: Tensor) -> WireModel | None:
        io = layer.io
        if layer.training or not is_transient(io) or io.ir_drop == 0:
            return None
        kept = layer.reading.prepared if layer.reading else {}
        if ("wires", index) not in kept:
            kept["wires", index] = WireModel.of(weight, layer.grid.cols, layer.rpu_config)
        return cast(WireModel, kept["wires", index])


def _along_channels(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1,) * (like.ndim - 2))
