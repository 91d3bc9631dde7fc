"""Folders that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from analogmed.foundation.temporary import temporary_folder


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` when the block ends without an error.

    It lies beside ``folder``, so that taking its place is one rename. A process that is killed
    leaves at most a hidden ``.<name>-*`` folder, which the next one removes, and never a part of
    the data under its own name.

    Args:
        folder: where the finished folder shall stand: missing, or empty. Its parent is made.

    Yields:
        An empty folder to fill.

    Raises:
        FileExistsError: ``folder`` holds something; it is left as it is.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder.parent, folder.name) as workplace:
        part = workplace / folder.name
        part.mkdir()
        yield part
        try:
            part.rename(folder)
        except OSError as error:
            if is_filled(folder):
                raise FileExistsError(f"{folder}: already there") from error
            raise


def is_filled(path: Path) -> bool:
    """Whether something stands at a path, other than an empty folder."""
    if path.is_dir():
        return any(path.iterdir())
    return path.exists()
