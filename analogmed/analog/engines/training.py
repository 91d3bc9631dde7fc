"""Products with gradients, for static input ranges, without unfolding.

The forward pass is that of inference, plus a record of the outputs that the ADCs clip. Of the
feature maps, only the layer's input is stored, as in a digital layer;
:mod:`analogmed.analog.engines.backward` recomputes its codes.

The computation uses the channels_last format. A network is fastest if it uses this format
throughout: pass ``images.to(memory_format=torch.channels_last)``. Outputs have the format of the
inputs.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from analogmed.analog.engines.backward import Backward, BackwardContext
from analogmed.analog.engines.converters import ClippingRecord, Converters, OutputStage, layout_of
from analogmed.analog.engines.interface import TiledLayer
from analogmed.analog.engines.layout import format_of
from analogmed.analog.engines.training_passes import TrainingOps, packed_bytes
from analogmed.analog.tile.noise_stream import NoiseAddress
from analogmed.analog.tile.precision import without_autocast


class TrainingEngine:
    """Engine with the gradients of ``TorchEngine``.

    See :class:`analogmed.analog.engines.interface.Engine`.

    Args:
        ops: the passes before and after a product.
    """

    def __init__(self, ops: TrainingOps) -> None:
        self._ops = ops

    def product(self, layer: TiledLayer, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`analogmed.analog.engines.interface.Engine`."""
        rows = layer.tile_rows()
        weights = [row.weight for row in rows]
        scales = [row.scale for row in rows]
        setting = self._setting(layer, inputs)
        outputs = _Product.apply(setting, inputs, bias, layer.input_range, *weights, *scales)
        return cast(Tensor, outputs)

    def _setting(self, layer: TiledLayer, inputs: Tensor) -> BackwardContext:
        layout = layout_of(inputs)
        converters = Converters.of(layer.io)
        draw = NoiseAddress(0)
        if converters.noise > 0:
            draw = layer.reading.stream.draw() if layer.reading else NoiseAddress.from_torch()
        return BackwardContext(
            self._ops,
            layer,
            converters,
            layout,
            came_in=format_of(inputs),
            draw=draw,
            differentiates=torch.is_grad_enabled(),
            learns_range=layer.training,
        )


class _Product(torch.autograd.Function):
    """Product of inputs, bias, input ranges, and mapped weights and scales of all rows of tiles."""

    @staticmethod
    def forward(
        ctx: Any,
        setting: BackwardContext,
        inputs: Tensor,
        bias: Tensor | None,
        ranges: Tensor | None,
        *rows: Tensor,
    ) -> Tensor:
        count = len(rows) // 2
        weights, scales = rows[:count], rows[count:]
        limits = [math.inf] * count if ranges is None else ranges.tolist()
        kernels = _kernels(setting, weights)
        keeps_codes = ctx.needs_input_grad[3] or any(ctx.needs_input_grad[4 + count :])
        reader = _ForwardPass(setting, limits, kernels, scales, bias, keeps_codes=keeps_codes)
        total = reader.read(inputs)
        if setting.differentiates:
            ctx.setting, ctx.limits = setting, limits
            fits = reader.fits_of_clipped()
            ctx.clipped = list(fits)
            ctx.save_for_backward(inputs, ranges, *kernels, *scales, *fits.values(), *reader.codes)
        return setting.as_it_came(total)

    @staticmethod
    @once_differentiable
    @without_autocast()
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs, ranges, *tensors = ctx.saved_tensors
        count = len(ctx.limits)
        kernels, scales, kept = tensors[:count], tensors[count : 2 * count], tensors[2 * count :]
        fits = dict(zip(ctx.clipped, kept, strict=False))
        _, by_inputs, by_bias, by_ranges, *by_rows = ctx.needs_input_grad
        backward = Backward(
            ctx.setting,
            ctx.limits,
            kernels,
            scales,
            by_inputs=by_inputs,
            by_ranges=by_ranges,
            by_weights=any(by_rows[:count]),
        )
        backward.run(gradient, inputs, fits, kept[len(fits) :])
        bias = gradient.sum((0, *range(2, gradient.ndim))) if by_bias else None
        slopes = backward.by_scale() if any(by_rows[count:]) else [None] * count
        learned = backward.by_range(ranges) if by_ranges else None
        return None, backward.by_inputs(), bias, learned, *backward.by_weight(), *slopes


def _kernels(setting: BackwardContext, weights: Sequence[Tensor]) -> list[Tensor]:
    """Return the weights in ADC steps per DAC step, in the shape of the linear map."""
    layer, gain = setting.layer, setting.converters.weight_gain
    return [
        layer.row_kernel(weight * gain, *span).contiguous(memory_format=setting.layout)
        for weight, span in zip(weights, layer.grid.rows, strict=True)
    ]


class _ForwardPass:
    """Forward pass.

    Attributes:
        codes: output codes of each row of tiles, if they are kept.
    """

    def __init__(
        self,
        setting: BackwardContext,
        limits: Sequence[float],
        kernels: Sequence[Tensor],
        scales: Sequence[Tensor],
        bias: Tensor | None,
        *,
        keeps_codes: bool,
    ) -> None:
        self._setting, self._kernels = setting, kernels
        self._slices = [setting.alone(number, limit) for number, limit in enumerate(limits)]
        steps = [
            setting.ops.by_column(scale * setting.converters.adc_lsb(limit))
            for scale, limit in zip(scales, limits, strict=True)
        ]
        offsets = [torch.zeros_like(step) for step in steps]
        if bias is not None:
            offsets[-1] = setting.ops.by_column(bias)
        self._readouts = [
            OutputStage(setting.converters, step, offset, setting.draw, number)
            for number, (step, offset) in enumerate(zip(steps, offsets, strict=True))
        ]
        self._keeps_codes = keeps_codes and setting.differentiates
        self._keeps_fits = setting.differentiates and not math.isinf(setting.converters.out_bound)
        self._clipped = [0] * len(limits)
        self._masks: list[Tensor] = []  # packed
        self.codes: list[Tensor] = []

    def read(self, inputs: Tensor) -> Tensor:
        """Return the sum of the outputs of all rows of tiles."""
        setting, layer = self._setting, self._setting.layer
        inputs = setting.ops.in_layout(inputs.detach(), setting.layout)
        total: Tensor | None = None
        for entries in setting.parts(inputs):
            codes = setting.ops.to_slice_codes(inputs[entries], self._slices, setting.layout)
            for number, kernel in enumerate(self._kernels):
                sums = layer.kernel_product(codes[number], kernel)
                sums = sums.contiguous(memory_format=setting.layout)
                if total is None:
                    total = self._prepare((len(inputs), *sums.shape[1:]), sums.device)
                self._add(sums, total, entries, number)
        assert total is not None
        return total

    def fits_of_clipped(self) -> dict[int, Tensor]:
        """Return the packed mask of each row of tiles with clipped outputs; 0 where clipped."""
        if not self._keeps_fits:
            return {}
        return {number: self._masks[number] for number, n in enumerate(self._clipped) if n}

    def _prepare(self, shape: tuple[int, ...], device: torch.device) -> Tensor:
        """Allocate the total, after the buffers that outlive it, to avoid gaps in memory."""

        def empty(dtype: torch.dtype) -> Tensor:
            layout = self._setting.layout
            return torch.empty(shape, dtype=dtype, device=device, memory_format=layout)

        if self._keeps_fits:
            size = shape[0], packed_bytes(math.prod(shape[1:]))
            self._masks = [
                torch.empty(size, dtype=torch.uint8, device=device) for _ in self._kernels
            ]
        if self._keeps_codes:
            self.codes = [empty(_code_type(self._setting.converters)) for _ in self._kernels]
        return empty(torch.float32)

    def _add(self, sums: Tensor, total: Tensor, entries: slice, number: int) -> None:
        record = None
        if self._keeps_fits or self._keeps_codes:
            codes = self.codes[number][entries] if self.codes else None
            record = ClippingRecord(torch.empty_like(sums, dtype=torch.uint8), codes)
        self._clipped[number] += self._setting.ops.add_outputs(
            sums, total, self._readouts[number], first=entries.start, record=record
        )
        if record is not None and self._keeps_fits:
            self._setting.ops.pack(record.fits, self._masks[number][entries])


def _code_type(converters: Converters) -> torch.dtype:
    """Return the data type of output codes; a bound between two codes is itself a code."""
    bound = float(torch.tensor(converters.out_bound, dtype=torch.float32))
    whole = converters.adc_step > 0 and bound.is_integer()
    return torch.int8 if whole and bound < 128 else torch.float32
