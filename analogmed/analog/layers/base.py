"""What all analog layers have in common: tiles, what a chip holds of them, and their product."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor, nn

from analogmed.analog.engines.select import EngineName, engine_for
from analogmed.analog.engines.vectors import Patch
from analogmed.analog.tile.modifier import modify
from analogmed.analog.tile.precision import full_precision
from analogmed.analog.tile.rows import Reading, TileRow
from analogmed.analog.tile.weight_perturbation import Disturbance
from analogmed.network.tiling import RowSplit, TileGrid


class AnalogLayer(nn.Module):
    """Shared part of the analog layers; the concrete ones add their linear map.

    Attributes:
        rpu_config: the hardware.
        engine: who computes the products.
        grid: the tiles.
        reading: the chip that is read, if one is; for a time, as is the next.
        disturbance: weights of the present step of training, if they were drawn beforehand.
        input_range: largest input of each row tile, shape (row tiles,), or ``None``.
        calibrated: whether the input range was set from data.
        out_scale: learned factor on the outputs of each tile, shape (row tiles, groups, column
            tiles), or of each of its columns, (row tiles, groups, columns); ``None`` without.
    """

    weight: Tensor
    bias: Any
    input_range: Tensor | None
    out_scale: Tensor | None
    groups: int = 1
    calibrated: bool = False

    def to_tiles(
        self,
        rpu_config: TorchInferenceRPUConfig,
        row_split: RowSplit,
        engine: EngineName = "auto",
    ) -> None:
        """Lay the layer's matrix on tiles."""
        matrix = self.weight_matrix()
        mapping = rpu_config.mapping
        self.rpu_config = rpu_config
        self.row_split = row_split
        self.engine = engine
        self.grid = TileGrid.cut(
            matrix.shape[2],
            matrix.shape[1],
            max_rows=mapping.max_input_size,
            max_cols=mapping.max_output_size,
            row_split=row_split,
            channel_rows=self.channel_rows,
        )
        self.reading: Reading | None = None
        self.disturbance: Disturbance | None = None
        self._init_input_range()
        self._init_out_scale()

    def _init_out_scale(self) -> None:
        mapping = self.rpu_config.mapping
        if not mapping.learn_out_scaling:
            self.out_scale = None
            return
        groups, columns, _ = self.weight_matrix().shape
        each = columns if mapping.out_scaling_columnwise else len(self.grid.cols)
        ones = torch.ones(len(self.grid.rows), groups, each)
        self.out_scale = nn.Parameter(ones.to(self.weight))

    def _init_input_range(self) -> None:
        ranges = self.rpu_config.pre_post.input_range
        if not ranges.enable:
            self.input_range = None
            return
        initial = torch.full((len(self.grid.rows),), ranges.init_value).to(self.weight)
        if ranges.learn_input_range:
            self.input_range = nn.Parameter(initial)
        else:
            self.register_buffer("input_range", initial)

    def weight_matrix(self) -> Tensor:
        """The weight as crossbars hold it, shape (groups, columns, rows)."""
        raise NotImplementedError

    def set_weight_matrix(self, matrix: Tensor) -> None:
        """Put back what ``weight_matrix`` gave, whatever memory format the weight has."""
        self.weight.copy_(matrix.reshape(self.weight.shape))

    def batched(self, inputs: Tensor) -> Tensor:
        """The layer's input with a batch dimension first and the channels second.

        Raises:
            ShapeError: the input has other channels or dimensions than the layer takes.
        """
        raise NotImplementedError

    @property
    def channel_rows(self) -> int:
        """Crossbar rows that one input channel takes."""
        return 1

    def reference_rows(self) -> tuple[TileRow, ...]:
        """The tiles as the trained weight asks for them, before any programming."""
        matrix = self.weight_matrix()
        widths = [stop - start for start, stop in self.grid.rows]
        parts = matrix.split(widths, 2)  # whose gradients go together in one piece
        return tuple(self._map(part, index) for index, part in enumerate(parts))

    def _map(self, weight: Tensor, index: int) -> TileRow:
        columnwise = self.rpu_config.mapping.weight_scaling_columnwise
        largest = weight.detach().abs().amax(2)  # (groups, columns)
        scale = torch.empty_like(largest)
        for start, stop in self.grid.cols:
            block = largest[:, start:stop]
            scale[:, start:stop] = block if columnwise else block.amax(1, keepdim=True)
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        mapped = weight / scale[:, :, None]
        learned = self.learned_scales(index)
        return TileRow(mapped, scale if learned is None else scale * learned)

    def learned_scales(self, index: int) -> Tensor | None:
        """The learned factor on each column of a row of tiles, (groups, columns), if any."""
        if self.out_scale is None:
            return None
        scales = self.out_scale[index]
        if self.rpu_config.mapping.out_scaling_columnwise:
            return scales
        widths = torch.tensor([stop - start for start, stop in self.grid.cols])
        return scales.repeat_interleave(widths.to(scales.device), 1)

    @contextmanager
    def lent(self, reading: Reading) -> Iterator[None]:
        """Compute with a chip's weights inside the ``with`` block."""
        previous, self.reading = self.reading, reading
        try:
            yield
        finally:
            self.reading = previous

    def tile_rows(self) -> tuple[TileRow, ...]:
        """The tiles to compute with: those of the chip that is read, else those asked for.

        In training, these are disturbed: as the step has it, else by the hardware's modifier.
        """
        if self.reading:
            return self.reading.rows
        rows = self.reference_rows()
        if not self.training:
            return rows
        if self.disturbance:
            return self.disturbance.applied(rows)
        cols, modifier = self.grid.cols, self.rpu_config.modifier
        return tuple(TileRow(modify(row.weight, cols, modifier), row.scale) for row in rows)

    def analog_product(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """The matrix product of all tiles, with a bias of shape (groups * columns,).

        Args:
            inputs: shape (B, channels, *positions).
            bias: added digitally.

        Returns:
            shape (B, groups * columns, *output positions).
        """
        if torch.compiler.is_compiling():
            return _product_outside_graph(self, inputs, bias)
        return _product(self, inputs, bias)

    @property
    def patch(self) -> Patch:
        """The pixels of its input that an input vector is taken from."""
        return Patch()

    vector_dim: int = 1

    def merge_groups(self, outputs: Tensor) -> Tensor:
        """Put the columns of all groups, which ``vector_product`` gives, into one dimension."""
        return outputs

    def row_channels(self, start: int, stop: int) -> tuple[int, int]:
        """First channel of a group that the rows [start, stop) see, and the one after the last."""
        return start, stop

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        """What the rows [start, stop) of the crossbar see of the layer's input.

        Args:
            inputs: shape (B, channels, *positions).
            start: first row.
            stop: row after the last.
            vectors: give each input vector apart; else a convolution gives the feature map.
        """
        raise NotImplementedError

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """The weight of the rows [start, stop) in the shape that ``kernel_product`` takes."""
        raise NotImplementedError

    def kernel_product(self, inputs: Tensor, kernel: Tensor, *, padded: bool = False) -> Tensor:
        """The product of one row of tiles with the feature map that ``row_inputs`` gave.

        Args:
            inputs: shape (B, channels, *positions).
            kernel: what ``row_kernel`` gave.
            padded: the inputs have the padding of the first axis.
        """
        raise NotImplementedError

    def kernel_gradients(
        self,
        gradient: Tensor,
        inputs: Tensor,
        kernel: Tensor,
        *,
        by_inputs: bool,
        by_kernel: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the gradients of ``kernel_product`` by its inputs and its kernel, where wanted.

        The product is not computed for it. Inputs and kernel may have any number of channels.

        Args:
            gradient: by the product.
            inputs: shape (B, channels, *positions).
            kernel: shape (columns, channels / groups, *kernel).
            by_inputs: whether that gradient is wanted.
            by_kernel: whether that gradient is wanted.
        """
        raise NotImplementedError

    def vector_product(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """The product of one row of tiles with the input vectors that ``row_inputs`` gave.

        Args:
            inputs: shape (B, groups, rows, *positions).
            weight: shape (groups, columns, rows).
        """
        return torch.matmul(weight, inputs.flatten(3)).unflatten(3, inputs.shape[3:])


def _product(layer: AnalogLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
    with full_precision(inputs.device):
        return engine_for(layer, inputs).product(layer, inputs, bias)


@torch._disable_dynamo  # imports Dynamo, which takes seconds, only where it runs already
def _product_outside_graph(layer: AnalogLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the product between the graphs of ``torch.compile``, which cannot trace it."""
    return _product(layer, inputs, bias)
