"""Recognition of the layout of a data set, and a list of its cases and faults."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analogmed.data.case import Case, Sample
from analogmed.data.datasets import medmnist
from analogmed.data.datasets.dsb2018 import NucleiReader
from analogmed.data.datasets.lgg import StackReader
from analogmed.data.datasets.msd import MsdDescription, case_name, read_description
from analogmed.data.datasets.nifti_folder import BRATS_IMAGES, BRATS_VALUES
from analogmed.data.readers.files import is_hidden, natural_order
from analogmed.data.volumes import VolumeReader, intensity_of
from analogmed.foundation.errors import AnalogmedError, DataError
from analogmed.foundation.files import require_folder

_KNOWN_FOLDERS = ("kaggle_3m", "stage1_train", "Task*")
_MASK_END = "_mask.tif"
_LABEL = re.compile(r".*[_-]seg\.nii(\.gz)?")
_BRATS_IMAGE = re.compile(r".*(_flair|_t1ce|-t2f|-t1n|-t1c|-t2w)\.nii(\.gz)?")
"""File names that are specific to BraTS."""


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


@dataclass(frozen=True)
class Layout:
    """Layout and contents of a data set on disk.

    Attributes:
        name: name of the layout.
        folder: folder that contains the cases.
        cases: all cases whose files could be paired.
        is_volumetric: whether the files are NIfTI volumes, not 8-bit images.
        label_values: allowed values in the label of a volume; ``None`` for any.
        read: reader of the loader; ``None`` if the layout does not define channels and labels.
        is_archive: whether all cases are in one file, which the listing has checked.
        problems, warnings: findings of the listing.
    """

    name: str
    folder: Path
    cases: tuple[Case, ...]
    is_volumetric: bool
    label_values: tuple[int, ...] | None
    read: Callable[[Case], Sample] | None
    problems: tuple[Finding, ...] = ()
    warnings: tuple[Finding, ...] = ()
    is_archive: bool = False


def recognise(path: Path) -> Layout:
    """Determine the layout of a folder and list its cases.

    Args:
        path: folder of the data set, or its parent.

    Returns:
        The layout, with all faults found while listing.

    Raises:
        DataError: the folder does not exist, has no known layout, or contains several data sets.
    """
    require_folder(path)
    below = (found for name in _KNOWN_FOLDERS for found in sorted(path.glob(name)))
    listed = [(list_, folder) for folder in (path, *below) if (list_ := _lister(folder))]
    if len(listed) > 1:
        names = ", ".join(str(folder) for _, folder in listed)
        raise DataError(f"{path}: holds several data sets ({names}); verify one at a time")
    if listed:
        list_, folder = listed[0]
        return list_(folder)
    if _volumes_below(path):
        return _list_nifti(path)
    raise DataError(
        f"{path}: no known layout; expected <patient>/*{_MASK_END} (LGG), <id>/images/*.png "
        "(DSB 2018), imagesTr with dataset.json (Decathlon), one *.npz (MedMNIST), or folders of "
        "NIfTI files"
    )


def _lister(folder: Path) -> Callable[[Path], Layout] | None:
    if (folder / "dataset.json").exists() or (folder / "imagesTr").is_dir():
        return _list_msd
    if any(folder.glob(f"*/*{_MASK_END}")):
        return _list_lgg
    if any(folder.glob("*/images/*.png")):
        return _list_dsb2018
    if any(folder.glob("*.npz")):
        return _list_medmnist
    return None


def _list_lgg(folder: Path) -> Layout:
    cases, problems = [], []
    for patient in _folders(folder):
        files = _visible(patient.glob("*.tif"))
        masks = {f.name.removesuffix(_MASK_END): f for f in files if f.name.endswith(_MASK_END)}
        slices = {f.stem: f for f in files if not f.name.endswith(_MASK_END)}
        problems += [
            Finding(
                slices[stem],
                f"no {stem}{_MASK_END} in its folder",
                "restore it from the source",
            )
            for stem in sorted(slices.keys() - masks.keys(), key=natural_order)
        ]
        problems += [
            Finding(masks[stem], f"a mask without its slice {stem}.tif", "restore the slice")
            for stem in sorted(masks.keys() - slices.keys(), key=natural_order)
        ]
        stems = sorted(slices.keys() & masks.keys(), key=natural_order)
        if stems:
            cases.append(_case(patient, [slices[s] for s in stems], [masks[s] for s in stems]))
    return Layout(
        name="LGG (kaggle_3m)",
        folder=folder,
        cases=tuple(cases),
        is_volumetric=False,
        label_values=None,
        read=StackReader(),
        problems=tuple(problems),
    )


def _list_dsb2018(folder: Path) -> Layout:
    cases, problems = [], []
    for field in _folders(folder):
        images = _visible((field / "images").glob("*.png"))
        labels = _visible((field / "masks").glob("*.png")) or _visible(field.glob("label.png"))
        if len(images) != 1:
            what = f"{len(images)} PNG in images, expected 1"
            problems.append(Finding(field, what, "restore it, or remove the folder"))
        elif not labels:
            what = "no label: expected masks/*.png or label.png"
            problems.append(Finding(field, what, "use the labelled stage 1 training images"))
        else:
            cases.append(_case(field, images, labels))
    return Layout(
        name="DSB 2018 (stage1_train)",
        folder=folder,
        cases=tuple(cases),
        is_volumetric=False,
        label_values=None,
        read=NucleiReader(),
        problems=tuple(problems),
    )


def _list_medmnist(folder: Path) -> Layout:
    """List the images of the one file of a folder."""
    cases: tuple[Case, ...] = ()
    problems = []
    try:
        file = medmnist.find_file(folder)
        parts = medmnist.list_cases(file, medmnist.read_arrays(file))
        cases = tuple(case for part in parts.values() for case in part)
    except AnalogmedError as error:
        problems.append(Finding.of(folder, error, "download it again"))
    return Layout(
        name="MedMNIST",
        folder=folder,
        cases=cases,
        is_volumetric=False,
        label_values=None,
        read=medmnist.MedMnistReader(),
        problems=tuple(problems),
        warnings=tuple(
            Finding(case.images[0], f"case {case.case_id}: constant image", "check its source")
            for case in medmnist.constant_images(cases)
        ),
        is_archive=True,
    )


def _list_msd(folder: Path) -> Layout:
    """List the cases of ``dataset.json``, or the pairs on disk if that file is damaged."""
    images, labels = (
        {case_name(f): f for f in _visible((folder / part).glob("*.nii*"))}
        for part in ("imagesTr", "labelsTr")
    )
    pairs = [(images[name], labels[name]) for name in images.keys() & labels.keys()]
    read, label_values = None, None
    problems: list[Finding] = []
    flagged: list[Finding] = []
    try:
        description = _description_and_warnings(folder, flagged)
    except DataError as error:
        problems.append(Finding.of(folder / "dataset.json", error, "download the data set again"))
        problems += _unpaired(images, labels)
    else:
        pairs, label_values = list(description.training), tuple(description.labels)
        read = VolumeReader(
            channels=description.modalities,
            class_values=tuple((value,) for value in description.labels if value != 0),
            allowed_values=label_values,
            intensities=tuple(intensity_of(name) for name in description.modalities),
        )
        known = {path for pair in pairs for path in pair}
        flagged += [
            Finding(path, "not listed in dataset.json", "add it there, or remove it")
            for path in (*images.values(), *labels.values())
            if path not in known
        ]
    pairs.sort(key=lambda pair: natural_order(pair[0].name))
    return Layout(
        name="Medical Segmentation Decathlon",
        folder=folder,
        cases=tuple(Case(case_name(i), case_name(i), (i,), (label,)) for i, label in pairs),
        is_volumetric=True,
        label_values=label_values,
        read=read,
        problems=tuple(problems),
        warnings=tuple(flagged),
    )


def _description_and_warnings(folder: Path, findings: list[Finding]) -> MsdDescription:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        description = read_description(folder)
    findings += [Finding.of(folder / "dataset.json", str(one.message)) for one in caught]
    return description


def _unpaired(images: dict[str, Path], labels: dict[str, Path]) -> list[Finding]:
    alone = images.keys() ^ labels.keys()
    return [
        Finding(
            images.get(name) or labels[name],
            "image without label" if name in images else "label without image",
            "restore the other from the source",
        )
        for name in sorted(alone, key=natural_order)
    ]


def _list_nifti(folder: Path) -> Layout:
    """List one case per folder with label ``*_seg``; BraTS image names make the layout BraTS."""
    files_of: dict[Path, list[Path]] = {}
    for path in _volumes_below(folder):
        files_of.setdefault(path.parent, []).append(path)
    is_brats = any(map(_looks_like_brats, files_of.values()))
    cases: list[Case] = []
    problems: list[Finding] = []
    for parent in sorted(files_of, key=lambda path: natural_order(str(path))):
        here = files_of[parent]
        labels = [path for path in here if _LABEL.fullmatch(path.name)]
        if is_brats:
            problems += _missing_channels(parent, here, labels)
        cases.append(_case(parent, [path for path in here if path not in labels], labels))
    return Layout(
        name="BraTS" if is_brats else "folders of NIfTI files",
        folder=folder,
        cases=tuple(case for case in cases if case.images),
        is_volumetric=True,
        label_values=tuple(sorted({*BRATS_VALUES, 3})) if is_brats else None,
        read=None,
        problems=tuple(problems),
    )


def _looks_like_brats(files: Sequence[Path]) -> bool:
    names = [path.name for path in files]
    return any(map(_LABEL.fullmatch, names)) and any(map(_BRATS_IMAGE.fullmatch, names))


def _missing_channels(
    parent: Path, files: Sequence[Path], labels: Sequence[Path]
) -> Iterable[Finding]:
    hint = "restore it from the source, or remove the case"
    if len(labels) != 1:
        yield Finding(parent, f"{len(labels)} *_seg files, expected 1", hint)
    if not any(path.name.split(".")[0].endswith("_seg") for path in labels):
        return
    for pattern in BRATS_IMAGES:
        count = sum(path.match(pattern) for path in files)
        if count != 1:
            yield Finding(parent, f"{count} files like {pattern}, expected 1", hint)


def _case(folder: Path, images: Sequence[Path], labels: Sequence[Path]) -> Case:
    return Case(folder.name, folder.name, tuple(images), tuple(labels))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not is_hidden(path))


def _visible(paths: Iterable[Path]) -> list[Path]:
    return sorted((path for path in paths if not is_hidden(path)), key=lambda p: p.name)


def _volumes_below(folder: Path) -> list[Path]:
    found = (path for ending in ("*.nii", "*.nii.gz") for path in folder.rglob(ending))
    return sorted(path for path in found if not is_hidden(path, folder))
