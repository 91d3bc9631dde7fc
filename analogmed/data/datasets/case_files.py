"""Files of the cases of a folder, found by patterns."""

from collections.abc import Iterable
from itertools import islice
from pathlib import Path, PurePosixPath

from analogmed.data.case import Case
from analogmed.data.datasets.listing import Fault, refuse
from analogmed.data.datasets.msd import patient_of
from analogmed.data.readers.files import is_hidden, natural_order
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.text import shortened

_MOST_LISTED = 10_000
_RESTORE = "restore it from the source, or remove the case"


def list_cases(
    root: Path,
    images: tuple[str, ...],
    label: str,
    patient_pattern: str | None,
    fault: Fault = refuse,
) -> list[Case]:
    """Return the cases whose files match the patterns.

    Without a folder in a pattern, each case is a folder at any depth. With one, as in
    ``images/*.nii.gz``, patterns are relative to the root, and ``*`` is the name of the case.

    Args:
        root: folder of the data.
        images: one pattern per channel.
        label: pattern of the labels.
        patient_pattern: see :func:`analogmed.data.datasets.msd.patient_of`.
        fault: receives each case without exactly one file of a pattern; by default it raises
            DataError.

    Returns:
        The cases, in natural order; a case with a fault has the files that were found.

    Raises:
        ConfigError: a pattern is no file pattern, or names a folder without one ``*``.
        DataError: no file matches the patterns of the images.
    """
    if not images:
        raise ConfigError("images is empty; give a pattern per channel")
    if _by_name(images, label):
        return _cases_by_name(root, images, label, patient_pattern, fault)
    folders = _case_folders(root, images)
    if not folders:
        raise _nothing_matches(root, images)
    ids = [folder.name for folder in folders]
    if len(set(ids)) < len(ids):
        ids = [folder.relative_to(root).as_posix() for folder in folders]
    return [
        Case(
            case_id=case_id,
            patient_id=patient_of(case_id, patient_pattern),
            images=tuple(path for each in images for path in _single_match(folder, each, fault)),
            labels=tuple(_single_match(folder, label, fault)),
        )
        for case_id, folder in zip(ids, folders, strict=True)
    ]


def labels_alone(root: Path, images: tuple[str, ...], label: str) -> list[Path]:
    """Return the label files without an image of any pattern of the case, in natural order.

    Args:
        root, images, label: as in :func:`list_cases`.
    """
    if _by_name(images, label):
        names = set().union(*(_files_by_name(root, pattern) for pattern in images))
        labels = _files_by_name(root, label)
        return [labels[name] for name in sorted(labels.keys() - names, key=natural_order)]
    folders = set(_case_folders(root, images))
    found = (path for path in root.rglob(label) if path.parent not in folders)
    visible = [path for path in found if not is_hidden(path, root)]
    return sorted(visible, key=lambda path: natural_order(path.as_posix()))


def _by_name(images: tuple[str, ...], label: str) -> bool:
    """Return whether cases are files of equal names, not folders."""
    return any("/" in pattern for pattern in (*images, label))


def _cases_by_name(
    root: Path, images: tuple[str, ...], label: str, patient_pattern: str | None, fault: Fault
) -> list[Case]:
    tables = {pattern: _files_by_name(root, pattern) for pattern in (*images, label)}
    names = sorted(set().union(*(tables[pattern] for pattern in images)), key=natural_order)
    if not names:
        raise _nothing_matches(root, images)
    for pattern, files in tables.items():
        if missing := [name for name in names if name not in files]:
            there = _files_in(root, (root / pattern).parent.glob("*"))
            count = f"{len(missing)} of {len(names)} cases have no file {pattern!r}"
            what = f"{count}: {shortened(tuple(missing))} ({there})"
            fault(root, what, "restore them from the source, or give other patterns")
    return [
        Case(
            case_id=name,
            patient_id=patient_of(name, patient_pattern),
            images=tuple(tables[each][name] for each in images if name in tables[each]),
            labels=(tables[label][name],) if name in tables[label] else (),
        )
        for name in names
    ]


def _files_by_name(root: Path, pattern: str) -> dict[str, Path]:
    """Return the files of a pattern by the text that its ``*`` stands for."""
    start, star, end = PurePosixPath(pattern).as_posix().partition("*")
    is_outside = pattern.startswith("/") or ".." in PurePosixPath(pattern).parts
    if not star or any(mark in start + end for mark in "*?[") or is_outside:
        raise ConfigError(
            "images, label: expected file patterns with one * for the name of the case, as in "
            f"images/*.nii.gz, because one of them names a folder, got {pattern!r}"
        )
    found = {path.relative_to(root).as_posix(): path for path in root.glob(pattern)}
    return {
        name[len(start) : len(name) - len(end)]: path
        for name, path in found.items()
        if not is_hidden(path, root)
    }


def _nothing_matches(root: Path, images: tuple[str, ...]) -> DataError:
    return DataError(
        f"{root}: no file matches the patterns of images, {', '.join(images)}; "
        f"{_files_in(root, root.rglob('*'))}. Give the folder of the cases, or other patterns."
    )


def _case_folders(root: Path, images: tuple[str, ...]) -> list[Path]:
    """Return folders in which any image pattern matches, so that missing channels are reported."""
    try:
        files = {path for pattern in images for path in root.rglob(pattern)}
    except (ValueError, NotImplementedError) as error:
        raise ConfigError(f"images {list(images)}: {error}; expected file patterns") from error
    found = {path.parent for path in files if not is_hidden(path, root)}
    return sorted(found, key=lambda folder: natural_order(folder.as_posix()))


def _single_match(folder: Path, pattern: str, fault: Fault) -> list[Path]:
    """Return the one file of a case folder that matches a pattern, or none after a fault."""
    matches = sorted(path for path in folder.glob(pattern) if not is_hidden(path))
    if len(matches) == 1:
        return matches
    names = ", ".join(path.name for path in matches) or _files_in(folder, folder.glob("*"))
    fault(
        folder,
        f"pattern {pattern!r} matches {len(matches)} files ({names}); expected exactly 1",
        _RESTORE,
    )
    return []


def _files_in(root: Path, paths: Iterable[Path]) -> str:
    """Return up to three of the files, NIfTI files first, for a message."""
    files = [p for p in islice(paths, _MOST_LISTED) if p.is_file() and not is_hidden(p, root)]
    files.sort(key=lambda path: (".nii" not in path.name, natural_order(path.as_posix())))
    shown = ", ".join(path.relative_to(root).as_posix() for path in files[:3])
    return f"files that are there: {shown}" if shown else "there are no files"
