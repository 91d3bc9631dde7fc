"""Command line, memory limit and JSON output that all benchmarks share."""

import argparse
import json
import os
import platform
import resource
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from analogmed.foundation.process import free_bytes, keep_freed_memory, processor_name

_PACKAGES = ("torch", "aihwkit", "aihwkit-lightning", "numba", "triton", "monai", "numpy")
_SHARE_OF_FREE_MEMORY = 0.8


def parser(description: str | None, workloads: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    workloads = list(workloads)
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", nargs="+", choices=workloads, default=workloads)
    options.add_argument("--rounds", type=int, default=5, help="of each contender (default 5)")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument(
        "--quick", action="store_true", help="small images, to see that it works; no result"
    )
    options.add_argument("--json", type=Path, help="write the numbers to this file")
    return options


def prepare(threads: int, device: str = "cpu") -> None:
    """Set allocator, thread count and a memory limit, equal for all contenders.

    The limit raises an error before the memory of the machine is exhausted.
    """
    keep_freed_memory()
    torch.set_num_threads(threads)
    free = free_bytes()
    if free and device == "cpu":  # the address space of a GPU counts as memory
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(_SHARE_OF_FREE_MEMORY * free)
        limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


class Report:
    """Results of the workloads, written after each of them.

    Args:
        benchmark: name of the benchmark.
        arguments: parsed command line.
    """

    def __init__(self, benchmark: str, arguments: argparse.Namespace) -> None:
        self._path: Path | None = arguments.json
        self.document: dict[str, Any] = {
            "benchmark": benchmark,
            "command": " ".join(["python", *sys.argv]),
            "quick": arguments.quick,
            "threads": arguments.threads,
            "device": getattr(arguments, "device", "cpu"),
            "machine": _machine(),
            "load_average": {"start": os.getloadavg()},
            "workloads": {},
        }

    def add(self, name: str, result: dict[str, Any]) -> None:
        """Add the result of one workload."""
        self.document["workloads"][name] = result
        self.document["load_average"]["end"] = os.getloadavg()
        self.document["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self.document, indent=2) + "\n")


def _machine() -> dict[str, Any]:
    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": packages,
        "allocator": os.environ.get("ANALOGMED_ALLOCATOR", "keeps freed memory"),
    }
