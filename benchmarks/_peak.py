"""Peak memory of a fresh process. Linux only."""

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _simulators import SkippedError

from analogmed.foundation.process import bytes_by_name
from analogmed.network.probe import is_out_of_memory

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

OUT_OF_MEMORY = "ran out of memory"


def in_fresh_process(
    measure: Callable[..., "DataclassInstance"], *arguments: Any
) -> dict[str, Any] | str:
    """Return what a function measures in a process of its own, or why it could not run, as text."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, measure, arguments))
    process.start()
    sender.close()
    try:
        found: dict[str, Any] | str = receiver.recv()
        return found
    except EOFError:
        process.join()
        return f"its process ended with exit code {process.exitcode}"
    finally:
        process.join()


def level_mb() -> float:
    """Return the resident memory in use, without freed blocks, and reset the recorded peak."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return status_mb("VmRSS")


def status_mb(field: str) -> float:
    """Return a field of the status of this process in MB, such as ``VmHWM``, its peak."""
    return bytes_by_name("/proc/self/status")[field] / 1e6


def _send(sender: Any, measure: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        sender.send(asdict(measure(*arguments)))
    except (SkippedError, NotImplementedError) as error:
        sender.send(str(error))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        sender.send(OUT_OF_MEMORY)
