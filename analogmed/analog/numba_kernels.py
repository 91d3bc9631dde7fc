"""Compiled loops of the numba engine: normal noise by counter, DAC and ADC in one pass each.

Everything that the cached machine code depends on stands in this file: numba looks for changes in
the file of the compiled function only.

Random words come from Philox 4x32 (Salmon et al. 2011, doi:10.1145/2063384.2063405), a function of
key and counter: no state, so that neither threads nor batches change what an element gets. Seven
rounds are the fewest that pass all of BigCrush there. The arithmetic is typed to 32 bits through
LLVM instructions, since numba would widen it to 64 bits and lose LLVM's loop vectoriser.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, from_dtype, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

PHILOX_ROUNDS = 7
BLOCK = 1024
"""Elements that share a run of counters; position p of a sample lies in block p // BLOCK."""
_COUNTERS = BLOCK // 4
_TASK = 16 * BLOCK
LANES = 16
_VECTORS = 64
_AHEAD = 4096  # bytes to fetch ahead: the hardware does not foresee strided runs
_I32 = ir.IntType(32)

_emits: Any = intrinsic  # numba passes the first argument, which no caller gives

_U = np.uint32
_W = np.uint64
_F = np.float32
_LARGEST = np.finfo(np.float32).max

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
"""What ``convert_inputs`` works on.

Addresses: ``ticket`` (int64, 0 at the start), ``source`` (float32, ``extent`` values), ``runs`` and
``levels``. The values of a position stand ``pitch`` after those of the one before. At each position
``number`` runs of values are converted, each to codes of its own: ``runs`` (int64, number x 5) says
where a run begins at the first position, its length, the address of its codes (float32), how far
apart the codes of neighbouring positions stand, and how many runs further on LANES more codes will
have been written behind them; ``levels`` (float32, number x 2) what values
are multiplied by before they are rounded, if asked for, and the code of the largest input, which
bounds them. ``share`` runs are one thread's at a time.
"""

ADC_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("sums", np.int64),
        ("total", np.int64),
        ("scale", np.int64),
        ("bias", np.int64),
        ("spread", np.int64),
        ("factor", np.int64),
        ("codes", np.int64),
        ("fits", np.int64),
        ("clipped", np.int64),
        ("size", np.int64),
        ("first", np.int64),
        ("sample_size", np.int64),
        ("columns", np.int64),
        ("inner", np.int64),
        ("spread_columns", np.int64),
        ("factor_columns", np.int64),
        ("key", np.uint64),
        ("sample", np.uint32),
        ("use", np.uint32),
        ("row", np.uint32),
        ("noise", np.float32),
        ("bound", np.float32),
        ("rounds", np.int32),
        ("adds", np.int32),
        ("bytes", np.int32),
    ],
    align=True,
)
"""What ``convert_outputs`` works on.

Addresses: ``ticket`` (int64, 0 at the start); ``sums``, ``total``, ``scale`` and ``bias``
(float32). ``size`` elements, of which the first is element ``first`` of the layer's output; a
sample of the batch has ``sample_size`` of them, and element e belongs to column
``e // inner % columns``. ``scale`` and ``bias`` repeat the columns until ``columns + BLOCK`` values
are there. An element gets noise (a standard deviation of ``noise``), is rounded if asked for,
clamped to +-bound, scaled, and with the bias put into, or added to, the total.

Addresses that may be 0, for what is not wanted. In, one float32 for each position of these sums and
``spread_columns`` or ``factor_columns`` neighbouring columns, in the order of the sums: ``spread``,
the standard deviation of the noise there, in place of ``noise``; ``factor``, which multiplies the
result there. Out, one for each element: ``codes``, clamped codes (float32, or int8 with ``bytes``);
``fits``, 1 where the bound did not clip (uint8), which needs ``clipped``, how many it did (int64).
``codes`` goes with ``fits`` only, and neither with ``spread`` and ``factor``.
"""


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
"""What ``transpose`` works on: addresses of the ticket and of ``matrices`` matrices (float32)."""


def _worker(work: np.dtype) -> Callable[[Callable[..., Any]], Any]:
    """A C function of an address, whose machine code is kept where there is a folder for it."""
    signature = types.void(types.CPointer(from_dtype(work)))
    options: dict[str, Any] = {"fastmath": {"contract"}, "error_model": "numpy"}

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return cfunc(signature, cache=True, **options)(function)
        except RuntimeError:  # numba found no writable cache folder
            return cfunc(signature, **options)(function)

    return decorate


def _word_operation(instruction: str) -> Any:
    @_emits
    def operation(typing: Any, left: Any, right: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return types.uint32(types.uint32, types.uint32), emit

    return operation


_add, _and, _xor = map(_word_operation, ("add", "and_", "xor"))
_shl, _shr = map(_word_operation, ("shl", "lshr"))


def _conversion(instruction: str, source: Any, target: Any, llvm_type: Any) -> Any:
    @_emits
    def convert(typing: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(arguments[0], llvm_type)

        return target(source), emit

    return convert


_bits_of = _conversion("bitcast", types.float32, types.uint32, ir.IntType(32))
_from_bits = _conversion("bitcast", types.uint32, types.float32, ir.FloatType())
_from_unsigned = _conversion("uitofp", types.uint32, types.float32, ir.FloatType())
_from_signed = _conversion("sitofp", types.uint32, types.float32, ir.FloatType())


@_emits
def _round(typing: Any, value: Any) -> Any:
    """Round to the nearest whole number, halves to the even one, as torch does."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rint = builder.module.declare_intrinsic("llvm.rint", [ir.FloatType()])
        return builder.call(rint, arguments)

    return types.float32(types.float32), emit


@_emits
def _next_task(typing: Any, address: Any) -> Any:
    """Take a number from the counter at an address that all threads share."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), emit


@_emits
def _count(typing: Any, address: Any, number: Any) -> Any:
    """Add to a number at an address that all threads share."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), emit


@_emits
def _pointer(typing: Any, address: Any) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.PointerType(ir.IntType(8)))

    return types.voidptr(types.int64), emit


@njit(error_model="numpy")
def philox_words(words: Any, block: Any, sample: Any, use: Any, row: Any, key: Any) -> None:
    """Fill ``words`` (uint32, BLOCK) with Philox 4x32 of a block's counters.

    Counter i of the block is (block * BLOCK / 4 + i, sample, use, row); its four words stand at
    i, i + BLOCK / 4 and so on. A word stays in a 64-bit lane, whose upper half may hold anything:
    so a product needs one instruction.
    """
    low = _W(0xFFFFFFFF)
    w0, w1 = words[:_COUNTERS], words[_COUNTERS : 2 * _COUNTERS]
    w2, w3 = words[2 * _COUNTERS : 3 * _COUNTERS], words[3 * _COUNTERS : BLOCK]
    first = _W(block * _COUNTERS)
    for i in range(_COUNTERS):
        c0, c1, c2, c3 = first + _W(i), _W(sample), _W(use), _W(row)
        k0, k1 = key & low, key >> _W(32)
        for _ in range(PHILOX_ROUNDS):
            p0, p1 = (c0 & low) * _W(0xD2511F53), (c2 & low) * _W(0xCD9E8D57)
            c0, c1 = (p1 >> _W(32)) ^ c1 ^ k0, p1
            c2, c3 = (p0 >> _W(32)) ^ c3 ^ k1, p0
            k0, k1 = (k0 + _W(0x9E3779B9)) & low, (k1 + _W(0xBB67AE85)) & low
        w0[i], w1[i] = _U(c0 & low), _U(c1 & low)
        w2[i], w3[i] = _U(c2 & low), _U(c3 & low)


@njit(inline="always", fastmath={"contract"})
def _squared_radius(a: Any) -> Any:
    """-2 ln((a + 1/2) / 2**32), within 1e-6: the exponent's part, and a polynomial for the rest."""
    bits = _add(_bits_of(_from_unsigned(a) + _F(0.5)), _U(0x004AFB0D))
    exponent = _from_signed(_shr(bits, _U(23))) - _F(127 + 32)
    # the mantissa between the square roots of 1/2 and 2, less 1
    m = _from_bits(_add(_and(bits, _U(0x007FFFFF)), _U(0x3F3504F3))) - _F(1)
    y = _F(0.2148740) * m - _F(0.31806316)  # Chebyshev fit of -2 (ln(1 + m) - m + m**2 / 2) / m**3
    y = y * m + _F(0.33946608)
    y = y * m - _F(0.39880268)
    y = y * m + _F(0.49985082)
    y = y * m - _F(0.66667398)
    y = (y * m + _F(1)) * m - _F(2)
    return max(y * m - exponent * _F(1.3862944), _F(0))


@njit(inline="always", fastmath={"contract"})
def _normal_pair(a: Any, b: Any) -> Any:
    """Box-Muller: two normals from two words; sine and cosine by the polynomials of Cephes.

    30 bits of ``b`` are an angle between -45 and 45 degrees; the others turn it to all directions,
    one exchanges sine and cosine, one makes both negative.
    """
    sign = _and(_shl(b, _U(1)), _U(0x80000000))
    radius = _from_bits(_xor(_bits_of(np.sqrt(_squared_radius(a))), sign))
    turn = _from_signed(_shl(b, _U(2))) * _F(3.6572951981678993e-10)
    z = turn * turn
    s = _F(-1.9515295891e-4) * z + _F(8.3321608736e-3)
    s = (s * z - _F(1.6666654611e-1)) * z * turn + turn
    c = _F(2.443315711809948e-5) * z - _F(1.388731625493765e-3)
    c = (c * z + _F(4.166664568298827e-2)) * z * z - _F(0.5) * z + _F(1)
    swap = b > _U(0x7FFFFFFF)
    return radius * (s if swap else c), radius * (c if swap else s)


@njit(fastmath={"contract"}, error_model="numpy")
def _normals(noise: Any, words: Any) -> None:
    half = BLOCK // 2
    low, high = words[:half], words[half:BLOCK]
    first, second = noise[:half], noise[half:BLOCK]
    for i in range(half):
        first[i], second[i] = _normal_pair(low[i], high[i])


@_emits
def _transpose_square(typing: Any, source: Any, target: Any, pitch: Any, new_pitch: Any) -> Any:
    """Transpose LANES x LANES values at addresses; pitches are the bytes from row to row."""
    vector = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pointer(start: Any, pitch: Any, row: int) -> Any:
            offset = builder.mul(pitch, ir.Constant(ir.IntType(64), row))
            return builder.inttoptr(builder.add(start, offset), vector.as_pointer())

        def pick(one: Any, other: Any, lanes: list[int]) -> Any:
            mask = ir.Constant(ir.VectorType(_I32, LANES), [ir.Constant(_I32, n) for n in lanes])
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


@_emits
def _to_codes(typing: Any, source: Any, codes: Any, gain: Any, bound: Any, rounds: Any) -> Any:
    """``_to_code`` for LANES values at an address; LLVM would not vectorise runs this short."""
    vector = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def all_lanes(value: Any) -> Any:
            first = builder.insert_element(
                ir.Constant(vector, ir.Undefined), value, ir.Constant(_I32, 0)
            )
            mask = ir.Constant(ir.VectorType(_I32, LANES), None)
            return builder.shuffle_vector(first, first, mask)

        from_, to, gains, bounds, rounded = arguments
        values = builder.load(builder.inttoptr(from_, vector.as_pointer()), align=4)
        pointer = ir.IntType(8).as_pointer()
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", [pointer], ir.FunctionType(ir.VoidType(), [pointer, _I32, _I32, _I32])
        )
        ahead = builder.inttoptr(builder.add(from_, ir.Constant(ir.IntType(64), _AHEAD)), pointer)
        builder.call(prefetch, [ahead, *(ir.Constant(_I32, n) for n in (0, 3, 1))])
        values = builder.fmul(values, all_lanes(gains))
        rint = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.rint.v{LANES}f32"
        )
        values = builder.select(rounded, builder.call(rint, [values]), values)
        upper = all_lanes(bounds)
        values = builder.select(builder.fcmp_ordered(">", values, upper), upper, values)
        lower = builder.fneg(upper)
        values = builder.select(builder.fcmp_ordered("<", values, lower), lower, values)
        builder.store(values, builder.inttoptr(to, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    numbers = (types.float32, types.float32, types.boolean)
    return types.void(types.int64, types.int64, *numbers), emit


@njit(inline="always")
def _clamp(value: Any, bound: Any) -> Any:
    """Clamp to +-bound; NaN stays NaN."""
    value = bound if value > bound else value
    return -bound if value < -bound else value


@njit(inline="always")
def _to_code(value: Any, gain: Any, bound: Any, rounds: Any) -> Any:
    code = value * gain
    return _clamp(_round(code) if rounds else code, bound)


@njit(error_model="numpy")
def _by_column(values: Any, filled: Any, element: Any, n: Any, columns: Any, inner: Any) -> None:
    """Give each of n elements the value of its column."""
    start = 0
    while start < n:
        run, offset = (element + start) // inner, (element + start) % inner
        stop = min(n, start + inner - offset)
        filled[start:stop] = values[run % columns]
        start = stop


@njit(error_model="numpy")
def _by_position(values: Any, filled: Any, element: Any, n: Any, columns: Any, inner: Any) -> None:
    """Give each of n elements the value of its position, which so many columns share."""
    if columns == 1:
        filled[:n] = values[element : element + n]
        return
    start = 0
    while start < n:
        run, offset = (element + start) // inner, (element + start) % inner
        if inner == 1:
            stop = min(n, start + columns - run % columns)
            filled[start:stop] = values[run // columns]
        else:
            stop = min(n, start + inner - offset)
            first = run // columns * inner + offset
            filled[start:stop] = values[first : first + stop - start]
        start = stop


@njit(fastmath={"contract"}, error_model="numpy")
def _finish(
    sums: Any, out: Any, z: Any, scale: Any, bias: Any, std: Any, bound: Any, rounds: Any, adds: Any
) -> None:
    """Noise, ADC, scale and bias of one run of sums."""
    for i in range(len(sums)):
        code = sums[i] + std * z[i]
        code = _clamp(_round(code) if rounds else code, bound)
        before = out[i] if adds else _F(0)
        out[i] = before + (code * scale[i] + bias[i])


@njit(fastmath={"contract"}, error_model="numpy")
def _finish_each(
    sums: Any,
    out: Any,
    z: Any,
    scale: Any,
    bias: Any,
    std: Any,
    factor: Any,
    bound: Any,
    rounds: Any,
    adds: Any,
) -> None:
    """The same, with a deviation and a factor for each element."""
    for i in range(len(sums)):
        code = sums[i] + std[i] * z[i]
        code = _clamp(_round(code) if rounds else code, bound)
        before = out[i] if adds else _F(0)
        out[i] = before + (code * (scale[i] * factor[i]) + bias[i])


@njit(fastmath={"contract"}, error_model="numpy")
def _finish_recorded(
    sums: Any,
    out: Any,
    z: Any,
    scale: Any,
    bias: Any,
    codes: Any,
    bytes_: Any,
    fits: Any,
    std: Any,
    bound: Any,
    rounds: Any,
    adds: Any,
) -> Any:
    """The same as ``_finish``; notes what the bound clips, and the codes where there is room."""
    clipped: Any = 0
    for i in range(len(sums)):
        code = sums[i] + std * z[i]
        code = _round(code) if rounds else code
        fit = np.uint8(1) if abs(code) <= bound else np.uint8(0)
        fits[i] = fit
        clipped += _W(1) - _W(fit)
        code = _clamp(code, bound)
        before = out[i] if adds else _F(0)
        out[i] = before + (code * scale[i] + bias[i])
        if len(codes) > 0:
            codes[i] = code
        if len(bytes_) > 0:
            bytes_[i] = np.int8(code)
    return clipped


@_worker(DAC_WORK)
def convert_inputs(work: Any) -> None:
    """Bring a feature map to DAC codes; every thread that calls this takes a part of the work.

    Codes are written LANES at a time, also past the end of a run where the same thread will
    write the next positions' codes there.
    """
    w = carray(work, 1)[0]
    source = carray(_pointer(w.source), (w.extent,), np.float32)
    runs = carray(_pointer(w.runs), (w.number, 5), np.int64)
    levels = carray(_pointer(w.levels), (w.number, 2), np.float32)
    rounds = w.rounds != 0
    while True:
        start = _next_task(w.ticket) * w.share
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
                codes = carray(_pointer(to), (length,), np.float32)
                for i in range(done, length):
                    codes[i] = _to_code(source[at + i], gain, bound, rounds)
            run += 1
            if run == w.number:
                position, run = position + 1, 0


@_worker(ADC_WORK)
def convert_outputs(work: Any) -> None:
    """Bring a tile's sums to outputs; every thread that calls this takes a part of the work."""
    w = carray(work, 1)[0]
    sums = carray(_pointer(w.sums), (w.size,), np.float32)
    total = carray(_pointer(w.total), (w.size,), np.float32)
    scales = carray(_pointer(w.scale), (w.columns + BLOCK,), np.float32)
    biases = carray(_pointer(w.bias), (w.columns + BLOCK,), np.float32)
    spreads = carray(_pointer(w.spread), (w.size,), np.float32)
    factors = carray(_pointer(w.factor), (w.size,), np.float32)
    kept = carray(_pointer(w.codes), (w.size,), np.float32)
    kept_bytes = carray(_pointer(w.codes), (w.size,), np.int8)
    fits = carray(_pointer(w.fits), (w.size,), np.uint8)
    words, noise = np.empty(BLOCK, np.uint32), np.zeros(BLOCK, np.float32)
    scale, bias = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    spread, factor = np.full(BLOCK, w.noise, np.float32), np.ones(BLOCK, np.float32)
    std, bound, rounds, adds = w.noise, w.bound, w.rounds != 0, w.adds != 0
    varies, records = w.spread != 0 or w.factor != 0, w.fits != 0
    clipped = 0
    while True:
        start = _next_task(w.ticket) * _TASK
        if start >= w.size:
            break
        stop = min(start + _TASK, w.size)
        while start < stop:
            element = w.first + start
            sample, position = element // w.sample_size, element % w.sample_size
            block, offset = position // BLOCK, position % BLOCK
            n = min(BLOCK - offset, stop - start, w.sample_size - position)
            if std > 0 or w.spread != 0:
                philox_words(words, block, w.sample + _U(sample), w.use, w.row, w.key)
                _normals(noise, words)
            if w.inner == 1:
                column = element % w.columns
                s, b = scales[column : column + n], biases[column : column + n]
            else:
                _by_column(scales, scale, element, n, w.columns, w.inner)
                _by_column(biases, bias, element, n, w.columns, w.inner)
                s, b = scale[:n], bias[:n]
            values, out, z = sums[start : start + n], total[start : start + n], noise[offset:]
            if varies:
                if w.spread != 0:
                    _by_position(spreads, spread, start, n, w.spread_columns, w.inner)
                if w.factor != 0:
                    _by_position(factors, factor, start, n, w.factor_columns, w.inner)
                _finish_each(values, out, z, s, b, spread, factor, bound, rounds, adds)
            elif records:
                own_codes = kept[start : start + n if w.codes != 0 and w.bytes == 0 else start]
                own_bytes = kept_bytes[start : start + n if w.bytes != 0 else start]
                own_fits = fits[start : start + n]
                clipped += _finish_recorded(
                    values, out, z, s, b, own_codes, own_bytes, own_fits, std, bound, rounds, adds
                )
            else:
                _finish(values, out, z, s, b, std, bound, rounds, adds)
            start += n
    if records:
        _count(w.clipped, clipped)


@_worker(TRANSPOSE_WORK)
def transpose(work: Any) -> None:
    """Transpose matrices; every thread that calls this takes a part of the work."""
    w = carray(work, 1)[0]
    size = w.rows * w.cols
    source = carray(_pointer(w.source), (w.matrices * size,), np.float32)
    target = carray(_pointer(w.target), (w.matrices * size,), np.float32)
    bands = (w.rows + LANES - 1) // LANES
    while True:
        task = _next_task(w.ticket)
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
"""What ``convert_vectors`` works on.

Addresses: ``ticket`` (int64, 0 at the start); ``source``, ``codes``, ``sizes`` and ``powers``
(float32); ``pieces`` and ``rests`` (int64). An entry of the batch has three axes of ``positions``,
each of them has a vector of every group. A vector begins in the source at multiples of ``steps``
(of batch, three positions, group). ``number`` pieces of it, of LANES values each, have their
distance from there and their place in the vector in the first table, ``others`` shorter ones have
these and their length in the second. Of all vectors in this order, those from number ``first`` on
are laid out, in rows of ``pitch`` codes, which have room for LANES more than a vector has.

The size of a vector is the largest of its values, of which the bits in ``mask`` count; at most
``limit`` and ``threshold``; ``unit`` where it is 0. Values are divided by it, multiplied by
``gain``, rounded if asked for, and clamped to the code of the limit and to +-bound. ``powers`` gets
the sums of the squared codes.
"""


def _to_all_lanes(builder: Any, value: Any) -> Any:
    empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(empty, value, _I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, LANES), None))


def _across_lanes(builder: Any, values: Any, combine: Callable[[Any, Any], Any]) -> Any:
    for half in (8, 4, 2, 1):
        lanes = [_I32((lane + half) % LANES) for lane in range(LANES)]
        mask = ir.Constant(ir.VectorType(_I32, LANES), lanes)
        values = combine(values, builder.shuffle_vector(values, values, mask))
    return builder.extract_element(values, _I32(0))


def _through_pieces(builder: Any, source: Any, tables: list[Any], visit: Any) -> None:
    """Visit the rests of runs, filled up with zeros, and then their pieces of LANES values.

    ``visit`` emits code for values, given their place in the vector.
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
                visit(_load_first(builder, pointer, length), place)


def _load_first(builder: Any, pointer: Any, number: Any) -> Any:
    """Load the first few of LANES values, and zeros for the others."""
    lanes, flags = pointer.type.pointee, ir.VectorType(ir.IntType(1), LANES)
    signature = ir.FunctionType(lanes, [pointer.type, _I32, flags, lanes])
    name = f"llvm.masked.load.v{LANES}f32.p0v{LANES}f32"
    load = cgutils.get_or_insert_function(builder.module, signature, name)
    lane = ir.Constant(ir.VectorType(_I32, LANES), [_I32(lane) for lane in range(LANES)])
    there = builder.icmp_signed("<", lane, _to_all_lanes(builder, builder.trunc(number, _I32)))
    return builder.call(load, [pointer, _I32(4), there, ir.Constant(lanes, None)])


@_emits
def _largest_of_pieces(
    typing: Any, source: Any, pieces: Any, number: Any, rests: Any, others: Any, mask: Any
) -> Any:
    """The largest value, at least 0, of the bits in a mask; NaN is the largest.

    Numbers of at least 0 are in the order of their bits, whose comparison takes less time.
    """
    words = ir.VectorType(_I32, LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, *tables, bits = arguments
        masks = _to_all_lanes(builder, bits)
        largest = cgutils.alloca_once_value(builder, ir.Constant(words, None))

        def larger(one: Any, other: Any) -> Any:
            return builder.select(builder.icmp_signed(">", one, other), one, other)

        def visit(values: Any, place: Any) -> None:
            sizes = builder.and_(builder.bitcast(values, words), masks)
            builder.store(larger(sizes, builder.load(largest)), largest)

        _through_pieces(builder, from_, tables, visit)
        found = _across_lanes(builder, builder.load(largest), larger)
        return builder.bitcast(found, ir.FloatType())

    return types.float32(*(types.int64,) * 5, types.uint32), emit


@_emits
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
    """Lay the codes of a vector side by side; the sum of their squares. LANES more get any value.

    A rest is written before the piece behind it, which overwrites what has come too far.
    """
    lanes = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, *tables, to, inverse, gain, top, rounded = arguments
        inverses, gains, upper = (_to_all_lanes(builder, value) for value in (inverse, gain, top))
        lower = builder.fneg(upper)
        target = builder.inttoptr(to, ir.FloatType().as_pointer())
        power = cgutils.alloca_once_value(builder, ir.Constant(lanes, None))
        rint = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(lanes, [lanes]), f"llvm.rint.v{LANES}f32"
        )

        def visit(values: Any, place: Any) -> None:
            values = builder.fmul(builder.fmul(values, inverses), gains)
            values = builder.select(rounded, builder.call(rint, [values]), values)
            values = builder.select(builder.fcmp_ordered(">", values, upper), upper, values)
            values = builder.select(builder.fcmp_ordered("<", values, lower), lower, values)
            pointer = builder.bitcast(builder.gep(target, [place]), lanes.as_pointer())
            builder.store(values, pointer, align=4)
            square = builder.fmul(values, values, flags=("contract",))
            builder.store(builder.fadd(builder.load(power), square, flags=("contract",)), power)

        _through_pieces(builder, from_, tables, visit)
        return _across_lanes(builder, builder.load(power), builder.fadd)

    numbers = (types.float32, types.float32, types.float32, types.boolean)
    return types.float32(*(types.int64,) * 6, *numbers), emit


@_worker(PATCH_WORK)
def convert_vectors(work: Any) -> None:
    """Lay out input vectors in codes; every thread that calls this takes a part of the work."""
    w = carray(work, 1)[0]
    sizes = carray(_pointer(w.sizes), (w.vectors,), np.float32)
    powers = carray(_pointer(w.powers), (w.vectors,), np.float32)
    positions, steps = w.positions, w.steps
    depth, height, width = positions[0], positions[1], positions[2]
    limit, gain, bound, rounds = w.limit, w.gain, w.bound, w.rounds != 0
    while True:
        start = _next_task(w.ticket) * _VECTORS
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
            size = min(size, limit, w.threshold) if size > 0 else w.unit
            inverse = min(_F(1) / size, _LARGEST)
            top = _to_code(limit * inverse, gain, bound, rounds)
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
"""What ``convert_slices`` and ``merge_slices`` work on: slices of the inputs, side by side.

Addresses: ``ticket`` (int64, 0 at the start); ``inputs`` (float32, ``outer`` times ``pitch``
values); ``runs`` (int64, ``number`` times 6: where it begins in the inputs; address of what a row
of tiles sees of it, and the bytes from there to the same of the next outer position; length; row;
whether to add to the total); ``rows`` (float32, ``number_rows`` times 4: input range, factor to a
code, the converter's bound, the code of the range). A task is ``step`` of the outer positions.

``convert_slices`` puts codes where rows see them. ``merge_slices`` takes gradients by the clamped
inputs from there, and brings those by the inputs into ``total``, which is laid out as the inputs.
Where ``sums`` is an address, it gets for each task and row (float64, 3): how the gradient asks for
a wider range, how many inputs are not inside of it, and the sum of gradient times clamped input.
"""


def _store_first(builder: Any, values: Any, pointer: Any, number: Any) -> None:
    """Store the first few of LANES values."""
    flags = ir.VectorType(ir.IntType(1), LANES)
    signature = ir.FunctionType(ir.VoidType(), [values.type, pointer.type, _I32, flags])
    name = f"llvm.masked.store.v{LANES}f32.p0v{LANES}f32"
    store = cgutils.get_or_insert_function(builder.module, signature, name)
    lane = ir.Constant(ir.VectorType(_I32, LANES), [_I32(lane) for lane in range(LANES)])
    there = builder.icmp_signed("<", lane, _to_all_lanes(builder, builder.trunc(number, _I32)))
    builder.call(store, [values, pointer, _I32(4), there])


def _along_run(
    builder: Any, sources: list[Any], target: Any, length: Any, compute: Callable[..., Any]
) -> None:
    """Compute values from those at addresses, LANES at a time, and store them."""
    lanes, word = ir.VectorType(ir.FloatType(), LANES), ir.IntType(64)

    def at(address: Any, index: Any) -> Any:
        place = builder.add(address, builder.shl(index, word(2)))
        return builder.inttoptr(place, lanes.as_pointer())

    whole = builder.and_(length, word(-LANES))
    with cgutils.for_range_slice(builder, word(0), whole, word(LANES)) as (index, _):
        values = [builder.load(at(source, index), align=4) for source in sources]
        builder.store(compute(*values), at(target, index), align=4)
    rest = builder.sub(length, whole)
    with builder.if_then(builder.icmp_signed(">", rest, word(0))):
        values = [_load_first(builder, at(source, whole), rest) for source in sources]
        _store_first(builder, compute(*values), at(target, whole), rest)


def _emit_round(builder: Any, values: Any) -> Any:
    signature = ir.FunctionType(values.type, [values.type])
    name = f"llvm.rint.v{LANES}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [values])


def _emit_clamp(builder: Any, values: Any, upper: Any) -> Any:
    lower = builder.fneg(upper)
    values = builder.select(builder.fcmp_ordered(">", values, upper), upper, values)
    return builder.select(builder.fcmp_ordered("<", values, lower), lower, values)


@_emits
def _run_to_codes(
    typing: Any, source: Any, codes: Any, length: Any, gain: Any, bound: Any, rounds: Any
) -> Any:
    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, to, number, *factors, rounded = arguments
        gains, bounds = (_to_all_lanes(builder, value) for value in factors)

        def compute(values: Any) -> Any:
            values = builder.fmul(values, gains)
            values = builder.select(rounded, _emit_round(builder, values), values)
            return _emit_clamp(builder, values, bounds)

        _along_run(builder, [from_], to, number, compute)
        return context.get_dummy_value()

    return types.void(*(types.int64,) * 3, types.float32, types.float32, types.boolean), emit


@_emits
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
    """``merge_slices`` for a run; 3 times LANES partial sums stand at the address ``sums``."""
    lanes = ir.VectorType(ir.FloatType(), LANES)

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from_, slopes, to, number, partial, *numbers, rounded, added = arguments
        limits, gains, bounds, tops = (_to_all_lanes(builder, value) for value in numbers)
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
            clamped, sizes = _emit_clamp(builder, values, largest), builder.call(fabs, [values])
            codes = builder.fmul(values, gains)
            codes = builder.select(rounded, _emit_round(builder, codes), codes)
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

        before = builder.select(added, to, slopes)  # no need to fetch what does not count
        _along_run(builder, [from_, slopes, before], to, number, compute)
        return context.get_dummy_value()

    numbers = (*(types.float32,) * 4, types.boolean, types.boolean)
    return types.void(*(types.int64,) * 5, *numbers), emit


@_worker(SLICE_WORK)
def convert_slices(work: Any) -> None:
    """Bring slices to DAC codes; every thread that calls this takes a part of the work."""
    w = carray(work, 1)[0]
    runs = carray(_pointer(w.runs), (w.number, 6), np.int64)
    rows = carray(_pointer(w.rows), (w.number_rows, 4), np.float32)
    rounds = w.rounds != 0
    while True:
        start = _next_task(w.ticket) * w.step
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
    """Add partial sums to those in double precision, and start them anew."""
    for row in range(len(sums)):
        for index in range(3):
            for lane in range(LANES):
                sums[row, index] += partial[row, index, lane]
                partial[row, index, lane] = 0


@_worker(SLICE_WORK)
def merge_slices(work: Any) -> None:
    """Merge gradients of slices; every thread that calls this takes a part of the work."""
    w = carray(work, 1)[0]
    runs = carray(_pointer(w.runs), (w.number, 6), np.int64)
    rows = carray(_pointer(w.rows), (w.number_rows, 4), np.float32)
    tasks = (w.outer + w.step - 1) // w.step
    sums = carray(_pointer(w.sums), (tasks, w.number_rows, 3), np.float64)
    partial = np.zeros((w.number_rows, 3, LANES), np.float32)
    records, rounds = w.sums != 0, w.rounds != 0
    while True:
        task = _next_task(w.ticket)
        if task * w.step >= w.outer:
            return
        stop = min((task + 1) * w.step, w.outer)
        for outer in range(task * w.step, stop):
            for number in range(w.number):
                source, seen, pitch, length, row, adds = runs[number]
                at = partial.ctypes.data + 12 * LANES * row if records else 0
                for done in range(0, length, _TASK):
                    place = 4 * (outer * w.pitch + source + done)
                    _merge_run(
                        w.inputs + place,
                        seen + outer * pitch + 4 * done,
                        w.total + place,
                        min(_TASK, length - done),
                        at,
                        rows[row, 0],
                        rows[row, 1],
                        rows[row, 2],
                        rows[row, 3],
                        rounds,
                        adds != 0,
                    )
                    if records and length > _TASK:
                        _move_sums(partial, sums[task])
            if records and (outer % _VECTORS == 0 or outer == stop - 1):
                _move_sums(partial, sums[task])


PRODUCT_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("gradient", np.int64),
        ("codes", np.int64),
        ("sums", np.int64),
        ("rows", np.int64),
        ("outer", np.int64),
        ("step", np.int64),
        ("columns", np.int64),
        ("inner", np.int64),
        ("bytes", np.int32),
    ],
    align=True,
)
"""What ``sum_products`` works on.

Addresses: ``ticket`` (int64, 0 at the start); ``gradient`` (float32, ``outer`` times ``columns``
times ``inner`` values); ``codes``, the addresses of as many codes of each of ``rows`` rows of tiles
(int8 with ``bytes``, else float32); ``sums`` (float64), which gets for each task, row and column
the sum of gradient times code. A task is ``step`` of the outer positions.
"""


@njit(fastmath={"contract", "reassoc", "nsz"}, error_model="numpy")
def _add_products(gradient: Any, codes: Any, sums: Any, inner: Any) -> None:
    if inner == 1:
        for column in range(len(sums)):
            sums[column] += gradient[column] * _F(codes[column])
        return
    for column in range(len(sums)):
        total = _F(0)
        for index in range(column * inner, (column + 1) * inner):
            total += gradient[index] * _F(codes[index])
        sums[column] += total


@_worker(PRODUCT_WORK)
def sum_products(work: Any) -> None:
    """Sum gradient times code; every thread that calls this takes a part of the work."""
    w = carray(work, 1)[0]
    pitch = w.columns * w.inner
    size = w.outer * pitch
    gradient = carray(_pointer(w.gradient), (size,), np.float32)
    codes = carray(_pointer(w.codes), (w.rows,), np.int64)
    tasks = (w.outer + w.step - 1) // w.step
    sums = carray(_pointer(w.sums), (tasks, w.rows, w.columns), np.float64)
    partial = np.empty(w.columns, np.float32)
    while True:
        task = _next_task(w.ticket)
        if task * w.step >= w.outer:
            return
        stop = min((task + 1) * w.step, w.outer)
        for first in range(task * w.step, stop, _VECTORS):
            for row in range(w.rows):
                words = carray(_pointer(codes[row]), (size,), np.float32)
                single = carray(_pointer(codes[row]), (size,), np.int8)
                partial[:] = 0
                for outer in range(first, min(first + _VECTORS, stop)):
                    a, b = outer * pitch, (outer + 1) * pitch
                    if w.bytes != 0:
                        _add_products(gradient[a:b], single[a:b], partial, w.inner)
                    else:
                        _add_products(gradient[a:b], words[a:b], partial, w.inner)
                for column in range(w.columns):
                    sums[task, row, column] += partial[column]


MASK_WORK = np.dtype(
    [
        ("ticket", np.int64),
        ("values", np.int64),
        ("fits", np.int64),
        ("masked", np.int64),
        ("size", np.int64),
    ],
    align=True,
)
"""What ``mask`` works on: addresses of the ticket, values (float32), flags (uint8) and results."""


@njit(error_model="numpy")
def _keep_fitting(values: Any, fits: Any, masked: Any) -> None:
    for i in range(len(values)):
        masked[i] = values[i] if fits[i] != 0 else _F(0)


@_worker(MASK_WORK)
def mask(work: Any) -> None:
    """Keep values whose flag is set; every thread that calls this takes a part of the work."""
    w = carray(work, 1)[0]
    values = carray(_pointer(w.values), (w.size,), np.float32)
    fits = carray(_pointer(w.fits), (w.size,), np.uint8)
    masked = carray(_pointer(w.masked), (w.size,), np.float32)
    while True:
        start = _next_task(w.ticket) * _TASK
        if start >= w.size:
            return
        stop = min(start + _TASK, w.size)
        _keep_fitting(values[start:stop], fits[start:stop], masked[start:stop])
