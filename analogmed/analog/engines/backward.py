"""Backward pass of a product: gradients of inputs, weights, scales and input ranges.

Rows of tiles are processed together: the channels that they use are concatenated in codes, so that
one backward convolution yields the gradients of the inputs and of all their weights. This is exact
as long as no output exceeded the bound of the ADC. A row of tiles with clipped outputs is processed
separately, with a gradient of 0 at these outputs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analogmed.analog.engines.converters import Converters
from analogmed.analog.engines.interface import TiledLayer
from analogmed.analog.engines.training_passes import ChannelSlice, ChannelSlices, TrainingOps
from analogmed.analog.tile.noise_stream import NoiseAddress


@dataclass(frozen=True)
class BackwardContext:
    """Context of a product, except its tensors.

    Attributes:
        ops: passes before and after a product.
        layer: layer that computes the product.
        converters: converters of its tiles.
        layout: memory format of the computation.
        came_in: memory format of the inputs.
        draw: address of the output noise.
        differentiates: whether a backward pass will follow.
        learns_range: whether the input ranges are learned: clipped inputs widen them, and they
            decay without any.
    """

    ops: TrainingOps
    layer: TiledLayer
    converters: Converters
    layout: torch.memory_format
    came_in: torch.memory_format
    draw: NoiseAddress
    differentiates: bool
    learns_range: bool

    def channels(self, number: int) -> tuple[int, int]:
        """Return the first channel, within each group, that a row of tiles uses, and the end."""
        return self.layer.row_channels(*self.layer.grid.rows[number])

    def alone(self, number: int, limit: float) -> ChannelSlices:
        """Return the slice that a row of tiles uses."""
        span = self.channels(number)
        return ChannelSlices([ChannelSlice(*span, limit, span)], self.layer.groups, self.converters)

    def parts(self, inputs: Tensor) -> Iterator[slice]:
        """Split a large batch into parts.

        A part contains at least two volumes, since torch uses its slowest method to convolve a
        single volume that has few channels, as in a row of tiles.
        """
        layer, most = self.layer, self.ops.part_elements
        channels, columns = inputs.shape[1], layer.groups * layer.grid.cols[-1][1]
        entry = inputs[0].numel() // channels * max(channels, columns)
        least = 2 if inputs.ndim == 5 else 1
        step = len(inputs) if most is None else max(least, most // entry)
        first = 0
        while first < len(inputs):
            rest = len(inputs) - first - step
            last = first + step if rest >= least else len(inputs)
            yield slice(first, last)
            first = last

    def as_it_came(self, values: Tensor) -> Tensor:
        """Return the values in the memory format of the inputs."""
        return self.ops.in_layout(values, self.came_in)


@dataclass(frozen=True)
class _Batch:
    """Rows of tiles that are processed together: numbers, input slices, concatenated kernels."""

    numbers: tuple[int, ...]
    slices: ChannelSlices
    kernel: Tensor


class Backward:
    """Backward pass of one product.

    Args:
        setting: context of the product.
        limits: input ranges; inf for none.
        kernels: kernels of each row of tiles, in codes.
        scales: scales of each row of tiles.
        by_inputs: whether to compute the gradient of the inputs.
        by_ranges: whether to compute the gradient of the input ranges.
        by_weights: whether to compute the gradients of the weights.
    """

    def __init__(
        self,
        setting: BackwardContext,
        limits: Sequence[float],
        kernels: Sequence[Tensor],
        scales: Sequence[Tensor],
        *,
        by_inputs: bool,
        by_ranges: bool,
        by_weights: bool,
    ) -> None:
        self._setting, self._limits = setting, limits
        self._kernels, self._scales = kernels, scales
        self._wanted = by_inputs, by_ranges, by_weights
        self._inputs_seen = 0
        self._batches: list[_Batch] = []
        self._total: Tensor | None = None
        self._by_kernel: dict[tuple[int, ...], Tensor] = {}
        self._range_sums: dict[tuple[int, ...], Tensor] = {}  # keyed by the numbers of the rows
        self._code_sums: Tensor | None = None  # sums of gradient times code, (rows, columns)

    def run(
        self, gradient: Tensor, inputs: Tensor, fits: dict[int, Tensor], codes: Sequence[Tensor]
    ) -> None:
        """Process all rows of tiles, one part of the batch after the other.

        Args:
            gradient: gradient by the outputs.
            inputs: inputs of the product.
            fits: packed masks of rows with clipped outputs: 0 where an output was clipped.
            codes: output codes of each row, if their sums are required.
        """
        setting = self._setting
        inputs = setting.ops.in_layout(inputs.detach(), setting.layout)
        gradient = setting.ops.in_layout(gradient, setting.layout)
        self._inputs_seen = inputs[:, 0].numel() * setting.layer.groups
        if self._wanted[0] or self._wanted[1]:
            self._total = torch.empty_like(inputs)
        self._batches = list(self._cut(fits))
        for entries in setting.parts(inputs):
            part = gradient[entries]
            self._pass(part, {key: own[entries] for key, own in fits.items()}, inputs, entries)
            if codes:
                sums = setting.ops.sum_products(part, [code[entries] for code in codes])
                self._code_sums = sums if self._code_sums is None else self._code_sums + sums

    def by_inputs(self) -> Tensor | None:
        """Return the gradient by the inputs, in their memory format, if requested."""
        if self._total is None or not self._wanted[0]:
            return None
        return self._setting.as_it_came(self._total)

    def by_weight(self) -> list[Tensor | None]:
        """Return the gradients by the mapped weights of each row of tiles, if requested."""
        layer, converters = self._setting.layer, self._setting.converters
        volume = layer.channel_rows
        weights: list[Tensor | None] = [None] * len(self._kernels)
        for numbers, kernel in self._by_kernel.items():
            place = 0
            for number in numbers:
                scale, (start, stop) = self._scales[number], layer.grid.rows[number]
                first, last = self._setting.channels(number)
                block = kernel[:, place : place + last - first].reshape(*scale.shape, -1)
                block = block[:, :, start - first * volume : stop - first * volume]
                gain = converters.weight_gain * self._setting.converters.adc_lsb(
                    self._limits[number]
                )
                weights[number] = block * (scale * gain)[:, :, None]
                place += last - first
        return weights

    def by_scale(self) -> list[Tensor]:
        """Return the gradients by the scales of each row of tiles."""
        assert self._code_sums is not None
        return [
            (sums * self._setting.converters.adc_lsb(limit)).to(scale).reshape(scale.shape)
            for sums, limit, scale in zip(self._code_sums, self._limits, self._scales, strict=True)
        ]

    def by_range(self, ranges: Tensor) -> Tensor:
        """Return the gradient by the input ranges, which divide inputs and multiply outputs.

        In training, the gradient that ``pass_range_gradient`` defines is added.
        """
        assert self._code_sums is not None
        sums = ranges.new_empty((len(ranges), 3), dtype=torch.float64)
        for numbers, own in self._range_sums.items():
            sums[list(numbers)] = own.to(sums)
        widen, outside, through = sums.unbind(1)
        limit = ranges.detach().double()
        scales = torch.stack([scale.flatten() for scale in self._scales])
        outputs = (self._code_sums * scales).sum(1) * self._setting.converters.adc_lsb_normalised
        slope = outputs - through / limit
        if self._setting.learns_range:
            rules = self._setting.layer.rpu_config.pre_post.input_range
            if rules.gradient_relative:
                widen = widen * limit * rules.gradient_scale
            slope = slope + widen
            if rules.decay > 0:
                fitting = (1 - outside / self._seen()).clamp(min=0) * (limit > 0)
                slope = slope + rules.decay * limit * (fitting > rules.input_min_percentage)
        return slope.to(ranges)

    def _cut(self, fits: dict[int, Tensor]) -> Iterator[_Batch]:
        whole = tuple(number for number in range(len(self._kernels)) if number not in fits)
        covered: set[int] = set()
        for numbers in [whole] * bool(whole) + [(number,) for number in fits]:
            slices = [self._slice(number, covered) for number in numbers]
            kernels = [self._kernels[number] * self._input_factor(number) for number in numbers]
            kernel = torch.cat(kernels, 1) if len(kernels) > 1 else kernels[0]
            layer, converters = self._setting.layer, self._setting.converters
            yield _Batch(numbers, ChannelSlices(slices, layer.groups, converters), kernel)

    def _slice(self, number: int, covered: set[int]) -> ChannelSlice:
        """Return the slice of a row, which may share its outer channels with its neighbours."""
        first, last = self._setting.channels(number)
        fresh = [channel for channel in range(first, last) if channel not in covered]
        covered.update(fresh)
        span = (fresh[0], fresh[-1] + 1) if fresh else (last, last)
        return ChannelSlice(first, last, self._limits[number], span)

    def _input_factor(self, number: int) -> Tensor:
        """Return the factor from kernel times gradient to the gradient of an input."""
        setting, limit, kernel = self._setting, self._limits[number], self._kernels[number]
        gain = setting.converters.input_gain(limit) * setting.converters.adc_lsb(limit)
        return (self._scales[number] * gain).reshape(-1, *(1,) * (kernel.ndim - 1))

    def _pass(
        self, gradient: Tensor, fits: dict[int, Tensor], inputs: Tensor, entries: slice
    ) -> None:
        """Propagate gradients through products and converters, for a part of the batch."""
        setting, part = self._setting, inputs[entries]
        all_slices = [batch.slices for batch in self._batches]
        all_codes = setting.ops.to_slice_codes(part, all_slices, setting.layout)
        by_inputs, by_ranges, by_weights = self._wanted
        by_codes = []
        for batch, codes in zip(self._batches, all_codes, strict=True):
            own = fits.get(batch.numbers[0])
            slope, by_kernel = setting.layer.kernel_gradients(
                gradient if own is None else setting.ops.where_fits(gradient, own),
                codes,
                batch.kernel,
                by_inputs=by_inputs or by_ranges,
                by_kernel=by_weights,
            )
            if by_kernel is not None:
                _add(self._by_kernel, batch.numbers, by_kernel)
            if slope is not None:
                by_codes.append(slope.contiguous(memory_format=setting.layout))
        if not by_codes:
            return
        assert self._total is not None
        sums = setting.ops.merge_slice_gradients(
            by_codes, part, all_slices, self._total[entries], setting.layout, records=by_ranges
        )
        if sums is not None:
            numbers = tuple(number for batch in self._batches for number in batch.numbers)
            _add(self._range_sums, numbers, sums)

    def _seen(self) -> Tensor:
        """Return the number of inputs of each row of tiles."""
        spans = map(self._setting.channels, range(len(self._kernels)))
        widths = [last - first for first, last in spans]
        return self._inputs_seen * torch.tensor(widths, dtype=torch.float64)


def _add(sums: dict[tuple[int, ...], Tensor], key: tuple[int, ...], values: Tensor) -> None:
    sums[key] = sums[key].add_(values) if key in sums else values
