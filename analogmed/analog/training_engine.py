"""Products with gradients, with static input ranges and without unfolding.

The forward pass is that of a reading, which notes what the ADCs clip. Of the feature maps only the
layer's input is kept, as a digital layer keeps it; :mod:`analogmed.analog.training_backward` makes
codes of it again.

Computation is in the channels_last format. A network is fastest if all of it is: hand it
``images.to(memory_format=torch.channels_last)``. Outputs have the format of the inputs.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from analogmed.analog.converters import Converters, Readout, Record, layout_of
from analogmed.analog.modifier import modify
from analogmed.analog.noise_stream import Draw
from analogmed.analog.training_backward import Backward, Setting, parts
from analogmed.analog.training_ops import TrainingOps

if TYPE_CHECKING:
    from analogmed.analog.layers import AnalogLayer


class TrainingEngine:
    """See :class:`analogmed.analog.engine.Engine`; with the gradients of ``TorchEngine``.

    Args:
        ops: the passes before and after a product.
    """

    def __init__(self, ops: TrainingOps) -> None:
        self._ops = ops

    def product(self, layer: "AnalogLayer", inputs: Tensor, bias: Tensor | None) -> Tensor:
        """See :class:`analogmed.analog.engine.Engine`."""
        rows = layer.tile_rows()
        weights = [row.weight for row in rows]
        if layer.training and layer.reading is None:
            modifier = layer.rpu_config.modifier
            weights = [modify(weight, layer.grid.cols, modifier) for weight in weights]
        scales = [row.scale for row in rows]
        setting = self._setting(layer, inputs)
        outputs = _Product.apply(setting, inputs, bias, layer.input_range, *weights, *scales)
        return cast(Tensor, outputs)

    def _setting(self, layer: "AnalogLayer", inputs: Tensor) -> Setting:
        layout = layout_of(inputs)
        converters = Converters.of(layer.rpu_config.forward)
        draw = Draw(0)
        if converters.noise > 0:
            draw = layer.reading.stream.draw() if layer.reading else Draw.from_torch()
        return Setting(
            self._ops,
            layer,
            converters,
            layout,
            comes_in_layout=inputs.is_contiguous(memory_format=layout),
            draw=draw,
            differentiates=torch.is_grad_enabled(),
            learns_range=layer.training,
        )


class _Product(torch.autograd.Function):
    """Of inputs, bias, input ranges, and the mapped weights and the scales of all rows of tiles."""

    @staticmethod
    def forward(
        ctx: Any,
        setting: Setting,
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
        reader = _Reader(setting, inputs, keeps_codes=keeps_codes)
        for index, (kernel, scale, limit) in enumerate(zip(kernels, scales, limits, strict=True)):
            reader.add(index, kernel, scale, limit, bias if index + 1 == count else None)
        if setting.differentiates:
            ctx.setting, ctx.limits = setting, limits
            ctx.clipped = list(reader.fits)
            kept = *reader.fits.values(), *reader.codes
            ctx.save_for_backward(inputs, ranges, *kernels, *scales, *kept)
        total = reader.total
        assert total is not None
        return setting.as_it_came(total)

    @staticmethod
    @once_differentiable
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


def _kernels(setting: Setting, weights: Sequence[Tensor]) -> list[Tensor]:
    """The weights in ADC steps per DAC step, as the linear map takes them."""
    layer, gain = setting.layer, setting.converters.weight_gain
    return [
        layer.row_kernel(weight * gain, *span).contiguous(memory_format=setting.layout)
        for weight, span in zip(weights, layer.grid.rows, strict=True)
    ]


class _Reader:
    """The forward pass: rows of tiles, added up one after the other.

    Attributes:
        total: shape (B, columns, *positions).
        fits: of each row whose outputs the ADC's bound clipped: 0 where it did.
        codes: of each row, if they are kept.
    """

    def __init__(self, setting: Setting, inputs: Tensor, *, keeps_codes: bool) -> None:
        self._setting = setting
        self._inputs = setting.ops.in_layout(inputs.detach(), setting.layout)
        self._keeps_codes = keeps_codes
        self._spare: Tensor | None = None
        self.total: Tensor | None = None
        self.fits: dict[int, Tensor] = {}
        self.codes: list[Tensor] = []

    def add(
        self, index: int, kernel: Tensor, scale: Tensor, limit: float, bias: Tensor | None
    ) -> None:
        """Add a row of tiles, and the bias if there is one."""
        setting, ops, layer = self._setting, self._setting.ops, self._setting.layer
        worth = ops.by_column(scale * setting.worth(limit))
        offset = torch.zeros_like(worth) if bias is None else ops.by_column(bias)
        readout = Readout(setting.converters, worth, offset, setting.draw, index)
        clipped, record = 0, None
        for entries in parts(layer, self._inputs):
            seen = layer.row_inputs(self._inputs[entries], *layer.grid.rows[index], vectors=False)
            codes = ops.to_codes(seen, limit, setting.converters, setting.layout)
            sums = layer.kernel_product(codes, kernel).contiguous(memory_format=setting.layout)
            if self.total is None:
                self.total = self._empty(sums, torch.float32)
            if entries.start == 0:
                record = self._record(self.total)
            own = record and _of_entries(record, entries)
            first = entries.start
            clipped += ops.add_outputs(sums, self.total, readout, first=first, record=own)
        self._keep(index, record, clipped)

    def _record(self, total: Tensor) -> Record | None:
        converters = self._setting.converters
        bounded = not math.isinf(converters.out_bound)
        if not self._setting.differentiates or not (bounded or self._keeps_codes):
            return None
        fits = self._empty(total, torch.uint8) if self._spare is None else self._spare
        if not self._keeps_codes:
            return Record(fits)
        return Record(fits, self._empty(total, _code_type(converters)))

    def _keep(self, index: int, record: Record | None, clipped: int) -> None:
        if record is None:
            return
        if clipped:
            self.fits[index] = record.fits
        self._spare = None if clipped else record.fits
        if record.codes is not None:
            self.codes.append(record.codes)

    def _empty(self, like: Tensor, dtype: torch.dtype) -> Tensor:
        shape, layout = (len(self._inputs), *like.shape[1:]), self._setting.layout
        return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)


def _code_type(converters: Converters) -> torch.dtype:
    """What holds an output's code; where the bound lies between two codes, it is one, too."""
    bound = torch.tensor(converters.out_bound, dtype=torch.float32).item()
    whole = converters.adc_step > 0 and bound.is_integer()
    return torch.int8 if whole and bound < 128 else torch.float32


def _of_entries(record: Record, entries: slice) -> Record:
    return Record(record.fits[entries], None if record.codes is None else record.codes[entries])
