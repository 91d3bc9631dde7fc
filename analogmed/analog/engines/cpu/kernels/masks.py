"""Training: flags packed into bits, and masking of gradients."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types

from analogmed.analog.engines.cpu.kernels.lanes import LANES
from analogmed.analog.engines.cpu.kernels.words import emits
from analogmed.analog.engines.cpu.kernels.worker import TASK, next_task, pointer, worker

_BYTES = TASK // 8
_BITS = ir.IntType(LANES)
_FLAGS = ir.VectorType(ir.IntType(1), LANES)

MASK_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("flags", np.int64),
        ("bits", np.int64),
        ("values", np.int64),
        ("masked", np.int64),
        ("entries", np.int64),
        ("size", np.int64),
    ],
    align=True,
)
"""Work record of ``pack`` and ``mask``.

Addresses: ``ticket`` (int64, 0 at the start); ``bits``, eight flags per byte from its lowest bit
on, where each of ``entries`` entries of ``size`` flags starts with a new byte; for ``pack``,
``flags`` (uint8, 0 or 1); for ``mask``, ``values`` and ``masked`` (float32).
"""


@emits
def _pack_lanes(typing: Any, flags: Any, bits: Any) -> Any:
    """Pack LANES flags at an address."""
    numbers = ir.VectorType(ir.IntType(8), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, to = arguments
        flags = builder.load(builder.inttoptr(from_, numbers.as_pointer()), align=1)
        packed = builder.icmp_unsigned("!=", flags, ir.Constant(numbers, None))
        target = builder.inttoptr(to, _BITS.as_pointer())
        builder.store(builder.bitcast(packed, _BITS), target, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), emit


@emits
def _mask_lanes(typing: Any, values: Any, bits: Any, masked: Any) -> Any:
    """Keep those of LANES values at an address whose bit is set, and zero the others."""
    lanes = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, flags, to = arguments
        values = builder.load(builder.inttoptr(from_, lanes.as_pointer()), align=4)
        packed = builder.load(builder.inttoptr(flags, _BITS.as_pointer()), align=1)
        kept = builder.select(builder.bitcast(packed, _FLAGS), values, ir.Constant(lanes, None))
        builder.store(kept, builder.inttoptr(to, lanes.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 3), emit


@worker(MASK_WORK)
def pack(work: Any) -> None:
    """Pack flags; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    width = (w.size + 7) // 8
    flags = carray(pointer(w.flags), (w.entries * w.size,), np.uint8)
    bits = carray(pointer(w.bits), (w.entries * width,), np.uint8)
    while True:
        start = next_task(w.ticket) * _BYTES
        if start >= w.entries * width:
            return
        stop = min(start + _BYTES, w.entries * width)
        while start < stop:
            entry, place = start // width, start % width
            end = min(stop, start + width - place)
            first = entry * w.size + 8 * place
            last = min(first + 8 * (end - start), (entry + 1) * w.size)
            while last - first >= LANES:
                _pack_lanes(w.flags + first, w.bits + start)
                first, start = first + LANES, start + LANES // 8
            while first < last:
                bits[start] = 0
                for bit in range(min(8, last - first)):
                    bits[start] |= flags[first + bit] << bit
                first, start = first + 8, start + 1


@worker(MASK_WORK)
def mask(work: Any) -> None:
    """Keep values whose bit is set; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    width = (w.size + 7) // 8
    bits = carray(pointer(w.bits), (w.entries * width,), np.uint8)
    values = carray(pointer(w.values), (w.entries * w.size,), np.float32)
    masked = carray(pointer(w.masked), (w.entries * w.size,), np.float32)
    while True:
        start = next_task(w.ticket) * _BYTES
        if start >= w.entries * width:
            return
        stop = min(start + _BYTES, w.entries * width)
        while start < stop:
            entry, place = start // width, start % width
            end = min(stop, start + width - place)
            first = entry * w.size + 8 * place
            last = min(first + 8 * (end - start), (entry + 1) * w.size)
            while last - first >= LANES:
                _mask_lanes(w.values + 4 * first, w.bits + start, w.masked + 4 * first)
                first, start = first + LANES, start + LANES // 8
            while first < last:
                for bit in range(min(8, last - first)):
                    fits = (bits[start] >> bit) & 1 != 0
                    masked[first + bit] = values[first + bit] if fits else np.float32(0)
                first, start = first + 8, start + 1
