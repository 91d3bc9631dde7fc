"""GPU kernels of the Triton engine: DAC and ADC in one pass each, counter-based normal noise.

The noise uses the addresses and the random words of the CPU kernels, so that an element gets the
same noise on both devices, up to the last bits of the floats: Philox 4x32 with seven rounds (Salmon
et al. 2011, doi:10.1145/2063384.2063405), and Box-Muller with the same polynomials.

Sizes and addresses are 64-bit numbers. Computations per element use 32 bits, since a GPU divides
64-bit numbers slowly.
"""

import triton
import triton.language as tl

PHILOX_ROUNDS = tl.constexpr(7)
BLOCK = tl.constexpr(1024)
"""Elements that share a run of counters; position p of a sample is in block p // BLOCK."""
LANES = tl.constexpr(256)
"""Counters per block: each yields four words for the noise of four elements, LANES apart."""


@triton.jit
def convert_inputs(
    source: tl.tensor,
    codes: tl.tensor,
    gain: tl.tensor,
    bound: tl.tensor,
    size: tl.tensor,
    run: tl.tensor,
    stride: tl.tensor,
    WHOLE: tl.constexpr,  # noqa: N803
    ROUNDS: tl.constexpr,  # noqa: N803
) -> None:
    """Convert inputs by the DAC: multiply by ``gain``, round, and clamp to +-bound.

    Args:
        source: runs of ``run`` values, ``stride`` apart, float32; a single run if ``WHOLE``.
        codes: ``size`` adjacent codes to be written, float32.
        gain: factor from an input to its code.
        bound: largest code, that of the largest input.
        size: number of values.
        run: length of a run.
        stride: distance from one run to the next.
        WHOLE: whether all values are adjacent.
        ROUNDS: whether codes are whole numbers.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK
    lanes = tl.arange(0, BLOCK)
    inside = lanes < tl.minimum(size - start, BLOCK).to(tl.int32)
    if WHOLE:
        values = tl.load(source + start + lanes, inside)
    else:
        place = start // run * stride + start % run
        gaps = _runs_begun(start, run, lanes).to(tl.int64) * (stride - run)
        values = tl.load(source + place + lanes + gaps, inside)
    code = values * gain
    if ROUNDS:
        code = _round(code)
    tl.store(codes + start + lanes, _clamp(code, bound), inside)


@triton.jit(
    do_not_specialize=["key_low", "key_high", "first_sample", "use", "row", "first_block", "blocks"]
)
def convert_outputs(
    sums: tl.tensor,
    total: tl.tensor,
    scale: tl.tensor,
    bias: tl.tensor,
    spread: tl.tensor,
    factor: tl.tensor,
    fits: tl.tensor,
    codes: tl.tensor,
    clipped: tl.tensor,
    size: tl.tensor,
    first: tl.tensor,
    sample_size: tl.tensor,
    columns: tl.tensor,
    inner: tl.tensor,
    spread_columns: tl.tensor,
    factor_columns: tl.tensor,
    key_low: tl.tensor,
    key_high: tl.tensor,
    first_sample: tl.tensor,
    use: tl.tensor,
    row: tl.tensor,
    first_block: tl.tensor,
    blocks: tl.tensor,
    noise: tl.tensor,
    bound: tl.tensor,
    NOISY: tl.constexpr,  # noqa: N803
    ROUNDS: tl.constexpr,  # noqa: N803
    ADDS: tl.constexpr,  # noqa: N803
) -> None:
    """Convert sums by the ADC (noise, rounding, clamping), apply scale and bias, write or add.

    A program computes one block of one sample. The arguments are those of ``ADC_WORK`` in
    :mod:`analogmed.analog.engines.cpu.kernels.adc`, except for the following:

    Args:
        scale: one value per column, as ``bias``.
        spread: ``None`` if not used, as ``factor``, ``fits`` and ``codes``.
        clipped: counter that is increased by the number of clipped outputs (int64).
        key_low: lower half of the key, signed; the other half is ``key_high``.
        first_block: number of the first program's block, counted through all samples.
        blocks: number of blocks per sample.
        NOISY: whether there is noise.
        ROUNDS: whether codes are whole numbers.
        ADDS: whether to add to the total.
    """
    number = tl.program_id(0).to(tl.int64) + first_block
    sample, block = number // blocks, number % blocks
    position = block * BLOCK
    element = sample * sample_size + position
    start = element - first  # below 0 if the block starts in an earlier part of the batch
    lowest = tl.minimum(tl.maximum(-start, 0), BLOCK).to(tl.int32)
    beyond = tl.minimum(tl.minimum(size - start, sample_size - position), BLOCK).to(tl.int32)
    first_run = element // inner
    first_column = (first_run % columns).to(tl.int32)
    lane = tl.arange(0, LANES)
    if NOISY:
        counter = (block * LANES).to(tl.uint32) + lane.to(tl.uint32)
        normals = _four_normals(counter, first_sample + sample, use, row, key_low, key_high)
    missed = tl.zeros([LANES], tl.int32)
    for quarter in tl.static_range(4):
        offset = quarter * LANES + lane
        inside = (offset >= lowest) & (offset < beyond)
        begun = _runs_begun(element, inner, offset)
        column = (first_column + begun) % columns
        code = tl.load(sums + start + offset, inside, other=0.0)
        if NOISY:
            deviation = noise
            if spread is not None:
                place = _by_position(start, first_run, begun, offset, first, inner, spread_columns)
                deviation = tl.load(spread + place, inside, other=0.0)
            code += deviation * normals[quarter]
        if ROUNDS:
            code = _round(code)
        if fits is not None:
            fit = tl.abs(code) <= bound
            tl.store(fits + start + offset, fit.to(tl.uint8), inside)
            missed += (inside & (fit == 0)).to(tl.int32)
        code = _clamp(code, bound)
        if codes is not None:
            tl.store(codes + start + offset, code, inside)
        worth = tl.load(scale + column, inside, other=0.0)
        if factor is not None:
            place = _by_position(start, first_run, begun, offset, first, inner, factor_columns)
            worth *= tl.load(factor + place, inside, other=0.0)
        output = code * worth + tl.load(bias + column, inside, other=0.0)
        if ADDS:
            output += tl.load(total + start + offset, inside, other=0.0)
        tl.store(total + start + offset, output, inside)
    if fits is not None:
        tl.atomic_add(clipped, tl.sum(missed, 0).to(tl.int64))


@triton.jit
def _runs_begun(start: tl.tensor, run: tl.tensor, lanes: tl.tensor) -> tl.tensor:
    """Return the number of runs that start before each lane, excluding the run of ``start``.

    All numbers are limited to BLOCK before the division: larger ones start no run here.
    """
    until = tl.minimum(run - start % run, BLOCK).to(tl.int32)
    step = tl.minimum(run, BLOCK).to(tl.int32)
    return (lanes - until + step) // step


@triton.jit
def _by_position(
    start: tl.tensor,
    first_run: tl.tensor,
    begun: tl.tensor,
    offset: tl.tensor,
    first: tl.tensor,
    inner: tl.tensor,
    shared: tl.tensor,
) -> tl.tensor:
    """Return the index of the value of each element's position, shared by ``shared`` columns.

    Elements before the part get an arbitrary index.
    """
    run = first_run - first // inner + begun
    within = start + offset - run * inner
    return run // shared * inner + within


@triton.jit
def _four_normals(
    counter: tl.tensor,
    sample: tl.tensor,
    use: tl.tensor,
    row: tl.tensor,
    key_low: tl.tensor,
    key_high: tl.tensor,
) -> tl.tensor:
    """Return normals for the four quarters of a block."""
    zero = tl.zeros([LANES], tl.uint32)
    c1, c2, c3 = (
        zero + sample.to(tl.uint32),
        zero + use.to(tl.uint32, bitcast=True),
        zero + row.to(tl.uint32, bitcast=True),
    )
    k0, k1 = key_low.to(tl.uint32, bitcast=True), key_high.to(tl.uint32, bitcast=True)
    w0, w1, w2, w3 = tl.philox_impl(counter, c1, c2, c3, zero + k0, zero + k1, PHILOX_ROUNDS)
    z0, z2 = _normal_pair(w0, w2)
    z1, z3 = _normal_pair(w1, w3)
    return z0, z1, z2, z3


@triton.jit
def _normal_pair(a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """Return two normals from two words (Box-Muller, as in the CPU kernels)."""
    sign = (b << 1) & 0x80000000
    radius = tl.sqrt(_squared_radius(a)).to(tl.uint32, bitcast=True) ^ sign
    radius = radius.to(tl.float32, bitcast=True)
    turn = (b << 2).to(tl.int32, bitcast=True).to(tl.float32) * 3.6572951981678993e-10
    z = turn * turn
    s = -1.9515295891e-4 * z + 8.3321608736e-3
    s = (s * z - 1.6666654611e-1) * z * turn + turn
    c = 2.443315711809948e-5 * z - 1.388731625493765e-3
    c = (c * z + 4.166664568298827e-2) * z * z - 0.5 * z + 1.0
    swap = b > 0x7FFFFFFF
    return radius * tl.where(swap, s, c), radius * tl.where(swap, c, s)


@triton.jit
def _squared_radius(a: tl.tensor) -> tl.tensor:
    """Return -2 ln((a + 1/2) / 2**32), by the polynomial of the CPU kernels."""
    bits = (a.to(tl.float32) + 0.5).to(tl.uint32, bitcast=True) + 0x004AFB0D
    exponent = (bits >> 23).to(tl.int32, bitcast=True).to(tl.float32) - 159.0
    m = ((bits & 0x007FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    y = 0.2148740 * m - 0.31806316
    y = y * m + 0.33946608
    y = y * m - 0.39880268
    y = y * m + 0.49985082
    y = y * m - 0.66667398
    y = (y * m + 1.0) * m - 2.0
    return tl.maximum(y * m - exponent * 1.3862944, 0.0)


@triton.jit
def _round(value: tl.tensor) -> tl.tensor:
    """Round to the nearest integer, halves to even; from 2**23 on, all floats are integers."""
    size = tl.abs(value)
    whole = (size + 8388608.0) - 8388608.0
    return tl.where(size < 8388608.0, tl.where(value < 0, -whole, whole), value)


@triton.jit
def _clamp(value: tl.tensor, bound: tl.tensor) -> tl.tensor:
    """Clamp to +-bound; NaN stays NaN."""
    value = tl.where(value > bound, bound, value)
    return tl.where(value < -bound, -bound, value)
