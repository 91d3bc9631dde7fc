"""Writes that leave either the old file or the whole new one, never a part."""

import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

from analogmed.errors import ConfigError


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then rename it into place.

    Args:
        path: where the finished file shall stand; its folder is made if missing.
        write: called with the temporary path; it keeps the suffix of ``path``.

    Returns:
        ``path``. If ``write`` fails, the temporary file is gone and an old file is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    temporary.touch(exist_ok=False)  # with the user's permissions, unlike tempfile's
    try:
        write(temporary)
        _flush_to_disk(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text_atomically(path: Path | str, text: str) -> Path:
    """Write ``text`` as UTF-8 with :func:`write_atomically`."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def ensure_writable(folder: Path | str) -> Path:
    """Make a folder and see that a file can be written there, before work is put into its content.

    Raises:
        ConfigError: the folder cannot be made or written, or is a file.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(prefix=".writable-", dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error}; give another with --out") from error
    return folder


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
