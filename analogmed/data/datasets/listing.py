"""Layouts of data sets on disk: recognition, lists of their cases, and faults of these lists.

A loader and ``analogmed data verify`` list the cases of a data set by one function. It reports each
fault to a :data:`Fault`: that of a loader raises, that of the check records a :class:`Finding`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analogmed.data.case import Case, Sample
from analogmed.data.readers.files import is_hidden
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import require_folder

Fault = Callable[[Path, str, str], None]
"""Function of a file or folder, its observed and expected state, and the suggested action."""


def refuse(path: Path, what: str, hint: str) -> None:
    """Raise DataError for a fault: a loader does not accept it."""
    raise DataError(f"{path}: {what}; {hint}")


@dataclass(frozen=True)
class Finding:
    """A problem or anomaly of a data set.

    Attributes:
        path: file or folder.
        what: observed and expected state.
        hint: suggested action.
    """

    path: Path
    what: str
    hint: str = ""

    @classmethod
    def of(cls, path: Path, error: Exception | str, hint: str = "") -> "Finding":
        """Return the finding of an error; text after its last semicolon becomes the hint."""
        text = re.sub(r"^case [^:]+: ", "", str(error)).removeprefix(f"{path}: ")
        what, _, own_hint = text.rpartition("; ")
        return cls(path, what, own_hint) if what else cls(path, text, hint)


def report_error(fault: Fault, path: Path, error: Exception | str, hint: str = "") -> None:
    """Report an error of a file or folder to a :data:`Fault`; see :meth:`Finding.of`."""
    found = Finding.of(path, error, hint)
    fault(found.path, found.what, found.hint)


@dataclass(frozen=True)
class Listing:
    """Cases of a data set.

    Attributes:
        cases: all cases whose files could be paired.
        read: reader of the loader; ``None`` if the layout does not define channels and labels.
        is_volumetric: whether the files are NIfTI volumes, not 8-bit images.
        label_values: allowed values in the label of a volume; ``None`` for any.
        has_masks: whether the label files are masks, not a table, which the listing checks.
        check: check of the files of a case, in place of that of images, called with functions of
            problems and warnings; it also raises DataError.
    """

    cases: Sequence[Case]
    read: Callable[[Case], Sample] | None = None
    is_volumetric: bool = False
    label_values: tuple[int, ...] | None = None
    has_masks: bool = True
    check: Callable[[Case, Fault, Fault], None] | None = None


@dataclass(frozen=True)
class Layout:
    """Layout of a data set on disk.

    Attributes:
        name: name for reports.
        files: form of its files, for messages.
        content: required content of the folder of the task, for messages.
        origin: source of the data, for messages.
        applies: whether a folder has this layout, or with is_archive also a file.
        list: function of a folder, and of a :data:`Fault` for problems and one for warnings.
        folders: patterns of the usual names of its folder.
        is_archive: whether all cases are in one file, which the listing checks.
        is_format: whether the data are the user's own, which may have a name of their own.
        is_anywhere: whether cases may be at any depth; such a layout applies if no other does.
    """

    name: str
    files: str
    content: str
    origin: str
    applies: Callable[[Path], bool]
    list: Callable[[Path, Fault, Fault], Listing]
    folders: tuple[str, ...] = ()
    is_archive: bool = False
    is_format: bool = False
    is_anywhere: bool = False


def recognise(path: Path, layouts: Sequence[Layout]) -> tuple[Layout, Path]:
    """Return the layout of a data set and the folder of its cases.

    Args:
        path: folder of the data set, or its parent; or the one file of a data set.
        layouts: all layouts, in the order in which they are tried.

    Raises:
        DataError: the folder does not exist, has no known layout, or contains several data sets.
    """
    archives = [layout for layout in layouts if layout.is_archive]
    if path.is_file() and (archive := _first(archives, path)):
        return archive, path
    require_folder(path)
    patterns = [pattern for layout in layouts for pattern in layout.folders]
    folders = (path, *(found for pattern in patterns for found in sorted(path.glob(pattern))))
    here = [layout for layout in layouts if not layout.is_anywhere]
    found = [(layout, folder) for folder in folders if (layout := _first(here, folder))]
    if len(found) > 1:
        names = ", ".join(str(folder) for _, folder in found)
        raise DataError(f"{path}: holds several data sets ({names}); verify one at a time")
    if found:
        return found[0]
    anywhere = _first([layout for layout in layouts if layout.is_anywhere], path)
    if anywhere:
        return anywhere, path
    known = [layout.files for layout in layouts]
    raise DataError(f"{path}: no known layout; expected {', '.join(known[:-1])}, or {known[-1]}")


def _first(layouts: Iterable[Layout], folder: Path) -> Layout | None:
    return next((layout for layout in layouts if layout.applies(folder)), None)


def case_folders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path))
