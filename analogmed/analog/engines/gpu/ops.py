"""The passes of a product on GPUs."""

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from analogmed.analog.engines.converters import (
    ClippingRecord,
    Converters,
    OutputStage,
    TileRowInput,
)
from analogmed.analog.engines.gpu.kernels import BLOCK, convert_inputs, convert_outputs
from analogmed.analog.engines.layout import as_runs, format_of, with_strides_of

_BLOCK = BLOCK.value
_OPTIONS = {
    "num_warps": 2,  # four neighbouring values a thread, one access of 16 bytes
    "enable_fp_fusion": True,  # the default up to Triton 3.9
}


class TritonOps:
    """Passes of inference for CUDA tensors in float32.

    See :class:`analogmed.analog.engines.converters.TileOps`.
    """

    part_elements: int | None = None

    def layout_of(self, values: Tensor) -> torch.memory_format:
        """Return the format of the values, since cuDNN computes float32 in both formats."""
        return format_of(values)

    def in_layout(self, values: Tensor, layout: torch.memory_format) -> Tensor:
        """See ``TileOps``."""
        return with_strides_of(values.contiguous(memory_format=layout), layout)

    def by_column(self, values: Tensor) -> Tensor:
        """Return the values as one contiguous vector."""
        return values.detach().flatten().contiguous()

    def to_codes(
        self, inputs: Tensor, limit: float, converters: Converters, layout: torch.memory_format
    ) -> Tensor:
        """See ``TileOps``."""
        codes = torch.empty(
            inputs.shape, dtype=inputs.dtype, device=inputs.device, memory_format=layout
        )
        if layout is torch.contiguous_format:
            _convert(inputs, codes, limit, converters)
        else:
            _convert(inputs.movedim(1, -1), codes, limit, converters)
        return codes

    def to_row_codes(
        self, inputs: Tensor, rows: Sequence[TileRowInput], converters: Converters
    ) -> None:
        """See ``TileOps``; one pass for each row."""
        pixels = inputs.movedim(1, -1)
        for row in rows:
            _convert(pixels[..., row.start : row.stop], row.codes, row.limit, converters)

    def add_outputs(
        self,
        sums: Tensor,
        total: Tensor,
        readout: OutputStage,
        *,
        first: int = 0,
        record: ClippingRecord | None = None,
    ) -> int:
        """See ``TileOps``; synchronises with the GPU if there is a record."""
        if sums.numel() == 0:
            return 0
        entry, draw, converters = sums[0].numel(), readout.draw, readout.converters
        begin = first * entry
        sample_size = entry * _entries_of_a_sample(len(total), draw.samples)
        blocks = triton.cdiv(sample_size, _BLOCK)
        first_block, last_block = (
            element // sample_size * blocks + element % sample_size // _BLOCK
            for element in (begin, begin + sums.numel() - 1)
        )
        clipped = None
        if record is not None:
            clipped = torch.zeros((), dtype=torch.int64, device=sums.device)
        with torch.cuda.device_of(sums):
            convert_outputs[(last_block - first_block + 1,)](
                sums,
                total[first : first + len(sums)],
                readout.scale,
                readout.bias,
                readout.spread,
                readout.factor,
                None if record is None else record.fits,
                None if record is None else record.codes,
                clipped,
                sums.numel(),
                begin,
                sample_size,
                sums.shape[1],
                entry // sums.shape[1] if sums.is_contiguous() else 1,
                _sharing(sums, readout.spread),
                _sharing(sums, readout.factor),
                _signed(draw.key),
                _signed(draw.key >> 32),
                _signed(draw.first_sample),
                _signed(draw.use),
                _signed(readout.row),
                first_block,
                blocks,
                converters.noise,
                converters.out_bound,
                NOISY=converters.noise > 0 or readout.spread is not None,
                ROUNDS=converters.adc_step > 0,
                ADDS=readout.row > 0,
                **_OPTIONS,
            )
        return 0 if clipped is None else int(clipped)


def _convert(inputs: Tensor, codes: Tensor, limit: float, converters: Converters) -> None:
    """Convert inputs by the DAC; the codes are stored in the order of the inputs' dimensions."""
    if inputs.numel() == 0:
        return
    runs = as_runs(inputs)
    if runs is None:
        inputs = inputs.contiguous()
        runs = inputs.numel(), 0
    with torch.cuda.device_of(inputs):
        convert_inputs[(triton.cdiv(inputs.numel(), _BLOCK),)](
            inputs,
            codes,
            converters.input_gain(limit),
            converters.largest_code(limit),
            inputs.numel(),
            *runs,
            WHOLE=runs[0] == inputs.numel(),
            ROUNDS=converters.dac_step > 0,
        )


def _entries_of_a_sample(batch: int, samples: int) -> int:
    """Return the entries per sample; a batch that is no multiple of its samples counts as one."""
    return batch // samples if batch % samples == 0 else batch


def _sharing(sums: Tensor, values: Tensor | None) -> int:
    """Return the number of adjacent columns that share a value."""
    return 1 if values is None else sums.numel() // values.numel()


def _signed(word: int) -> int:
    """Return the low 32 bits as a signed number, so that its type does not depend on its value."""
    return (word + (1 << 31)) % (1 << 32) - (1 << 31)
