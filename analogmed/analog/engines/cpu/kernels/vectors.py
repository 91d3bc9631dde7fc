"""Conversion of a feature map to input vectors in codes, each divided by its size."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils

from analogmed.analog.engines.cpu.kernels.lanes import (
    I32,
    LANES,
    across_lanes,
    clamp_lanes,
    load_first,
    round_lanes,
    to_all_lanes,
)
from analogmed.analog.engines.cpu.kernels.words import emits, to_code
from analogmed.analog.engines.cpu.kernels.worker import next_task, pointer, worker

_LARGEST = np.finfo(np.float32).max
_F = np.float32
_VECTORS = 64
_SIZE_BITS = np.uint32(0x7FFFFFFF)  # bits of a float without its sign

PATCH_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("source", np.int64),
        ("codes", np.int64),
        ("sizes", np.int64),
        ("powers", np.int64),
        ("pieces", np.int64),
        ("number", np.int64),
        ("rests", np.int64),
        ("others", np.int64),
        ("first", np.int64),
        ("vectors", np.int64),
        ("pitch", np.int64),
        ("groups", np.int64),
        ("positions", np.int64, 3),
        ("steps", np.int64, 5),
        ("gain", np.float32),
        ("bound", np.float32),
        ("limit", np.float32),
        ("threshold", np.float32),
        ("unit", np.float32),
        ("mask", np.uint32),
        ("rounds", np.int32),
    ],
    align=True,
)
"""Work record of ``convert_vectors``.

Addresses: ``ticket`` (int64, 0 at the start); ``source``, ``codes``, ``sizes`` and ``powers``
(float32); ``pieces`` and ``rests`` (int64). An entry of the batch has three axes of ``positions``,
each with a vector of every group. A vector starts in the source at multiples of ``steps`` (of
batch, three positions, group). It consists of ``number`` pieces of LANES values each, with distance
from the start and position in the vector in the first table, and ``others`` shorter pieces, with
these two and their length in the second table. Of all vectors in this order, those from number
``first`` on are unfolded, into rows of ``pitch`` codes, which have space for LANES more codes than
a vector.

The size of a vector is the largest of its values, taking the bits in ``mask`` into account; at most
``limit`` and ``threshold``; ``unit`` where no value is above 0 or the mask is empty. A vector of
zeros has size 0 if the mask is not empty. Values are divided by the size, multiplied by ``gain``,
rounded if requested, and clamped to the code of the limit and to +-bound. The sums of the squared
codes are written to ``powers``.
"""


def _through_pieces(builder: Any, source: Any, tables: list[Any], visit: Any) -> None:
    """Emit code that visits the remainders of runs, padded with zeros, then their pieces.

    ``visit`` emits code for LANES values, given their position in the vector.
    """
    lanes, word, real = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64), ir.FloatType()
    base = builder.inttoptr(source, real.as_pointer())
    pieces, number, rests, others = tables
    for table, count, fields in ((rests, others, 3), (pieces, number, 2)):
        entries = builder.inttoptr(table, word.as_pointer())
        with cgutils.for_range(builder, count) as loop:
            entry = builder.gep(entries, [builder.mul(loop.index, word(fields))])
            offset, place = (builder.load(builder.gep(entry, [word(n)])) for n in range(2))
            pointer = builder.bitcast(builder.gep(base, [offset]), lanes.as_pointer())
            if fields == 2:
                visit(builder.load(pointer, align=4), place)
            else:
                length = builder.load(builder.gep(entry, [word(2)]))
                visit(load_first(builder, pointer, length), place)


@emits
def _largest_of_pieces(
    typing: Any, source: Any, pieces: Any, number: Any, rests: Any, others: Any, mask: Any
) -> Any:
    """Return the largest value, at least 0, of the bits in a mask; NaN is the largest.

    Numbers of at least 0 have the order of their bits, which are faster to compare.
    """
    words = ir.VectorType(I32, LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, *tables, bits = arguments
        masks = to_all_lanes(builder, bits)
        largest = cgutils.alloca_once_value(builder, ir.Constant(words, None))

        def larger(one: Any, other: Any) -> Any:
            return builder.select(builder.icmp_signed(">", one, other), one, other)

        def visit(values: Any, place: Any) -> None:
            sizes = builder.and_(builder.bitcast(values, words), masks)
            builder.store(larger(sizes, builder.load(largest)), largest)

        _through_pieces(builder, from_, tables, visit)
        found = across_lanes(builder, builder.load(largest), larger)
        return builder.bitcast(found, ir.FloatType())

    return types.float32(*(types.int64,) * 5, types.uint32), emit


@emits
def _pieces_to_codes(
    typing: Any,
    source: Any,
    pieces: Any,
    number: Any,
    rests: Any,
    others: Any,
    codes: Any,
    inverse: Any,
    gain: Any,
    top: Any,
    rounds: Any,
) -> Any:
    """Write the codes of a vector in sequence, and return the sum of their squares.

    LANES more codes get any value. A remainder is written before the piece after it, which
    overwrites the excess values.
    """
    lanes = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, *tables, to, inverse, gain, top, rounded = arguments
        inverses, gains, upper = (to_all_lanes(builder, value) for value in (inverse, gain, top))
        target = builder.inttoptr(to, ir.FloatType().as_pointer())
        power = cgutils.alloca_once_value(builder, ir.Constant(lanes, None))

        def visit(values: Any, place: Any) -> None:
            values = builder.fmul(builder.fmul(values, inverses), gains)
            values = builder.select(rounded, round_lanes(builder, values), values)
            values = clamp_lanes(builder, values, upper)
            pointer = builder.bitcast(builder.gep(target, [place]), lanes.as_pointer())
            builder.store(values, pointer, align=4)
            square = builder.fmul(values, values, flags=("contract",))
            builder.store(builder.fadd(builder.load(power), square, flags=("contract",)), power)

        _through_pieces(builder, from_, tables, visit)
        return across_lanes(builder, builder.load(power), builder.fadd)

    numbers = (types.float32, types.float32, types.float32, types.boolean)
    return types.float32(*(types.int64,) * 6, *numbers), emit


@njit
def _is_zero(source: Any, pieces: Any, number: Any, rests: Any, others: Any) -> Any:
    """Return whether all values of a vector are 0."""
    return _largest_of_pieces(source, pieces, number, rests, others, _SIZE_BITS) == 0


@worker(PATCH_WORK)
def convert_vectors(work: Any) -> None:
    """Unfold input vectors to codes; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    sizes = carray(pointer(w.sizes), (w.vectors,), np.float32)
    powers = carray(pointer(w.powers), (w.vectors,), np.float32)
    positions, steps = w.positions, w.steps
    depth, height, width = positions[0], positions[1], positions[2]
    limit, gain, bound, rounds = w.limit, w.gain, w.bound, w.rounds != 0
    while True:
        start = next_task(w.ticket) * _VECTORS
        if start >= w.vectors:
            return
        number, group = (w.first + start) // w.groups, (w.first + start) % w.groups
        number, x = number // width, number % width
        number, y = number // height, number % height
        number, z = number // depth, number % depth
        for vector in range(start, min(start + _VECTORS, w.vectors)):
            place = number * steps[0] + z * steps[1] + y * steps[2] + x * steps[3]
            source = w.source + 4 * (place + group * steps[4])
            size = _largest_of_pieces(source, w.pieces, w.number, w.rests, w.others, w.mask)
            if size > 0:
                size = min(size, limit, w.threshold)
            elif w.mask != 0 and _is_zero(source, w.pieces, w.number, w.rests, w.others):
                size = _F(0)  # and so is the output
            else:
                size = w.unit
            inverse = min(_F(1) / size, _LARGEST)
            top = to_code(limit * inverse, gain, bound, rounds)
            codes = w.codes + 4 * vector * w.pitch
            power = _pieces_to_codes(
                source,
                w.pieces,
                w.number,
                w.rests,
                w.others,
                codes,
                inverse,
                gain,
                top,
                rounds,
            )
            sizes[vector] = size
            if w.powers != 0:
                powers[vector] = power
            group += 1
            if group == w.groups:
                group, x = 0, x + 1
            if x == width:
                x, y = 0, y + 1
            if y == height:
                y, z = 0, z + 1
            if z == depth:
                z, number = 0, number + 1
