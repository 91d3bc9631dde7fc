"""Training: conversion of slices of a feature map to codes, and merging of their gradients."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils

from analogmed.analog.engines.cpu.kernels.lanes import (
    LANES,
    along_run,
    clamp_lanes,
    round_lanes,
    to_all_lanes,
)
from analogmed.analog.engines.cpu.kernels.words import emits
from analogmed.analog.engines.cpu.kernels.worker import TASK, next_task, pointer, worker

_POSITIONS = 64  # number of positions summed in single precision before adding to double

SLICE_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("inputs", np.int64),
        ("total", np.int64),
        ("runs", np.int64),
        ("rows", np.int64),
        ("sums", np.int64),
        ("number", np.int64),
        ("number_rows", np.int64),
        ("outer", np.int64),
        ("step", np.int64),
        ("pitch", np.int64),
        ("rounds", np.int32),
    ],
    align=True,
)
"""Work record of ``convert_slices`` and ``merge_slices``: concatenated slices of the inputs.

Addresses: ``ticket`` (int64, 0 at the start); ``inputs`` (float32, ``outer`` times ``pitch``
values); ``runs`` (int64, ``number`` times 6: start in the inputs; address of the run in the slice
of its row of tiles, and distance in bytes from there to the next outer position; length; row;
whether to add to the total); ``rows`` (float32, ``number_rows`` times 4: input range, factor to a
code, bound of the converter, code of the range). A task covers ``step`` of the outer positions.

``convert_slices`` writes codes to the slices of the rows. ``merge_slices`` reads the gradients by
the clamped inputs from there, and writes the gradients by the inputs to ``total``, which has the
layout of the inputs. If ``sums`` is an address, it gets for each task and row (float64, 3): the
gradient's request for a wider range, the number of inputs that are not inside the range, and the
sum of gradient times clamped input.
"""


@emits
def _run_to_codes(
    typing: Any, source: Any, codes: Any, length: Any, gain: Any, bound: Any, rounds: Any
) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, to, number, *factors, rounded = arguments
        gains, bounds = (to_all_lanes(builder, value) for value in factors)

        def compute(values: Any) -> Any:
            values = builder.fmul(values, gains)
            values = builder.select(rounded, round_lanes(builder, values), values)
            return clamp_lanes(builder, values, bounds)

        along_run(builder, [from_], to, number, compute)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 3, types.float32, types.float32, types.boolean), emit


@emits
def _merge_run(
    typing: Any,
    inputs: Any,
    gradient: Any,
    total: Any,
    length: Any,
    sums: Any,
    limit: Any,
    gain: Any,
    bound: Any,
    top: Any,
    rounds: Any,
    adds: Any,
) -> Any:
    """Emit ``merge_slices`` for a run; 3 times LANES partial sums are at the address ``sums``."""
    lanes = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, slopes, to, number, partial, *numbers, rounded, added = arguments
        limits, gains, bounds, tops = (to_all_lanes(builder, value) for value in numbers)
        zero, one = ir.Constant(lanes, None), ir.Constant(lanes, [1.0] * LANES)
        fabs = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(lanes, [lanes]), f"llvm.fabs.v{LANES}f32"
        )
        largest = builder.call(fabs, [limits])
        records = builder.icmp_signed("!=", partial, ir.IntType(64)(0))

        def where(relation: str, left: Any, right: Any, value: Any) -> Any:
            return builder.select(builder.fcmp_ordered(relation, left, right), value, zero)

        def note(index: int, values: Any) -> None:
            place = builder.add(partial, ir.IntType(64)(4 * LANES * index))
            pointer = builder.inttoptr(place, lanes.as_pointer())
            builder.store(builder.fadd(builder.load(pointer, align=4), values), pointer, align=4)

        def compute(values: Any, slope: Any, before: Any) -> Any:
            clamped, sizes = clamp_lanes(builder, values, largest), builder.call(fabs, [values])
            codes = builder.fmul(values, gains)
            codes = builder.select(rounded, round_lanes(builder, codes), codes)
            codes = builder.select(
                builder.fcmp_ordered(">=", sizes, largest), tops, builder.call(fabs, [codes])
            )
            slope = where("<=", codes, bounds, slope)
            with builder.if_then(records):
                wider = where(">=", clamped, limits, where("<", slope, zero, slope))
                lower = where("<=", clamped, builder.fneg(limits), where(">", slope, zero, slope))
                note(0, builder.fsub(wider, lower))
                inside = builder.fcmp_ordered("<", builder.call(fabs, [clamped]), limits)
                note(1, builder.select(inside, zero, one))
                note(2, builder.fmul(slope, clamped))
            slope = where("<=", sizes, largest, slope)
            return builder.fadd(slope, builder.select(added, before, zero))

        before = builder.select(added, to, slopes)  # avoids loading values that are not used
        along_run(builder, [from_, slopes, before], to, number, compute)
        return context.get_dummy_value()

    numbers = (*(types.float32,) * 4, types.boolean, types.boolean)
    return types.void(*(types.int64,) * 5, *numbers), emit


@worker(SLICE_WORK)
def convert_slices(work: Any) -> None:
    """Convert slices to DAC codes; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    runs = carray(pointer(w.runs), (w.number, 6), np.int64)
    rows = carray(pointer(w.rows), (w.number_rows, 4), np.float32)
    rounds = w.rounds != 0
    while True:
        start = next_task(w.ticket) * w.step
        if start >= w.outer:
            return
        for outer in range(start, min(start + w.step, w.outer)):
            inputs = w.inputs + 4 * outer * w.pitch
            for number in range(w.number):
                source, seen, pitch, length, row, _ = runs[number]
                from_, to = inputs + 4 * source, seen + outer * pitch
                top = min(rows[row, 2], rows[row, 3])
                _run_to_codes(from_, to, length, rows[row, 1], top, rounds)


@njit
def _move_sums(partial: Any, sums: Any) -> None:
    """Add partial sums to those in double precision, and reset them."""
    for row in range(len(sums)):
        for index in range(3):
            for lane in range(LANES):
                sums[row, index] += partial[row, index, lane]
                partial[row, index, lane] = 0


@worker(SLICE_WORK)
def merge_slices(work: Any) -> None:
    """Merge gradients of slices; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    runs = carray(pointer(w.runs), (w.number, 6), np.int64)
    rows = carray(pointer(w.rows), (w.number_rows, 4), np.float32)
    tasks = (w.outer + w.step - 1) // w.step
    sums = carray(pointer(w.sums), (tasks, w.number_rows, 3), np.float64)
    partial = np.zeros((w.number_rows, 3, LANES), np.float32)
    records, rounds = w.sums != 0, w.rounds != 0
    while True:
        task = next_task(w.ticket)
        if task * w.step >= w.outer:
            return
        stop = min((task + 1) * w.step, w.outer)
        for outer in range(task * w.step, stop):
            for number in range(w.number):
                source, seen, pitch, length, row, adds = runs[number]
                at = partial.ctypes.data + 12 * LANES * row if records else 0
                for done in range(0, length, TASK):
                    place = 4 * (outer * w.pitch + source + done)
                    _merge_run(
                        w.inputs + place,
                        seen + outer * pitch + 4 * done,
                        w.total + place,
                        min(TASK, length - done),
                        at,
                        rows[row, 0],
                        rows[row, 1],
                        rows[row, 2],
                        rows[row, 3],
                        rounds,
                        adds != 0,
                    )
                    if records and length > TASK:
                        _move_sums(partial, sums[task])
            if records and (outer % _POSITIONS == 0 or outer == stop - 1):
                _move_sums(partial, sums[task])
