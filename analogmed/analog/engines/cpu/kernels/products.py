"""Training: sums of gradient times code."""

from typing import Any

import numpy as np
from numba import carray, njit

from analogmed.analog.engines.cpu.kernels.worker import next_task, pointer, worker

_F = np.float32
_POSITIONS = 64  # number of positions summed in single precision before adding to double

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
"""Work record of ``sum_products``.

Addresses: ``ticket`` (int64, 0 at the start); ``gradient`` (float32, ``outer`` times ``columns``
times ``inner`` values); ``codes``, the addresses of the same number of codes for each of ``rows``
rows of tiles (int8 with ``bytes``, else float32); ``sums`` (float64), to which the sum of gradient
times code is written for each task, row and column. A task covers ``step`` of the outer positions.
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


@worker(PRODUCT_WORK)
def sum_products(work: Any) -> None:
    """Sum gradient times code; each thread that calls this processes a part of the work."""
    w = carray(work, 1)[0]
    pitch = w.columns * w.inner
    size = w.outer * pitch
    gradient = carray(pointer(w.gradient), (size,), np.float32)
    codes = carray(pointer(w.codes), (w.rows,), np.int64)
    tasks = (w.outer + w.step - 1) // w.step
    sums = carray(pointer(w.sums), (tasks, w.rows, w.columns), np.float64)
    partial = np.empty(w.columns, np.float32)
    while True:
        task = next_task(w.ticket)
        if task * w.step >= w.outer:
            return
        stop = min((task + 1) * w.step, w.outer)
        for first in range(task * w.step, stop, _POSITIONS):
            for row in range(w.rows):
                words = carray(pointer(codes[row]), (size,), np.float32)
                single = carray(pointer(codes[row]), (size,), np.int8)
                partial[:] = 0
                for outer in range(first, min(first + _POSITIONS, stop)):
                    a, b = outer * pitch, (outer + 1) * pitch
                    if w.bytes != 0:
                        _add_products(gradient[a:b], single[a:b], partial, w.inner)
                    else:
                        _add_products(gradient[a:b], words[a:b], partial, w.inner)
                for column in range(w.columns):
                    sums[task, row, column] += partial[column]
