"""Folders that a user names."""

from pathlib import Path

from analogmed.errors import DataError


def require_folder(path: Path | str) -> Path:
    """A folder that has to be there.

    Raises:
        DataError: there is nothing of that name, or a file.
    """
    path = Path(path)
    if path.is_dir():
        return path
    if path.exists():
        raise DataError(f"{path}: a file, not a folder; check the path")
    raise DataError(f"{path}: no such folder; check the path")
