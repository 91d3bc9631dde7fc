"""Memory and processor of this process.

By default, glibc returns large freed blocks to the system, and each new tensor causes page faults:
on two cores, ``x * 2`` on a 67 MB tensor takes 17 ms, and 1.4 ms if freed memory is kept. Importing
analogmed changes nothing; only the programs call :func:`keep_freed_memory`.
"""

import ctypes
import os
import platform
import sys
from pathlib import Path

SWITCH = "ANALOGMED_ALLOCATOR"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Let this process reuse freed memory instead of returning it.

    The environment variable ``ANALOGMED_ALLOCATOR=system`` leaves the allocator as it is.

    Returns:
        whether the allocator was changed; only glibc supports it.
    """
    if os.environ.get(SWITCH) == "system" or not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, -1))


def available_cores() -> int:
    """Return the number of cores that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def free_bytes() -> int | None:
    """Return the memory in bytes that this process may still use; ``None`` where it is unknown.

    It is the least of the free memory of the machine, and of what is left below the limits of the
    process (``ulimit -v``, ``ulimit -d``) and of its control group.
    """
    try:
        import resource
    except ImportError:  # no limits on this system
        return None
    machine, own = bytes_by_name("/proc/meminfo"), bytes_by_name("/proc/self/status")
    rooms = [machine["MemAvailable"]] if "MemAvailable" in machine else []
    for limit, used in ((resource.RLIMIT_AS, "VmSize"), (resource.RLIMIT_DATA, "VmData")):
        most, _ = resource.getrlimit(limit)
        if most != resource.RLIM_INFINITY and used in own:
            rooms.append(most - own[used])
    group = Path("/sys/fs/cgroup")
    try:
        most_text = (group / "memory.max").read_text().strip()
        if most_text != "max":
            rooms.append(int(most_text) - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        pass
    return max(0, min(rooms)) if rooms else None


def bytes_by_name(path: str) -> dict[str, int]:
    """Return the sizes that a file of the kernel lists in kB, in bytes; none without the file.

    Example:
        ``bytes_by_name("/proc/self/status")["VmHWM"]`` is the peak of the resident memory.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    fields = (line.split() for line in lines if line.endswith(" kB"))
    return {words[0].removesuffix(":"): 1024 * int(words[1]) for words in fields}


def processor_name() -> str:
    """Return the name of the processor; its architecture if the system does not report a name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
