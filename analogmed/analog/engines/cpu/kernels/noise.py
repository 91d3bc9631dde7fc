"""Counter-based normal noise.

Random words come from Philox 4x32 (Salmon et al. 2011, doi:10.1145/2063384.2063405), a function of
key and counter without state, so that an element's noise depends neither on threads nor on batches.
Seven rounds are the smallest number that passes all of BigCrush there.
"""

from typing import Any

import numpy as np
from numba import njit

from analogmed.analog.engines.cpu.kernels.words import (
    add,
    and_,
    bits_of,
    from_bits,
    from_signed,
    from_unsigned,
    shl,
    shr,
    xor,
)

PHILOX_ROUNDS = 7

BLOCK = 1024
"""Elements that share a run of counters; position p of a sample is in block p // BLOCK."""

_COUNTERS = BLOCK // 4
_U, _W, _F = np.uint32, np.uint64, np.float32


@njit(error_model="numpy")
def philox_words(words: Any, block: Any, sample: Any, use: Any, row: Any, key: Any) -> None:
    """Fill ``words`` (uint32, BLOCK) with Philox 4x32 of a block's counters.

    Counter i of the block is (block * BLOCK / 4 + i, sample, use, row); its four words are at i, i
    + BLOCK / 4 and so on. A word is stored in a 64-bit lane with arbitrary upper half, so that a
    product needs one instruction.
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


@njit(fastmath={"contract"}, error_model="numpy")
def fill_normals(noise: Any, words: Any) -> None:
    """Convert a block's words to normals."""
    half = BLOCK // 2
    low, high = words[:half], words[half:BLOCK]
    first, second = noise[:half], noise[half:BLOCK]
    for i in range(half):
        first[i], second[i] = _normal_pair(low[i], high[i])


@njit(inline="always", fastmath={"contract"})
def _normal_pair(a: Any, b: Any) -> Any:
    """Return two normals from two words (Box-Muller; sine and cosine by the polynomials of Cephes).

    30 bits of ``b`` are an angle between -45 and 45 degrees. The other two extend it to all
    directions: one exchanges sine and cosine, one negates both.
    """
    sign = and_(shl(b, _U(1)), _U(0x80000000))
    radius = from_bits(xor(bits_of(np.sqrt(_squared_radius(a))), sign))
    turn = from_signed(shl(b, _U(2))) * _F(3.6572951981678993e-10)
    z = turn * turn
    s = _F(-1.9515295891e-4) * z + _F(8.3321608736e-3)
    s = (s * z - _F(1.6666654611e-1)) * z * turn + turn
    c = _F(2.443315711809948e-5) * z - _F(1.388731625493765e-3)
    c = (c * z + _F(4.166664568298827e-2)) * z * z - _F(0.5) * z + _F(1)
    swap = b > _U(0x7FFFFFFF)
    return radius * (s if swap else c), radius * (c if swap else s)


@njit(inline="always", fastmath={"contract"})
def _squared_radius(a: Any) -> Any:
    """Return -2 ln((a + 1/2) / 2**32), within 1e-6: the exponent's part plus a polynomial."""
    bits = add(bits_of(from_unsigned(a) + _F(0.5)), _U(0x004AFB0D))
    exponent = from_signed(shr(bits, _U(23))) - _F(127 + 32)
    # the mantissa between the square roots of 1/2 and 2, minus 1
    m = from_bits(add(and_(bits, _U(0x007FFFFF)), _U(0x3F3504F3))) - _F(1)
    y = _F(0.2148740) * m - _F(0.31806316)  # Chebyshev fit of -2 (ln(1 + m) - m + m**2 / 2) / m**3
    y = y * m + _F(0.33946608)
    y = y * m - _F(0.39880268)
    y = y * m + _F(0.49985082)
    y = y * m - _F(0.66667398)
    y = (y * m + _F(1)) * m - _F(2)
    return max(y * m - exponent * _F(1.3862944), _F(0))
