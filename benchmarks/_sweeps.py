"""Command line and JSON output that the benchmarks of whole sweeps share."""

import argparse
import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

from analogmed.evaluation.preparation import shipped_folder
from analogmed.foundation.files import write_text_atomically
from analogmed.foundation.process import keep_freed_memory

SHIPPED = shipped_folder("phantom_brain")


def parser(description: str | None, *, chips: int) -> argparse.ArgumentParser:
    """Return a parser with the options that both benchmarks have.

    Args:
        description: description of the benchmark.
        chips: default number of chips.
    """
    options = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--chips", type=int, default=chips)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--checkpoints", nargs="*", type=Path, help="shipped ones by default")
    options.add_argument(
        "--task-options", default="{}", help="JSON, for instance of a small phantom"
    )
    options.add_argument("--json", type=Path, help="file for the results")
    return options


def begun(benchmark: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Set one thread and one allocator for the process, and return the head of the document."""
    keep_freed_memory()
    torch.set_num_threads(1)
    return {
        "benchmark": benchmark,
        "machine": {"cores": os.cpu_count(), "system": platform.platform()},
        "load_average": {"start": os.getloadavg()},
        "chips": arguments.chips,
        "rounds": arguments.rounds,
    }


def finish(
    document: dict[str, Any], table: str, path: Path | None, *, times: int, end: str
) -> None:
    """Print the table with its conditions, and write the document if a path is given.

    Args:
        document: results, including the rows of the table.
        table: table in Markdown.
        path: file for the document; ``None`` writes none.
        times: number of times at which each chip is read.
        end: end of the sentence below the table.
    """
    load = document["load_average"]
    load["end"] = os.getloadavg()
    print(
        f"{table}\n\n{document['rounds']} rounds, {document['chips']} chips at {times} "
        f"times, {document['machine']['cores']} cores; load average {load['start'][0]:.1f} at the "
        f"start, {load['end'][0]:.1f} at the end; {end}."
    )
    if path:
        write_text_atomically(path, json.dumps(document, indent=2) + "\n")
