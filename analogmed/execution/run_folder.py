"""Run folders: exclusive lock, list of written files, and description of the environment."""

import functools
import json
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd
import torch

from analogmed.foundation.credentials import masked_values
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import (
    NewFiles,
    ensure_writable,
    remove_leftovers,
    write_text_atomically,
)
from analogmed.foundation.locks import FileLock
from analogmed.foundation.settings.paths import write_settings
from analogmed.tables.table import Table

LOCK = ".analogmed-lock"
WRITTEN = ".analogmed-files"
ENVIRONMENT = "environment.json"

_held: set[Path] = set()
"""Folders that are locked by a run of this process."""


@contextmanager
def locked(folder: Path | str, *traces: str) -> Iterator[Path]:
    """Lock a run folder for one run; the folder is created if missing.

    The lock is released when the process ends for any reason. A run inside another one of the same
    process can use the same folder. A run that raises an error before it has written a result
    leaves nothing that it has created.

    Args:
        folder: run folder.
        *traces: names of files that the run writes before its results.

    Yields:
        The folder, without temporary files of killed runs.

    Raises:
        ConfigError: another run is writing to the folder, or it cannot be written.
    """
    new = NewFiles(folder)
    folder = ensure_writable(folder)
    place = folder.resolve()
    if place in _held:
        yield folder
        return
    lock = FileLock(folder / LOCK)
    _acquire(lock, folder)
    _held.add(place)
    try:
        lock.path.write_text(f"process {os.getpid()} on {platform.node()}\n", encoding="utf-8")
        remove_leftovers(folder)
        yield folder
    except BaseException:
        new.remove(LOCK, WRITTEN, *traces)
        raise
    finally:
        with suppress(OSError, ConfigError):
            WrittenFiles(folder).settle()
        _held.discard(place)
        lock.release()


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        is_free = lock.acquire(wait=False)
    except OSError as error:
        warnings.warn(
            f"{folder}: this file system has no locks ({error}); start no second run with this "
            "--out",
            stacklevel=4,
        )
        return
    if not is_free:
        holder = " ".join(lock.path.read_text(encoding="utf-8", errors="replace").split())
        raise ConfigError(
            f"--out {folder}: another run is writing to this folder ({holder or 'unknown process'})"
            "; expected a folder that no run uses. Wait until it ends, or give another --out."
        )


class _Settings(Protocol):
    @property
    def folder(self) -> Path:
        """Run folder."""


_R = TypeVar("_R")
_S = TypeVar("_S", bound=_Settings)


def in_run_folder(program: Callable[[_S], _R]) -> Callable[[_S], _R]:
    """Lock the run folder of the settings while a function runs; see :func:`locked`."""

    @functools.wraps(program)
    def run(config: _S) -> _R:
        with locked(config.folder):
            return program(config)

    return run


class WrittenFiles:
    """List, stored in a folder, of the files that runs have written into it.

    A run replaces or removes a file only if it is in the list. The files of a folder without a list
    (from an earlier version) count as written by runs if ``environment.json`` shows that a run
    ended there.

    Args:
        folder: run folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def claim(self, *names: str) -> None:
        """Reserve names for a run before its computation.

        Args:
            *names: paths relative to the folder; patterns such as ``examples/*.npz`` are checked,
                and each matching file is recorded when it is written.

        Raises:
            ConfigError: a file of such a name exists that no run has written.
        """
        listed = self._listed()
        present = [path for name in names for path in self._matching(name)]
        if listed is None and not self._is_run():
            listed = set()
        if listed is not None and (foreign := [name for name in present if name not in listed]):
            raise ConfigError(
                f"--out {self.folder}: this run would replace or remove {', '.join(foreign)}, "
                "which no run of analogmed has listed as its own; results of an earlier version "
                "may not be listed either. Move these files, or give another --out."
            )
        exact = [name for name in names if "*" not in name]
        self._write((listed or set()) | set(present) | set(exact))

    def settings_besides(self, *names: str) -> list[str]:
        """Return the files of settings that runs have written, except those of these names."""
        listed = (self._listed() or set()).difference(names)
        return sorted(
            name
            for name in listed
            if "/" not in name and name.endswith(".yaml") and (self.folder / name).is_file()
        )

    def record(self, *names: str) -> None:
        """Add names to the list, before the files are written."""
        listed = self._listed() or set()
        if not listed.issuperset(names):
            self._write(listed | set(names))

    def remove(self, *names: str) -> None:
        """Remove files that runs have written, also from the list; other files are kept.

        Args:
            *names: paths relative to the folder, or patterns.
        """
        listed = self._listed() or set()
        gone = [path for name in names for path in self._matching(name) if path in listed]
        for name in gone:
            (self.folder / name).unlink(missing_ok=True)
        if gone:
            self._write(listed - set(gone))

    def renew(self, always: Iterable[str], optional: Iterable[str] = ()) -> None:
        """Claim the names of a run that is about to write, and remove what it may not write again.

        Args:
            always: names of files that the run writes.
            optional: names and patterns of files that it writes only if it has values for them;
                those of earlier runs are removed.

        Raises:
            ConfigError: a file of such a name exists that no run has written.
        """
        optional = tuple(optional)
        self.claim(*always, *optional)
        self.remove(*optional)
        self.record(*(name for name in optional if "*" not in name))

    def settle(self) -> None:
        """Release the reserved names of files that were not written."""
        listed = self._listed() or set()
        present = {name for name in listed if (self.folder / name).is_file()}
        if present != listed:
            self._write(present)

    def __contains__(self, name: object) -> bool:
        return name in (self._listed() or set())

    def _matching(self, name: str) -> list[str]:
        found = self.folder.glob(name) if "*" in name else [self.folder / name]
        return sorted(p.relative_to(self.folder).as_posix() for p in found if p.is_file())

    def _listed(self) -> set[str] | None:
        try:
            return set((self.folder / WRITTEN).read_text(encoding="utf-8").splitlines())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.folder / WRITTEN}: cannot read the list of written files: {error}. Remove "
                "it, or give another --out."
            ) from error

    def _write(self, names: set[str]) -> None:
        text = "".join(f"{name}\n" for name in sorted(names))
        write_text_atomically(self.folder / WRITTEN, text)

    def _is_run(self) -> bool:
        try:
            content: Any = json.loads((self.folder / ENVIRONMENT).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return False
        versions = content.get("versions") if isinstance(content, dict) else None
        return isinstance(versions, dict) and "analogmed" in versions


class RunFolder:
    """Folder of one run: its settings, its environment, and the list of its other files.

    Args:
        folder: run folder.
        always: tables, and names of other files, that the run writes.
        optional: tables, and names and patterns of other files, that it writes only if it has
            values for them. Files of a pattern are recorded by :attr:`files` when they are written.
        settings: name of the file of the settings.
    """

    def __init__(
        self,
        folder: Path | str,
        always: Iterable[Table | str],
        optional: Iterable[Table | str] = (),
        *,
        settings: str = "experiment.yaml",
    ) -> None:
        self.files = WrittenFiles(folder)
        self._settings = settings
        self._always = (settings, ENVIRONMENT, *_names(always))
        self._optional = _names(optional)

    @property
    def path(self) -> Path:
        """Path of the folder."""
        return self.files.folder

    @property
    def names(self) -> tuple[str, ...]:
        """Names and patterns of all files that the run may write, relative to the folder."""
        return (*self._always, *self._optional)

    def begin(self) -> None:
        """Reserve the names of all files before the computation.

        Raises:
            ConfigError: the folder contains a run of another program, or a file of such a name
                exists that no run has written.
        """
        if others := self.files.settings_besides(*self.names):
            raise ConfigError(
                f"--out {self.path}: the folder contains the run of another program "
                f"({', '.join(others)}), whose {ENVIRONMENT} would be replaced; expected a folder "
                "of its own. Give another --out."
            )
        self.files.claim(*self.names)

    def renew(self, config: Any) -> None:
        """Write the settings, a dataclass, and the environment; remove optional files of past runs.

        Raises:
            ConfigError: a file of such a name exists that no run has written.
        """
        self.files.renew(self._always, self._optional)
        describe_run(config, self.path, self._settings)

    def write(self, table: Table, content: pd.DataFrame) -> None:
        """Write a table; an optional one is left out if it has no rows."""
        if not (content.empty and table.file in self._optional):
            table.write(content, self.path)


def _names(files: Iterable[Table | str]) -> tuple[str, ...]:
    return tuple(
        name for file in files for name in (file.files if isinstance(file, Table) else (file,))
    )


_PACKAGES = ("analogmed", "torch", "aihwkit", "monai", "numpy", "pandas", "nibabel", "scipy")


def describe_run(config: Any, folder: Path, name: str = "experiment.yaml") -> None:
    """Write the settings of a run, and ``environment.json``, into its folder.

    Args:
        config: settings, a dataclass.
        folder: run folder.
        name: name of the file of the settings.
    """
    write_settings(folder / name, config)
    write_environment(folder)


def write_environment(folder: Path) -> None:
    """Write ``environment.json`` into a run folder; credentials in URLs are masked."""
    text = json.dumps(masked_values(describe_environment()), indent=2) + "\n"
    write_text_atomically(folder / ENVIRONMENT, text)


def describe_environment() -> dict[str, Any]:
    """Return versions, machine and code state, which a run depends on besides its settings."""
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
    """Return the commit and whether the working tree differs from it.

    ``None`` outside a checkout of analogmed, if git is missing, or if git returns an error, such as
    in a folder of another user.
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
