"""Operations on single 32-bit numbers.

Numba would widen integers to 64 bits, which disables LLVM's loop vectoriser. Therefore LLVM's
instructions are called directly.
"""

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

emits: Any = intrinsic  # numba passes the first argument, callers omit it


def _word_operation(instruction: str) -> Any:
    @emits
    def operation(typing: Any, left: Any, right: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return types.uint32(types.uint32, types.uint32), emit

    return operation


add, and_, xor = map(_word_operation, ("add", "and_", "xor"))
shl, shr = map(_word_operation, ("shl", "lshr"))


def _conversion(instruction: str, source: Any, target: Any, llvm_type: Any) -> Any:
    @emits
    def convert(typing: Any, value: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(arguments[0], llvm_type)

        return target(source), emit

    return convert


bits_of = _conversion("bitcast", types.float32, types.uint32, ir.IntType(32))
from_bits = _conversion("bitcast", types.uint32, types.float32, ir.FloatType())
from_unsigned = _conversion("uitofp", types.uint32, types.float32, ir.FloatType())
from_signed = _conversion("sitofp", types.uint32, types.float32, ir.FloatType())


@emits
def nearest(typing: Any, value: Any) -> Any:
    """Round to the nearest whole number, halves to the even one, as torch does."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rint = builder.module.declare_intrinsic("llvm.rint", [ir.FloatType()])
        return builder.call(rint, arguments)

    return types.float32(types.float32), emit


@njit(inline="always")
def clamp(value: Any, bound: Any) -> Any:
    """Clamp to +-bound; NaN stays NaN."""
    value = bound if value > bound else value
    return -bound if value < -bound else value


@njit(inline="always")
def to_code(value: Any, gain: Any, bound: Any, rounds: Any) -> Any:
    """Convert a value to a code of at most +-bound."""
    code = value * gain
    return clamp(nearest(code) if rounds else code, bound)
