"""Analog layers: torch's own layers, whose product runs through crossbar tiles.

A layer keeps its plain digital weight as its parameter, so that state dicts, optimizers and copies
work as in torch. What a chip holds (its noisy weights) is lent to the layer while the chip is read.

Under ``torch.autocast`` these layers compute in the type of their weight, float32: an input in
bfloat16 is cast up, and the output is float32. Bfloat16 has no more bits than the converters, and
would round weights more coarsely than their noise. What is digital between them profits: matrix
products of attention, digital layers, and activations that those give.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from aihwkit.simulator.configs import TorchInferenceRPUConfig
from torch import Tensor, nn

from analogmed.analog.disturbance import Disturbance
from analogmed.analog.engine import EngineName, engine_for
from analogmed.analog.input_vectors import Patch
from analogmed.analog.modifier import modify
from analogmed.analog.noise_stream import NoiseStream
from analogmed.analog.precision import full_precision, in_type_of_weight
from analogmed.analog.tile import RowSplit, TileGrid, sees_vectors
from analogmed.errors import ShapeError

_CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True)
class TileRow:
    """What the crossbars of one row of tiles hold.

    Attributes:
        weight: in units of the mapping scale, shape (groups, columns, rows).
        scale: mapping scale of each column, drift compensation and learned scale included, shape
            (groups, columns).
    """

    weight: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Reading:
    """The tiles of one layer as one read of a chip finds them, and the noise of the read.

    Attributes:
        rows: the rows of tiles.
        stream: source of the output noise.
        prepared: what an engine keeps of the rows while the reading lasts.
    """

    rows: tuple[TileRow, ...]
    stream: NoiseStream
    prepared: dict[Any, Any] = field(default_factory=dict)

    @property
    def generator(self) -> torch.Generator:
        """Source of the noise that torch draws."""
        return self.stream.generator


class AnalogLayer(nn.Module):
    """Shared part of the analog layers; the concrete ones add their linear map.

    Attributes:
        rpu_config: the hardware.
        engine: who computes the products.
        grid: the tiles.
        reading: the chip that is read, if one is; for a time, as is the next.
        disturbance: weights of the present step of training, if they were drawn beforehand.
        input_range: largest input of each row tile, shape (row tiles,), or ``None``.
        out_scale: learned factor on the outputs of each tile, shape (row tiles, groups, column
            tiles), or of each of its columns, (row tiles, groups, columns); ``None`` without.
    """

    weight: Tensor
    bias: Any
    input_range: Tensor | None
    out_scale: Tensor | None
    groups: int = 1

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
        with full_precision(inputs.device):
            return engine_for(self, inputs).product(self, inputs, bias)

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

    def vector_product(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """The product of one row of tiles with the input vectors that ``row_inputs`` gave.

        Args:
            inputs: shape (B, groups, rows, *positions).
            weight: shape (groups, columns, rows).
        """
        return torch.matmul(weight, inputs.flatten(3)).unflatten(3, inputs.shape[3:])


class AnalogLinear(AnalogLayer, nn.Linear):
    """``nn.Linear`` on tiles."""

    def weight_matrix(self) -> Tensor:
        """See :class:`AnalogLayer`."""
        return self.weight[None]

    def batched(self, inputs: Tensor) -> Tensor:
        """See :class:`AnalogLayer`."""
        if inputs.shape[-1:] != (self.in_features,):
            raise ShapeError(
                f"a Linear layer needs an input (..., {self.in_features}), got shape "
                f"{tuple(inputs.shape)}"
            )
        return inputs.reshape(-1, self.in_features)

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        """See :class:`AnalogLayer`."""
        return inputs[:, start:stop]

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        """See :class:`AnalogLayer`."""
        return weight[0]

    def kernel_product(self, inputs: Tensor, kernel: Tensor, *, padded: bool = False) -> Tensor:
        """See :class:`AnalogLayer`."""
        return F.linear(inputs, kernel)

    def vector_product(self, inputs: Tensor, weight: Tensor) -> Tensor:
        """See :class:`AnalogLayer`."""
        return F.linear(inputs, weight[0])

    @in_type_of_weight
    def forward(self, input: Tensor) -> Tensor:
        """Shape (..., in_features) to (..., out_features)."""
        flat = self.analog_product(self.batched(input), self.bias)
        return flat.reshape(*input.shape[:-1], self.out_features)


class _AnalogConv(AnalogLayer, nn.modules.conv._ConvNd):
    """Convolution by direct convolution of each row tile's channels.

    Where each input vector (each patch) is scaled or disturbed by itself, the patches are laid out.
    """

    def weight_matrix(self) -> Tensor:
        return self.weight.reshape(self.groups, self.out_channels // self.groups, -1)

    @property
    def channel_rows(self) -> int:
        return math.prod(self.kernel_size)

    @property
    def vector_dim(self) -> int:  # type: ignore[override]
        return 2

    @in_type_of_weight
    def forward(self, input: Tensor) -> Tensor:
        if self._pads_beforehand():
            mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=mode)
        outputs = self.analog_product(self.batched(input), self.bias)
        return outputs if input.ndim == outputs.ndim else outputs[0]

    def batched(self, inputs: Tensor) -> Tensor:
        return _batched(inputs, self.in_channels, len(self.kernel_size))

    @property
    def patch(self) -> Patch:
        padding: Any = () if self._pads_beforehand() else self.padding
        return Patch(self.kernel_size, self.stride, self.dilation, padding)

    def _pads_beforehand(self) -> bool:
        return (
            sees_vectors(self.rpu_config.forward)
            or self.padding_mode != "zeros"
            or isinstance(self.padding, str)
        )

    def merge_groups(self, outputs: Tensor) -> Tensor:
        return outputs.flatten(1, 2)

    def row_channels(self, start: int, stop: int) -> tuple[int, int]:
        volume = self.channel_rows
        return start // volume, -(-stop // volume)

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        first, last = self.row_channels(start, stop)
        grouped = inputs.unflatten(1, (self.groups, -1))[:, :, first:last]
        if not vectors:
            return grouped.flatten(1, 2)
        patches = self._patches(grouped.flatten(1, 2)).unflatten(1, (self.groups, -1))
        offset = first * self.channel_rows
        return patches[:, :, start - offset : stop - offset]  # (B, groups, rows, *positions)

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        first, last = self.row_channels(start, stop)
        volume = self.channel_rows
        whole = F.pad(weight, (start - first * volume, last * volume - stop))
        return whole.reshape(self.out_channels, last - first, *self.kernel_size)

    def kernel_product(self, inputs: Tensor, kernel: Tensor, *, padded: bool = False) -> Tensor:
        padding: Any = 0 if self._pads_beforehand() else self.padding
        if padded and padding:
            padding = (0, *padding[1:])
        convolve = _CONVOLVE[len(self.kernel_size) - 1]
        return convolve(inputs, kernel, None, self.stride, padding, self.dilation, self.groups)

    def _patches(self, inputs: Tensor) -> Tensor:
        """Every patch that the kernel sees: (B, C, *in) -> (B, C * kernel volume, *positions)."""
        inputs = inputs.contiguous()
        spatial = len(self.kernel_size)
        positions, strides, taps = [], [], []
        for axis in range(spatial):
            reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            positions.append((inputs.shape[2 + axis] - reach) // self.stride[axis] + 1)
            strides.append(inputs.stride(2 + axis) * self.stride[axis])
            taps.append(inputs.stride(2 + axis) * self.dilation[axis])
        patches = inputs.as_strided(
            (*inputs.shape[:2], *self.kernel_size, *positions),
            (*inputs.stride()[:2], *taps, *strides),
        )
        return patches.flatten(1, 1 + spatial)


class AnalogConv1d(_AnalogConv, nn.Conv1d):
    """``nn.Conv1d`` on tiles."""


class AnalogConv2d(_AnalogConv, nn.Conv2d):
    """``nn.Conv2d`` on tiles."""


class AnalogConv3d(_AnalogConv, nn.Conv3d):
    """``nn.Conv3d`` on tiles."""


class _AnalogConvTranspose(AnalogLayer, nn.modules.conv._ConvTransposeNd):
    """Transposed convolution: one product per input position, then a digital overlap-add.

    A crossbar row is an input channel; a column is an output channel at one kernel tap.
    """

    def weight_matrix(self) -> Tensor:
        grouped = self.weight.reshape(self.groups, self.in_channels // self.groups, -1)
        return grouped.transpose(1, 2)

    @property
    def vector_dim(self) -> int:  # type: ignore[override]
        return 2

    @in_type_of_weight
    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        spatial = len(self.kernel_size)
        extra = self._output_padding(
            input,
            output_size,
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.kernel_size,  # type: ignore[arg-type]
            spatial,
            self.dilation,  # type: ignore[arg-type]
        )
        # (B, C_out * kernel volume, *input positions)
        taps = self.analog_product(self.batched(input))
        outputs = self._overlap_add(taps, extra)
        if self.bias is not None:
            outputs = outputs + self.bias.reshape(1, -1, *(1,) * spatial)
        return outputs if input.ndim == outputs.ndim else outputs[0]

    def set_weight_matrix(self, matrix: Tensor) -> None:
        self.weight.copy_(matrix.transpose(1, 2).reshape(self.weight.shape))

    def batched(self, inputs: Tensor) -> Tensor:
        return _batched(inputs, self.in_channels, len(self.kernel_size))

    def row_inputs(self, inputs: Tensor, start: int, stop: int, *, vectors: bool) -> Tensor:
        grouped = inputs.unflatten(1, (self.groups, -1))[:, :, start:stop]
        return grouped if vectors else grouped.flatten(1, 2)

    def row_kernel(self, weight: Tensor, start: int, stop: int) -> Tensor:
        return weight.flatten(0, 1)[(..., *(None,) * len(self.kernel_size))]

    def kernel_product(self, inputs: Tensor, kernel: Tensor, *, padded: bool = False) -> Tensor:
        convolve = _CONVOLVE[len(self.kernel_size) - 1]
        return convolve(inputs, kernel, None, groups=self.groups)

    def merge_groups(self, outputs: Tensor) -> Tensor:
        return outputs.flatten(1, 2)

    def _overlap_add(self, taps: Tensor, extra: list[int]) -> Tensor:
        if self._is_shuffle(extra):
            return self._shuffle(taps)
        spatial = len(self.kernel_size)
        spread = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[spatial - 1]
        volume = math.prod(self.kernel_size)
        one_hot = torch.eye(volume, dtype=taps.dtype, device=taps.device)
        kernel = one_hot.reshape(volume, 1, *self.kernel_size)
        kernel = kernel.repeat(self.out_channels, 1, *(1,) * spatial)
        padding: Any = self.padding
        return spread(
            taps, kernel, None, self.stride, padding, extra, self.out_channels, self.dilation
        )

    def _is_shuffle(self, extra: list[int]) -> bool:
        return (
            tuple(self.kernel_size) == tuple(self.stride)
            and not any(extra)
            and all(value == 0 for value in self.padding)
            and all(value == 1 for value in self.dilation)
        )

    def _shuffle(self, taps: Tensor) -> Tensor:
        """Lay the taps side by side; channels_last stays channels_last."""
        spatial = len(self.kernel_size)
        batch, _, *positions = taps.shape
        size = [p * k for p, k in zip(positions, self.kernel_size, strict=True)]
        order = [axis for pair in range(spatial) for axis in (2 + spatial + pair, 2 + pair)]
        taps_apart = taps.unflatten(1, (self.out_channels, *self.kernel_size))
        if taps.is_contiguous():
            return taps_apart.permute(0, 1, *order).reshape(batch, self.out_channels, *size)
        last = taps_apart.permute(0, *order, 1).reshape(batch, *size, self.out_channels)
        return last.movedim(-1, 1)


class AnalogConvTranspose1d(_AnalogConvTranspose, nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` on tiles."""


class AnalogConvTranspose2d(_AnalogConvTranspose, nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` on tiles."""


class AnalogConvTranspose3d(_AnalogConvTranspose, nn.ConvTranspose3d):
    """``nn.ConvTranspose3d`` on tiles."""


def _batched(inputs: Tensor, channels: int, spatial: int) -> Tensor:
    batched = inputs if inputs.ndim == spatial + 2 else inputs[None]
    if batched.ndim != spatial + 2 or batched.shape[1] != channels:
        raise ShapeError(
            f"a {spatial}D convolution needs an input (B, C, *positions) or (C, *positions) with "
            f"{channels} channels and {spatial} positions, got shape {tuple(inputs.shape)}"
        )
    return batched
