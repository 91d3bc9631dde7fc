"""Conversion of a tile's sums to outputs: noise, ADC, scale and bias."""

from typing import Any

import numpy as np
from numba import carray, njit

from analogmed.analog.engines.cpu.kernels.noise import BLOCK, fill_normals, philox_words
from analogmed.analog.engines.cpu.kernels.words import clamp, nearest
from analogmed.analog.engines.cpu.kernels.worker import TASK, count, next_task, pointer, worker

_U, _W, _F = np.uint32, np.uint64, np.float32

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
"""Work record of ``convert_outputs``.

Addresses: ``ticket`` (int64, 0 at the start); ``sums``, ``total``, ``scale`` and ``bias``
(float32). There are ``size`` elements, the first of which is element ``first`` of the layer's
output. A sample of the batch has ``sample_size`` elements, and element e belongs to column ``e //
inner % columns``. ``scale`` and ``bias`` repeat the columns up to ``columns + BLOCK`` values. Each
element gets noise (with standard deviation ``noise``), is rounded if requested, clamped to +-bound
and scaled. With the bias, it is then written or added to the total.

Optional addresses, 0 if not used. Inputs, one float32 for each position of these sums and
``spread_columns`` or ``factor_columns`` adjacent columns, in the order of the sums: ``spread``, the
standard deviation of the noise there, instead of ``noise``; ``factor``, a multiplier of the result
there. Outputs, one for each element: ``codes``, clamped codes (float32, or int8 with ``bytes``);
``fits``, 1 where the bound did not clip (uint8), which requires ``clipped``, the number of clipped
elements (int64). ``codes`` requires ``fits``, and neither can be combined with ``spread`` and
``factor``.
"""


@njit(error_model="numpy")
def _by_column(values: Any, filled: Any, element: Any, n: Any, columns: Any, inner: Any) -> None:
    """Fill each of n elements with the value of its column."""
    start = 0
    while start < n:
        run, offset = (element + start) // inner, (element + start) % inner
        stop = min(n, start + inner - offset)
        filled[start:stop] = values[run % columns]
        start = stop


@njit(error_model="numpy")
def _by_position(values: Any, filled: Any, element: Any, n: Any, columns: Any, inner: Any) -> None:
    """Fill each of n elements with the value of its position, which several columns share."""
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
    """Apply noise, ADC, scale and bias to one run of sums."""
    for i in range(len(sums)):
        code = sums[i] + std * z[i]
        code = clamp(nearest(code) if rounds else code, bound)
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
    """Apply the steps of ``_finish``, with a deviation and a factor for each element."""
    for i in range(len(sums)):
        code = sums[i] + std[i] * z[i]
        code = clamp(nearest(code) if rounds else code, bound)
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
    """Apply the steps of ``_finish``; record clipped elements, and codes if there is a buffer."""
    clipped: Any = 0
    for i in range(len(sums)):
        code = sums[i] + std * z[i]
        code = nearest(code) if rounds else code
        fit = np.uint8(1) if abs(code) <= bound else np.uint8(0)
        fits[i] = fit
        clipped += _W(1) - _W(fit)
        code = clamp(code, bound)
        before = out[i] if adds else _F(0)
        out[i] = before + (code * scale[i] + bias[i])
        if len(codes) > 0:
            codes[i] = code
        if len(bytes_) > 0:
            bytes_[i] = np.int8(code)
    return clipped


@worker(ADC_WORK)
def convert_outputs(work: Any) -> None:
    """Convert sums to outputs; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    sums = carray(pointer(w.sums), (w.size,), np.float32)
    total = carray(pointer(w.total), (w.size,), np.float32)
    scales = carray(pointer(w.scale), (w.columns + BLOCK,), np.float32)
    biases = carray(pointer(w.bias), (w.columns + BLOCK,), np.float32)
    spreads = carray(pointer(w.spread), (w.size,), np.float32)
    factors = carray(pointer(w.factor), (w.size,), np.float32)
    kept = carray(pointer(w.codes), (w.size,), np.float32)
    kept_bytes = carray(pointer(w.codes), (w.size,), np.int8)
    fits = carray(pointer(w.fits), (w.size,), np.uint8)
    words, noise = np.empty(BLOCK, np.uint32), np.zeros(BLOCK, np.float32)
    scale, bias = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    spread, factor = np.full(BLOCK, w.noise, np.float32), np.ones(BLOCK, np.float32)
    std, bound, rounds, adds = w.noise, w.bound, w.rounds != 0, w.adds != 0
    varies, records = w.spread != 0 or w.factor != 0, w.fits != 0
    clipped = 0
    while True:
        start = next_task(w.ticket) * TASK
        if start >= w.size:
            break
        stop = min(start + TASK, w.size)
        while start < stop:
            element = w.first + start
            sample, position = element // w.sample_size, element % w.sample_size
            block, offset = position // BLOCK, position % BLOCK
            n = min(BLOCK - offset, stop - start, w.sample_size - position)
            if std > 0 or w.spread != 0:
                philox_words(words, block, w.sample + _U(sample), w.use, w.row, w.key)
                fill_normals(noise, words)
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
        count(w.clipped, clipped)
