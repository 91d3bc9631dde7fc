"""Generation of LLVM code for LANES values of float32 at a time."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

LANES = 16
I32 = ir.IntType(32)


def along_run(
    builder: Any, sources: list[Any], target: Any, length: Any, compute: Callable[..., Any]
) -> None:
    """Emit code that computes values from those at addresses, LANES at a time, and stores them."""
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
        values = [load_first(builder, at(source, whole), rest) for source in sources]
        store_first(builder, compute(*values), at(target, whole), rest)


def to_all_lanes(builder: Any, value: Any) -> Any:
    """Return LANES copies of a value of any type."""
    empty = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(empty, value, I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(I32, LANES), None))


def across_lanes(builder: Any, values: Any, combine: Callable[[Any, Any], Any]) -> Any:
    """Reduce LANES values by combining pairs of them."""
    for half in (8, 4, 2, 1):
        lanes = [I32((lane + half) % LANES) for lane in range(LANES)]
        mask = ir.Constant(ir.VectorType(I32, LANES), lanes)
        values = combine(values, builder.shuffle_vector(values, values, mask))
    return builder.extract_element(values, I32(0))


def round_lanes(builder: Any, values: Any) -> Any:
    """Round to the nearest whole number, halves to the even one, as torch does."""
    signature = ir.FunctionType(values.type, [values.type])
    name = f"llvm.rint.v{LANES}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), [values])


def clamp_lanes(builder: Any, values: Any, upper: Any) -> Any:
    """Clamp to +-upper; NaN stays NaN."""
    lower = builder.fneg(upper)
    values = builder.select(builder.fcmp_ordered(">", values, upper), upper, values)
    return builder.select(builder.fcmp_ordered("<", values, lower), lower, values)


def load_first(builder: Any, pointer: Any, number: Any) -> Any:
    """Load the first of LANES values, with zeros for the others."""
    lanes, flags = pointer.type.pointee, ir.VectorType(ir.IntType(1), LANES)
    signature = ir.FunctionType(lanes, [pointer.type, I32, flags, lanes])
    name = f"llvm.masked.load.v{LANES}f32.p0v{LANES}f32"
    load = cgutils.get_or_insert_function(builder.module, signature, name)
    lane = ir.Constant(ir.VectorType(I32, LANES), [I32(lane) for lane in range(LANES)])
    there = builder.icmp_signed("<", lane, to_all_lanes(builder, builder.trunc(number, I32)))
    return builder.call(load, [pointer, I32(4), there, ir.Constant(lanes, None)])


def store_first(builder: Any, values: Any, pointer: Any, number: Any) -> None:
    """Store the first of LANES values."""
    flags = ir.VectorType(ir.IntType(1), LANES)
    signature = ir.FunctionType(ir.VoidType(), [values.type, pointer.type, I32, flags])
    name = f"llvm.masked.store.v{LANES}f32.p0v{LANES}f32"
    store = cgutils.get_or_insert_function(builder.module, signature, name)
    lane = ir.Constant(ir.VectorType(I32, LANES), [I32(lane) for lane in range(LANES)])
    there = builder.icmp_signed("<", lane, to_all_lanes(builder, builder.trunc(number, I32)))
    builder.call(store, [values, pointer, I32(4), there])
