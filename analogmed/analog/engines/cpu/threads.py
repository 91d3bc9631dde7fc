"""Execution of compiled code on torch's threads."""

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
"""Smallest number of elements for which a thread is woken."""
_Run = Callable[[Any, Any, int], None]


def share_work(worker: Any, work: np.ndarray, elements: int) -> None:
    """Distribute a compiled pass over torch's threads, and wait for its end.

    Args:
        worker: compiled pass, see :func:`analogmed.analog.engines.cpu.kernels.worker.worker`.
        work: record of the pass; this function sets its ticket.
        elements: number of elements of the pass.
    """
    ticket = np.zeros(1, np.int64)
    work["ticket"] = ticket.ctypes.data
    run_threaded(worker.ctypes, work.ctypes.data, at_most=elements // ELEMENTS_A_THREAD)


def run_threaded(function: Any, data: int, *, at_most: int | None = None) -> None:
    """Call a C function once on each of torch's threads, and wait for its end.

    Torch's OpenMP threads spin for milliseconds after each operation. A separate thread pool would
    compete with them for the cores, so the work runs on torch's threads.

    Args:
        function: ctypes function of one address, which distributes the work by itself.
        data: address that the function is called with.
        at_most: largest useful number of threads; ``None`` for all.
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
    """Return ``GOMP_parallel`` of the GNU OpenMP library that torch has loaded, if any."""
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
