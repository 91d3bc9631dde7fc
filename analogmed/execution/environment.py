"""What a run depends on beside its configuration: versions, machine, state of the code."""

import json
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from analogmed.foundation.credentials import masked_values
from analogmed.foundation.files import write_text_atomically

_PACKAGES = ("analogmed", "torch", "aihwkit", "monai", "numpy", "pandas", "nibabel", "scipy")


def write_environment(folder: Path) -> None:
    """Write ``environment.json`` into a run folder; credentials in URLs are masked."""
    text = json.dumps(masked_values(describe_environment()), indent=2) + "\n"
    write_text_atomically(folder / "environment.json", text)


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
    """Commit and whether the tree differs from it; ``None`` outside a checkout of analogmed.

    And where git is missing, or refuses: it does so in a folder of another user.
    """
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = bool(git("status", "--porcelain"))
        return {"commit": git("rev-parse", "HEAD"), "changed": str(changed)}
    except (OSError, subprocess.CalledProcessError):
        return None
