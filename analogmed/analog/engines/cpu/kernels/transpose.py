"""Conversion of a feature map between memory formats."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, types

from analogmed.analog.engines.cpu.kernels.lanes import I32, LANES
from analogmed.analog.engines.cpu.kernels.words import emits
from analogmed.analog.engines.cpu.kernels.worker import next_task, pointer, worker

TRANSPOSE_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("source", np.int64),
        ("target", np.int64),
        ("matrices", np.int64),
        ("rows", np.int64),
        ("cols", np.int64),
    ],
    align=True,
)
"""Work record of ``transpose``: addresses of ticket and of ``matrices`` matrices (float32)."""


@emits
def _transpose_square(typing: Any, source: Any, target: Any, pitch: Any, new_pitch: Any) -> Any:
    """Transpose LANES x LANES values at addresses; pitches are the bytes from row to row."""
    vector = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pointer(start: Any, pitch: Any, row: int) -> Any:
            offset = builder.mul(pitch, ir.Constant(ir.IntType(64), row))
            return builder.inttoptr(builder.add(start, offset), vector.as_pointer())

        def pick(one: Any, other: Any, lanes: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(I32, LANES), [I32(n) for n in lanes])
            return builder.shuffle_vector(one, other, mask)

        from_, to, old, new = arguments
        rows = [builder.load(pointer(from_, old, row), align=4) for row in range(LANES)]
        for step in (1, 2, 4, 8):  # exchange the off-diagonal quarters of ever larger squares
            upper = [n + LANES - step if n & step else n for n in range(LANES)]
            lower = [n + LANES if n & step else n + step for n in range(LANES)]
            for row in range(LANES):
                if not row & step:
                    one, other = rows[row], rows[row + step]
                    rows[row], rows[row + step] = pick(one, other, upper), pick(one, other, lower)
        for row in range(LANES):
            builder.store(rows[row], pointer(to, new, row), align=4)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 4), emit


@worker(TRANSPOSE_WORK)
def transpose(work: Any) -> None:
    """Transpose matrices; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    size = w.rows * w.cols
    source = carray(pointer(w.source), (w.matrices * size,), np.float32)
    target = carray(pointer(w.target), (w.matrices * size,), np.float32)
    bands = (w.rows + LANES - 1) // LANES
    while True:
        task = next_task(w.ticket)
        if task >= w.matrices * bands:
            return
        base = task // bands * size
        top = task % bands * LANES
        bottom = min(top + LANES, w.rows)
        for left in range(0, w.cols, LANES):
            right = min(left + LANES, w.cols)
            if right - left == LANES and bottom - top == LANES:
                from_ = w.source + 4 * (base + top * w.cols + left)
                to = w.target + 4 * (base + left * w.rows + top)
                _transpose_square(from_, to, 4 * w.cols, 4 * w.rows)
            else:
                for col in range(left, right):
                    for row in range(top, bottom):
                        target[base + col * w.rows + row] = source[base + row * w.cols + col]
