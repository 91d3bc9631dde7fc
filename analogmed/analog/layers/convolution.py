"""Convolutions and transposed convolutions on tiles, in one to three dimensions."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analogmed.analog.engines.layout import format_of, plain_if_one_channel
from analogmed.analog.engines.vectors import KernelWindow
from analogmed.analog.layers.base import AnalogLayer
from analogmed.analog.tile.precision import in_type_of_weight
from analogmed.analog.tile.product import sees_vectors
from analogmed.foundation.errors import ShapeError

_CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)


class _AnalogConv(AnalogLayer, nn.modules.conv._ConvNd):
    """Convolution, as a direct convolution of the channels of each row of tiles.

    Where each input vector (patch) is scaled or perturbed separately, the patches are unfolded.
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
    def patch(self) -> KernelWindow:
        padding: Any = () if self._pads_beforehand() else self.padding
        return KernelWindow(self.kernel_size, self.stride, self.dilation, padding)

    def _pads_beforehand(self) -> bool:
        return (
            sees_vectors(self.io) or self.padding_mode != "zeros" or isinstance(self.padding, str)
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
        inputs = plain_if_one_channel(inputs)
        return convolve(inputs, kernel, None, self.stride, padding, self.dilation, self.groups)

    def kernel_gradients(
        self,
        gradient: Tensor,
        inputs: Tensor,
        kernel: Tensor,
        *,
        by_inputs: bool,
        by_kernel: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        padding: Any = 0 if self._pads_beforehand() else self.padding
        return _convolution_gradients(
            (gradient, plain_if_one_channel(inputs), kernel),
            (self.stride, padding, self.dilation, self.groups),
            (by_inputs, by_kernel),
        )

    def _patches(self, inputs: Tensor) -> Tensor:
        """Return all patches of the kernel: (B, C, *in) -> (B, C * kernel volume, *positions)."""
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
    """Transposed convolution: one MVM per input position, then a digital overlap-add.

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

    def kernel_gradients(
        self,
        gradient: Tensor,
        inputs: Tensor,
        kernel: Tensor,
        *,
        by_inputs: bool,
        by_kernel: bool,
    ) -> tuple[Tensor | None, Tensor | None]:
        return _convolution_gradients(
            (gradient, plain_if_one_channel(inputs), kernel),
            (1, 0, 1, self.groups),
            (by_inputs, by_kernel),
        )

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
        """Interleave the taps; channels_last stays channels_last."""
        spatial = len(self.kernel_size)
        batch, _, *positions = taps.shape
        size = [p * k for p, k in zip(positions, self.kernel_size, strict=True)]
        order = [axis for pair in range(spatial) for axis in (2 + spatial + pair, 2 + pair)]
        taps_apart = taps.unflatten(1, (self.out_channels, *self.kernel_size))
        if format_of(taps) is torch.contiguous_format:
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


def _convolution_gradients(
    tensors: tuple[Tensor, Tensor, Tensor],
    convolution: tuple[Any, Any, Any, int],
    wanted: tuple[bool, bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of a convolution by its inputs and its kernel.

    Args:
        tensors: gradient by the outputs, inputs, kernel.
        convolution: stride, padding and dilation (each one number, or one per axis), and groups.
        wanted: whether to return the gradient by the inputs, and the one by the kernel.
    """
    gradient, inputs, kernel = tensors
    axes = inputs.ndim - 2
    *sizes, groups = convolution
    stride, padding, dilation = (
        [size] * axes if isinstance(size, int) else list(size) for size in sizes
    )
    first, second, _ = torch.ops.aten.convolution_backward(
        gradient,
        inputs,
        kernel,
        None,
        stride,
        padding,
        dilation,
        False,
        [0] * axes,
        groups,
        [*wanted, False],
    )
    return first, second
