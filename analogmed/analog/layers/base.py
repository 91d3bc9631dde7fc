"""Common base of all analog layers: tiles, their weights on a chip, and their products."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor, nn

from analogmed.analog.engines.select import EngineName, engine_for
from analogmed.analog.engines.vectors import KernelWindow
from analogmed.analog.tile.copies import most_copies, per_copy
from analogmed.analog.tile.modifier import modify
from analogmed.analog.tile.precision import full_precision
from analogmed.analog.tile.rows import LayerSnapshot, TileRow
from analogmed.analog.tile.weight_perturbation import WeightPerturbation
from analogmed.network.tiling import RowSplit, TileGrid, row_copies


class AnalogLayer(nn.Module):
    """Base class of the analog layers; subclasses add their linear map.

    Attributes:
        rpu_config: hardware configuration.
        engine: execution engine of the products.
        grid: cut of the weight matrix into tiles.
        copies: number of times that each weight is stored on rows of its tile.
        io: converters, bounds and noise, in units of the sum over one copy of the rows.
        reading: snapshot of the chip in use, which is set only during inference on a chip;
            otherwise ``None``.
        disturbance: weight perturbation of the present training step, if it was sampled beforehand.
        input_range: input range of each row of tiles, shape (row tiles,), or ``None``.
        calibrated: whether the input ranges were set from data.
        out_scale: learned factor on the outputs of each tile, shape (row tiles, groups, column
            tiles), or of each of its columns, shape (row tiles, groups, columns); ``None`` without
            learned scales.
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
        """Map the layer's weight matrix onto tiles."""
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
        rows = max(stop - start for start, stop in self.grid.rows)
        self.copies = row_copies(rows, mapping.max_input_size, most_copies(rpu_config))
        self.io = per_copy(rpu_config.forward, self.copies)
        self.reading: LayerSnapshot | None = None
        self.disturbance: WeightPerturbation | None = None
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
        """Return the weight as crossbars store it, shape (groups, columns, rows)."""
        raise NotImplementedError

    def set_weight_matrix(self, matrix: Tensor) -> None:
        """Set the weight from a matrix of ``weight_matrix``, in any memory format of the weight."""
        self.weight.copy_(matrix.reshape(self.weight.shape))

    def batched(self, inputs: Tensor) -> Tensor:
        """Return the layer's input with the batch as first and the channels as second dimension.

        Raises:
            ShapeError: the number of channels or dimensions of the input does not fit the layer.
        """
        raise NotImplementedError

    @property
    def channel_rows(self) -> int:
        """Number of crossbar rows per input channel."""
        return 1

    def reference_rows(self) -> tuple[TileRow, ...]:
        """Return the target weights of the tiles, before any programming."""
        matrix = self.weight_matrix()
        widths = [stop - start for start, stop in self.grid.rows]
        parts = matrix.split(widths, 2)  # split joins their gradients in one step
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
        """Return the learned factor per column of a row of tiles, (groups, columns), if any."""
        if self.out_scale is None:
            return None
        scales = self.out_scale[index]
        if self.rpu_config.mapping.out_scaling_columnwise:
            return scales
        widths = torch.tensor([stop - start for start, stop in self.grid.cols])
        return scales.repeat_interleave(widths.to(scales.device), 1)

    @contextmanager
    def use_snapshot(self, reading: LayerSnapshot) -> Iterator[None]:
        """Compute with the weights of a chip snapshot inside the ``with`` block."""
        previous, self.reading = self.reading, reading
        try:
            yield
        finally:
            self.reading = previous

    def tile_rows(self) -> tuple[TileRow, ...]:
        """Return the tiles to compute with: those of the chip snapshot, else the target weights.

        In training, the target weights are perturbed: by the perturbation of the step if any,
        otherwise by the hardware's weight modifier.
        """
        if self.reading:
            return self.reading.rows
        rows = self.reference_rows()
        if not self.training:
            return rows
        if self.disturbance:
            return self.disturbance.applied(rows)
        cols, modifier = self.grid.cols, self.rpu_config.modifier
        return tuple(
            TileRow(modify(row.weight, cols, modifier, self.copies), row.scale) for row in rows
        )

    def analog_product(self, inputs: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the matrix product of all tiles, plus a bias of shape (groups * columns,).

        Args:
            inputs: shape (B, channels, *positions).
            bias: bias that is added digitally.

        Returns:
            Outputs, shape (B, groups * columns, *output positions).
        """
        if torch.compiler.is_compiling():
            return _product_outside_graph(self, inputs, bias)
        return _product(self, inputs, bias)

    @property
    def patch(self) -> KernelWindow:
        """Input pixels that form one input vector."""
        return KernelWindow()

    vector_dim: int = 1

    def merge_groups(self, outputs: Tensor) -> Tensor:
        """Merge the columns of all groups of a ``vector_product`` into one dimension."""
        return outputs

    def row_channels(self, start: int, stop: int) -> tuple[int, int]:
        """Return the first channel per group that rows [start, stop) use, and the last plus one."""
        return start, stop

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        """Return the part of the layer's input that rows [start, stop) of the crossbar use.

        Args:
            inputs: shape (B, channels, *positions).
            start: first row.
            stop: row after the last one.
            vectors: whether to return separate input vectors; otherwise a convolution returns a
                feature map.
        """
        raise NotImplementedError

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """Return the weight of rows [start, stop) in the shape for ``kernel_product``."""
        raise NotImplementedError

    def kernel_product(self, inputs: Tensor, kernel: Tensor, *, padded: bool = False) -> Tensor:
        """Return the product of one row of tiles with the feature map of ``row_inputs``.

        Args:
            inputs: shape (B, channels, *positions).
            kernel: result of ``row_kernel``.
            padded: whether the inputs already have the padding of the first axis.
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
        """Return the gradients of ``kernel_product`` by its inputs and its kernel, where requested.

        The product itself is not computed. Inputs and kernel may have any number of channels.

        Args:
            gradient: gradient by the product.
            inputs: shape (B, channels, *positions).
            kernel: shape (columns, channels / groups, *kernel).
            by_inputs: whether to return the gradient by the inputs.
            by_kernel: whether to return the gradient by the kernel.
        """
        raise NotImplementedError

    def vector_product(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """Return the product of one row of tiles with the input vectors of ``row_inputs``.

        Args:
            inputs: shape (B, groups, rows, *positions).
            weight: shape (groups, columns, rows).
        """
        return torch.matmul(weight, inputs.flatten(3)).unflatten(3, inputs.shape[3:])


def analog_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """Return the analog layers of a model by name."""
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, AnalogLayer)}


def ranged_layers(model: nn.Module) -> dict[str, AnalogLayer]:
    """Return the analog layers that have input ranges, by name."""
    layers = analog_layers(model).items()
    return {name: layer for name, layer in layers if layer.input_range is not None}


def _product(layer: AnalogLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
    with full_precision(inputs.device):
        return engine_for(layer, inputs).product(layer, inputs, bias)


@torch._disable_dynamo  # imports Dynamo, which takes seconds, only if Dynamo is in use
def _product_outside_graph(layer: AnalogLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
    """Compute the product between the graphs of ``torch.compile``, which cannot trace it."""
    return _product(layer, inputs, bias)
