"""Running compiled work on the threads that torch computes with."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

ELEMENTS_A_THREAD = 1 << 14
"""Less work than this is not worth waking a thread."""
_Run = Callable[[Any, Any, int], None]


def share_work(worker: Any, work: np.ndarray, elements: int) -> None:
    """Let torch's threads share the work of a compiled pass, and wait.

    Args:
        worker: see :func:`analogmed.analog.engines.cpu.kernels.worker.worker`.
        work: what it works on; its ticket is given here.
        elements: how many it goes through.
    """
    ticket = np.zeros(1, np.int64)
    work["ticket"] = ticket.ctypes.data
    run_threaded(worker.ctypes, work.ctypes.data, at_most=elements // ELEMENTS_A_THREAD)


def run_threaded(function: Any, data: int, *, at_most: int | None = None) -> None:
    """Call a C function once on each of torch's threads, and wait.

    Torch's OpenMP threads spin for milliseconds after each operation. A thread pool beside theirs
    would compete with them for the cores, so the work goes to theirs.

    Args:
        function: a ctypes function of one address; it shares the work out by itself.
        data: the address.
        at_most: threads that the work is enough for.
    """
    threads = torch.get_num_threads()
    if at_most is not None:
        threads = min(threads, at_most)
    if threads <= 1:
        function(data)
    else:
        _crew()(function, data, threads)


@cache
def _crew() -> _Run:
    parallel = _torchs_openmp()
    if parallel is None:
        return _run_in_pool

    def run(function: Any, data: Any, threads: int) -> None:
        parallel(ctypes.cast(function, ctypes.c_void_p), data, threads, 0)

    return run


def _torchs_openmp() -> Any:
    """``GOMP_parallel`` of the GNU OpenMP library that torch has loaded, if it has."""
    root = Path(torch.__file__).parent
    for path in [*root.glob("lib/libgomp*"), *root.with_name("torch.libs").glob("libgomp*")]:
        try:
            parallel = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_NOLOAD).GOMP_parallel
        except (OSError, AttributeError):
            continue
        parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        parallel.restype = None
        return parallel
    return None


def _run_in_pool(function: Any, data: Any, threads: int) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(function, data) for _ in range(threads)]:
            done.result()
