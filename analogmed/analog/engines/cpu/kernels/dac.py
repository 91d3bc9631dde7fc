"""Conversion of a feature map to DAC codes for rows of tiles."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types

from analogmed.analog.engines.cpu.kernels.lanes import (
    I32,
    LANES,
    clamp_lanes,
    round_lanes,
    to_all_lanes,
)
from analogmed.analog.engines.cpu.kernels.words import emits, to_code
from analogmed.analog.engines.cpu.kernels.worker import next_task, pointer, worker

_AHEAD = 4096  # bytes to prefetch: the hardware does not predict strided runs

DAC_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("source", np.int64),
        ("extent", np.int64),
        ("positions", np.int64),
        ("pitch", np.int64),
        ("runs", np.int64),
        ("levels", np.int64),
        ("number", np.int64),
        ("share", np.int64),
        ("rounds", np.int32),
    ],
    align=True,
)
"""Work record of ``convert_inputs``.

Addresses: ``ticket`` (int64, 0 at the start), ``source`` (float32, ``extent`` values), ``runs`` and
``levels``. Consecutive positions are ``pitch`` values apart. At each position ``number`` runs of
values are converted, each to separate codes. ``runs`` (int64, number x 5) contains the start of a
run at the first position, its length, the address of its codes (float32), the distance between the
codes of adjacent positions, and the number of later runs after which LANES more codes have been
written behind them. ``levels`` (float32, number x 2) contains the factor that values are multiplied
by before rounding, if requested, and the code of the largest input, which bounds them. A thread
processes ``share`` runs at a time.
"""


@emits
def _to_codes(typing: Any, source: Any, codes: Any, gain: Any, bound: Any, rounds: Any) -> Any:
    """Apply ``to_code`` to LANES values at an address; LLVM does not vectorise such short runs."""
    lanes = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, to, gain, bound, rounded = arguments
        values = builder.load(builder.inttoptr(from_, lanes.as_pointer()), align=4)
        byte = ir.IntType(8).as_pointer()
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [byte], ir.FunctionType(ir.VoidType(), [byte, I32, I32, I32])
        )
        ahead = builder.inttoptr(builder.add(from_, ir.IntType(64)(_AHEAD)), byte)
        builder.call(prefetch, [ahead, I32(0), I32(3), I32(1)])
        values = builder.fmul(values, to_all_lanes(builder, gain))
        values = builder.select(rounded, round_lanes(builder, values), values)
        values = clamp_lanes(builder, values, to_all_lanes(builder, bound))
        builder.store(values, builder.inttoptr(to, lanes.as_pointer()), align=4)
        return context.get_dummy_value()

    numbers = (types.float32, types.float32, types.boolean)
    return types.void(types.int64, types.int64, *numbers), emit


@worker(DAC_WORK)
def convert_inputs(work: Any) -> None:
    """Convert a feature map to DAC codes; each thread that calls this processes a part of the work.

    Codes are written LANES at a time, also past the end of a run where the same thread then writes
    the codes of the next positions.
    """
    w = carray(work, 1)[0]
    source = carray(pointer(w.source), (w.extent,), np.float32)
    runs = carray(pointer(w.runs), (w.number, 5), np.int64)
    levels = carray(pointer(w.levels), (w.number, 2), np.float32)
    rounds = w.rounds != 0
    while True:
        start = next_task(w.ticket) * w.share
        if start >= w.positions * w.number:
            return
        stop = min(start + w.share, w.positions * w.number)
        position, run = start // w.number, start % w.number
        for pair in range(start, stop):
            length, pitch = runs[run, 1], runs[run, 3]
            gain, bound = levels[run, 0], levels[run, 1]
            at = position * w.pitch + runs[run, 0]
            to = runs[run, 2] + 4 * position * pitch
            goes_on = pair + runs[run, 4] < stop
            whole = length if goes_on and at + length + LANES <= w.extent else length - LANES + 1
            done = 0
            while done < whole:
                _to_codes(w.source + 4 * (at + done), to + 4 * done, gain, bound, rounds)
                done += LANES
            if done < length:
                codes = carray(pointer(to), (length,), np.float32)
                for i in range(done, length):
                    codes[i] = to_code(source[at + i], gain, bound, rounds)
            run += 1
            if run == w.number:
                position, run = position + 1, 0
