"""The run folder: configuration, environment and results, each written whole or not at all."""

import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from analogmed.atomic import write_atomically

COLUMNS = {
    "task": "string",
    "model": "string",
    "training": "string",
    "hardware": "string",
    "chip": "Int64",
    "time_s": "float64",
    "read": "Int64",
    "case": "string",
    "patient": "string",
    "class": "string",
    "metric": "string",
    "value": "float64",
    "unit": "string",
    "note": "string",
}
"""The long results table: one row per network, chip, time, read, case, class and metric."""

_PACKAGES = ("analogmed", "torch", "aihwkit", "monai", "numpy", "pandas", "nibabel", "scipy")


def to_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    """The long results table, its columns in order and typed."""
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def write_table(table: pd.DataFrame, folder: Path, name: str, *, parquet: bool = True) -> None:
    """Write a table as CSV and, unless told otherwise, as Parquet."""
    write_atomically(folder / f"{name}.csv", lambda path: table.to_csv(path, index=False))
    if parquet:
        write_atomically(
            folder / f"{name}.parquet", lambda path: table.to_parquet(path, index=False)
        )


def describe_environment() -> dict[str, Any]:
    """What a run depends on beside its configuration: versions, machine, state of the code."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {name: _version(name) for name in _PACKAGES},
        "git": _git_state(),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state() -> dict[str, str] | None:
    """Commit and whether the tree differs from it; ``None`` outside a checkout of analogmed."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    return {"commit": git("rev-parse", "HEAD"), "changed": str(bool(git("status", "--porcelain")))}
