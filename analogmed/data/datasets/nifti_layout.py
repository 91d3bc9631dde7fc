"""Layouts of folders of NIfTI files: BraTS, folders of images and labels, a folder per case."""

import re
from pathlib import Path

from analogmed.data.case import Case
from analogmed.data.datasets.case_files import labels_alone, list_cases
from analogmed.data.datasets.listing import Fault, Layout, Listing
from analogmed.data.datasets.msd import case_name
from analogmed.data.datasets.nifti_folder import BRATS_IMAGES, BRATS_LABEL, BRATS_VALUES
from analogmed.data.readers.files import is_hidden, natural_order

_LABEL = re.compile(r".*[_-]seg\.nii(\.gz)?")
_BRATS_IMAGE = re.compile(r".*(_flair|_t1ce|-t2f|-t1n|-t1c|-t2w)\.nii(\.gz)?")
"""File names that are specific to BraTS."""
_IMAGES_2023 = ("*-t2f.nii*", "*-t1n.nii*", "*-t1c.nii*", "*-t2w.nii*")
_LABEL_2023 = "*-seg.nii*"
_CHANNEL = re.compile(r".*(_[0-9]{4})")
"""Name of an image in nnU-Net, which ends in the number of its channel."""


def list_by_patterns(folder: Path, images: tuple[str, ...], label: str, problem: Fault) -> Listing:
    """Return the cases whose files match the patterns ``images`` and ``label`` of ``load_nifti``.

    Labels without images, which the loader ignores, are problems.

    Raises:
        ConfigError: a pattern is no file pattern, or names a folder without one ``*``.
        DataError: no file matches the patterns of the images.
    """
    cases = list_cases(folder, images, label, None, problem)
    for path in labels_alone(folder, images, label):
        problem(path, "label without image", "restore the image from the source")
    return Listing(cases, is_volumetric=True)


def _list_brats(folder: Path, problem: Fault, _warning: Fault) -> Listing:
    """List a case per folder, by the names until 2021 or by those of 2023 that occur."""
    volumes = _volumes_below(folder)
    images: tuple[str, ...] = BRATS_IMAGES
    label = BRATS_LABEL
    newer = tuple(each for each in _IMAGES_2023 if any(path.match(each) for path in volumes))
    if newer:
        images, label = newer, _LABEL_2023
    cases = list_by_patterns(folder, images, label, problem).cases
    return Listing(cases, None, True, tuple(sorted({*BRATS_VALUES, 3})))


def _list_nifti(folder: Path, problem: Fault, _warning: Fault) -> Listing:
    """List the pairs of a folder of images and one of labels; otherwise one case per folder."""
    parts = _images_and_labels(folder)
    if parts:
        images, label = _patterns(*parts)
        for path in (*parts[0], *parts[1]):
            if not any(path.match(pattern) for pattern in (*images, label)):
                what = f"no name like {', '.join(images)} or {label}, as most files here have"
                problem(path, what, "rename it, or remove it")
        return list_by_patterns(folder, images, label, problem)
    cases = []
    for parent, files in _by_folder(folder).items():
        labels = tuple(path for path in files if _LABEL.fullmatch(path.name))
        others = tuple(path for path in files if path not in labels)
        if others:
            cases.append(Case(parent.name, parent.name, others, labels))
    return Listing(cases, is_volumetric=True)


def _images_and_labels(folder: Path) -> tuple[list[Path], list[Path]] | None:
    """Return the volumes of the folders of images and labels, if each is once in the folder."""
    by_folder = _by_folder(folder).items()
    images, labels = (
        [files for part, files in by_folder if part.name.lower().startswith(start)]
        for start in ("image", "label")
    )
    if len(images) != 1 or len(labels) != 1:
        return None
    are_here = all(files[0].parent.parent == folder for files in (*images, *labels))
    return (images[0], labels[0]) if are_here else None


def _patterns(images: list[Path], labels: list[Path]) -> tuple[tuple[str, ...], str]:
    """Return the patterns of a folder of images, one per channel, and of a folder of labels."""
    names = {case_name(path) for path in images}
    numbers = [_CHANNEL.fullmatch(name) for name in names]
    channels = {""}
    if names.isdisjoint(map(case_name, labels)) and all(numbers):
        channels = {match[1] for match in numbers if match}
    return tuple(_pattern(images, channel) for channel in sorted(channels)), _pattern(labels)


def _pattern(files: list[Path], channel: str = "") -> str:
    """Return the pattern of the most frequent ending in a folder."""
    endings = [path.name.removeprefix(case_name(path)) for path in files]
    return f"{files[0].parent.name}/*{channel}{max(sorted(set(endings)), key=endings.count)}"


def _is_brats(folder: Path) -> bool:
    for files in _by_folder(folder).values():
        names = [path.name for path in files]
        if any(map(_LABEL.fullmatch, names)) and any(map(_BRATS_IMAGE.fullmatch, names)):
            return True
    return False


def _by_folder(folder: Path) -> dict[Path, list[Path]]:
    """Return the volumes at any depth by their folder, in natural order of the folders."""
    files_of: dict[Path, list[Path]] = {}
    for path in _volumes_below(folder):
        files_of.setdefault(path.parent, []).append(path)
    return dict(sorted(files_of.items(), key=lambda item: natural_order(str(item[0]))))


def _volumes_below(folder: Path) -> list[Path]:
    found = (path for ending in ("*.nii", "*.nii.gz") for path in folder.rglob(ending))
    return sorted(path for path in found if not is_hidden(path, folder))


_CONTENT = "the folder that holds a folder per case"

BRATS = Layout(
    name="BraTS",
    files="<case>/*_flair.nii.gz with *_seg.nii.gz (BraTS)",
    content=_CONTENT,
    origin="the data come from https://www.med.upenn.edu/cbica/brats/ after registration",
    applies=_is_brats,
    list=_list_brats,
    is_format=True,
    is_anywhere=True,
)
NIFTI = Layout(
    name="folders of NIfTI files",
    files="folders of NIfTI files",
    content=_CONTENT,
    origin="name its files with the options images, label and classes",
    applies=lambda folder: bool(_volumes_below(folder)),
    list=_list_nifti,
    is_format=True,
    is_anywhere=True,
)
