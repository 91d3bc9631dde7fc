"""C functions that threads call to share work, and their shared counters."""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.ccallback import CFunc

from analogmed.analog.engines.cpu.kernels.words import emits

TASK = 1 << 14
"""Number of elements that a thread processes at a time."""
_I64 = ir.IntType(64)
_OPTIONS = {"fastmath": {"contract"}, "error_model": "numpy"}


def worker(work: np.dtype) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles a C function of an address, cached where possible."""
    signature = (types.CPointer(from_dtype(work)),), types.void

    def decorate(function: Callable[..., Any]) -> Any:
        compiled: Any = CFunc(function, signature, {}, _OPTIONS)
        with suppress(RuntimeError):  # numba found no writable folder
            compiled._cache = _Cache(function)
        compiled.compile()
        return compiled

    return decorate


class _Cache(FunctionCache):
    """Numba cache that depends on all files of this folder, not only on that of the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        name = self._impl.filename_base
        self._cache_file = IndexDataCacheFile(self.cache_path, name, _fingerprint())


@cache
def _fingerprint() -> str:
    """Return a fingerprint of all files of this folder."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()


@emits
def next_task(typing: Any, address: Any) -> Any:
    """Take a number from the counter at an address that all threads share."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", counter, _I64(1), "monotonic")

    return types.int64(types.int64), emit


@emits
def count(typing: Any, address: Any, number: Any) -> Any:
    """Add to a number at an address that all threads share."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        counter = builder.inttoptr(arguments[0], _I64.as_pointer())
        return builder.atomic_rmw("add", counter, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), emit


@emits
def pointer(typing: Any, address: Any) -> Any:
    """Return a pointer that numba can make an array of."""

    def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], ir.PointerType(ir.IntType(8)))

    return types.voidptr(types.int64), emit
