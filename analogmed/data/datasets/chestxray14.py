"""ChestX-ray14: frontal chest X-rays of the NIH with any of 14 findings.

Source: Wang et al. 2017, doi:10.1109/CVPR.2017.369; https://nihcc.app.box.com/v/ChestXray-NIHCC
"""

import csv
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analogmed.data.case import Case, Sample, Task
from analogmed.data.datasets.listing import Fault, Layout, Listing, refuse, report_error
from analogmed.data.datasets.options import known_texts
from analogmed.data.normalise import checked_size, pad_image, padded_size, resize_image
from analogmed.data.readers.files import is_hidden
from analogmed.data.readers.images import read_image
from analogmed.data.samples import naming_case, one_channel
from analogmed.data.splits import (
    SHARES,
    Cases,
    SplitSettings,
    check_leakage,
    checked_shares,
    split_by_patient,
    split_cases,
)
from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError, LeakageError
from analogmed.foundation.files import require_folder
from analogmed.foundation.strict_yaml import read_text
from analogmed.foundation.text import nearest
from analogmed.kinds.classification import MULTILABEL

FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia",
    "Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening",
    "Hernia",
)  # fmt: skip
NO_FINDING = "No Finding"
LISTS = ("train_val_list.txt", "test_list.txt")
"""Official lists of the images for training and validation, and for test."""
_TABLES = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv")
_ANY_TABLE = "Data_Entry_2017*.csv"
_IMAGES = ("images/*.png", "images_*/images/*.png")
_NAME, _LABELS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"
_LARGEST = (224, 224)
"""Default size of images; smaller ones keep theirs."""
_PATIENT_DIGITS = 8
_MAX_BYTES = 2**27
_MOST_LISTED = 3
_OPTION = "task.options.findings"


class XRay(NamedTuple):
    """Row of the table of findings.

    Attributes:
        findings: findings of the image; empty for "No Finding".
        patient: identifier of the patient.
    """

    findings: frozenset[str]
    patient: str


def load_chestxray14(
    root: Path | str,
    *,
    name: str = "chestxray14",
    findings: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
) -> Task:
    """Load ChestX-ray14 or a part of it; a case is a patient with all images.

    Findings are labels that are independent of each other; an image of "No Finding" has none.
    Intensities are scaled from [0, 255] to [-1, 1], and images are padded with black to a multiple
    of 32 pixels. Where the folder contains the official lists, these define the test patients, and
    validation patients are drawn from the others; ``split_file`` replaces the lists.

    Args:
        root: folder with the table ``Data_Entry_2017_v2020.csv`` (or of 2017) and the images in
            ``images_001/images`` to ``images_012/images``, or in ``images``.
        name: name of the task.
        findings: findings that are classes, in their order; by default all 14.
        size: (H, W) to resample to, with anti-aliasing; by default (224, 224), or the size of the
            first image if it is smaller.
        split_seed, shares, split_file: see :class:`analogmed.data.splits.SplitSettings`. With the
            official lists, only the ratio of the first two shares has an effect.

    Raises:
        ConfigError: a setting is invalid.
        DataError: the table or a list is damaged, names an unknown finding, or does not fit the
            images.
        LeakageError: a patient is in both official lists, or in two splits of the split file.
    """
    classes = _checked_findings(findings)
    size = checked_size(size, 2)
    settings = SplitSettings(split_seed, checked_shares(shares), split_file)
    root = require_folder(root)
    table = find_table(root)
    files = find_images(root)
    rows = paired_rows(table, files, refuse)
    train, validation, test = split_patients(root, list_patients(rows, files, table), settings)
    if size is None:
        stored = read_image(next(iter(files.values()))).shape[:2]
        size = tuple(map(min, stored, _LARGEST))
    return Task(
        name=name,
        root=root,
        spatial_dims=2,
        channels=("grey",),
        classes=classes,
        window=padded_size(size),
        spacing_unit="px",
        train=train,
        validation=validation,
        test=test,
        read=ChestReader(classes, size),
        kind=MULTILABEL,
    )


@dataclass(frozen=True)
class ChestReader:
    """Reader of all images of a patient.

    Attributes:
        findings: findings that are classes.
        size: (H, W) to resample to; ``None`` keeps the pixels, which then have one size.
    """

    findings: tuple[str, ...] = FINDINGS
    size: tuple[int, ...] | None = None

    def __call__(self, case: Case) -> Sample:
        """Return images (N, 1, H, W) in [-1, 1] and references (N, findings).

        Raises:
            DataError: a file is missing or damaged, or an image is not grey with 8 bits.
        """
        with naming_case(case):
            rows = read_table(case.labels[0])
            images = np.concatenate([self._image(path) for path in case.images])
        found = [rows[path.name].findings for path in case.images]
        label = [[finding in those for finding in self.findings] for those in found]
        return Sample(images, np.array(label, dtype=np.uint8), (1.0, 1.0), case)

    def _image(self, path: Path) -> np.ndarray:
        pixels = one_channel(read_image(path), path, "a grey one")
        if pixels.dtype != np.uint8:
            raise DataError(f"{path}: {pixels.dtype} pixels, expected 8 bits a pixel; convert it")
        image = resize_image(pixels, self.size or pixels.shape)
        return pad_image(image[None, None] / np.float32(127.5) - np.float32(1), -1.0)


def find_table(folder: Path) -> Path:
    """Return the table of findings of a folder; that of 2020 replaces that of 2017.

    Raises:
        DataError: there is none, or several with other names.
    """
    for name in _TABLES:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path for path in folder.glob(_ANY_TABLE) if not is_hidden(path))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        action = "keep one of them" if found else "give the folder with it"
        raise DataError(f"{folder}: expected the table {_TABLES[0]}, got {names}; {action}")
    return found[0]


def read_table(table: Path) -> Mapping[str, XRay]:
    """Return findings and patient of each image by its file name; the last tables stay in memory.

    Raises:
        DataError: the table cannot be read, or a row is invalid.
    """
    try:
        state = table.stat()
    except OSError as error:
        raise DataError(f"{table}: cannot be read ({error.strerror}); check the file") from error
    return _read(table, state.st_mtime_ns, state.st_size)


def find_images(folder: Path) -> dict[str, Path]:
    """Return the image files of a folder by their names.

    Raises:
        DataError: a name occurs twice, or there is no image.
    """
    files: dict[str, Path] = {}
    paths = (path for pattern in _IMAGES for path in folder.glob(pattern) if not is_hidden(path))
    for path in sorted(paths):
        if path.name in files:
            raise DataError(
                f"{path}: expected one file of each image, got also {files[path.name]}; remove one"
            )
        files[path.name] = path
    if not files:
        raise DataError(
            f"{folder}: no image, expected {_IMAGES[0]} or {_IMAGES[1]}; unpack the archives"
        )
    return files


def paired_rows(table: Path, files: Collection[str], fault: Fault) -> dict[str, XRay]:
    """Return the rows of a table with a file; the others, and files without a row, are faults.

    Raises:
        DataError: the table cannot be read, or a row is invalid.
    """
    rows = read_table(table)
    for names, what, action in (
        (rows.keys() - set(files), "without a file", "unpack all archives, or remove the rows"),
        (set(files) - rows.keys(), "without a row", "add the rows, or remove the files"),
    ):
        if names:
            fault(table, f"expected a row for each file, got {_listed(names)} {what}", action)
    return {name: row for name, row in rows.items() if name in files}


def list_patients(
    rows: Mapping[str, XRay], files: Mapping[str, Path], table: Path
) -> tuple[Case, ...]:
    """Return a case of all images for each patient."""
    images: dict[str, list[Path]] = defaultdict(list)
    for name in sorted(rows):
        images[rows[name].patient].append(files[name])
    return tuple(
        Case(patient, patient, tuple(paths), (table,)) for patient, paths in sorted(images.items())
    )


def split_patients(
    folder: Path, cases: Cases, settings: SplitSettings
) -> tuple[Cases, Cases, Cases]:
    """Split patients by the official lists of a folder, or without them by the settings.

    Raises:
        ConfigError: the split file is invalid.
        DataError: a list is missing, or an image is in none.
        LeakageError: a patient is in both lists, or in two splits of the split file.
    """
    if settings.file is not None or not any((folder / name).exists() for name in LISTS):
        return split_cases(cases, settings)
    first, second = (_read_list(folder / name) for name in LISTS)
    unlisted = {path.name for case in cases for path in case.images} - first - second
    if unlisted:
        raise DataError(
            f"{folder}: expected each image in {LISTS[0]} or {LISTS[1]}, got {_listed(unlisted)} "
            "in neither; add them to one, or remove both lists"
        )
    others, test = (_with_images_of(names, cases) for names in (first, second))
    try:
        check_leakage(others, (), test)
    except LeakageError as error:
        raise LeakageError(f"{folder}: {' and '.join(LISTS)}: {error}") from error
    for_training, for_validation, _ = settings.shares
    total = for_training + for_validation
    shares = (for_training / total, for_validation / total, 0.0) if total else (1.0, 0.0, 0.0)
    train, validation, _ = split_by_patient(others, shares, settings.seed)
    return train, validation, test


def _checked_findings(findings: Sequence[str] | None) -> tuple[str, ...]:
    given = FINDINGS if findings is None else findings
    chosen = known_texts(_OPTION, given, FINDINGS, "finding")
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError(
            f"{_OPTION}: expected one or more different findings, got {', '.join(chosen) or 'none'}"
        )
    return chosen


@lru_cache(maxsize=2)
def _read(table: Path, _time: int, _size: int) -> Mapping[str, XRay]:
    try:
        lines = list(csv.reader(read_text(table, _MAX_BYTES, error=DataError).splitlines()))
    except csv.Error as error:
        raise DataError(f"{table}: damaged ({error}); download it again") from error
    # Heads after these contain commas without quotes, and older tables end with one.
    heads = lines[0] if lines else []
    missing = [head for head in (_NAME, _LABELS, _PATIENT) if head not in heads]
    if missing:
        raise DataError(
            f"{table}: no column {', '.join(missing)}; expected the table of ChestX-ray14, got "
            f"{', '.join(heads) or 'an empty file'}; download it again"
        )
    places = [heads.index(head) for head in (_NAME, _LABELS, _PATIENT)]
    rows: dict[str, XRay] = {}
    for number, cells in enumerate(lines[1:], start=2):
        where = f"{table}: line {number}"
        if not cells:
            continue
        if len(cells) <= max(places):
            raise DataError(
                f"{where}: {len(cells)} columns, expected those of the first line; correct the line"
            )
        image, labels, patient = (cells[place].strip() for place in places)
        if image in rows:
            raise DataError(
                f"{where}: expected one row of each image, got {image} again; remove one of them"
            )
        if not image or not patient:
            raise DataError(
                f"{where}: expected an image and a patient, got {cells[:4]}; correct the line"
            )
        rows[image] = XRay(_findings(labels, where), patient.zfill(_PATIENT_DIGITS))
    if not rows:
        raise DataError(f"{table}: no rows, expected one for each image; download it again")
    return rows


def _findings(labels: str, where: str) -> frozenset[str]:
    names = frozenset(labels.split("|"))
    if names == {NO_FINDING}:
        return frozenset()
    for name in sorted(names.difference(FINDINGS)):
        if name == NO_FINDING:
            raise DataError(
                f"{where}: expected findings or {NO_FINDING!r}, got {labels!r}; correct the line"
            )
        raise DataError(f"{where}: unknown finding {name!r}; {nearest(name, FINDINGS)}")
    return names


def _read_list(path: Path) -> set[str]:
    if not path.exists():
        raise DataError(
            f"{path}: missing file, expected both {' and '.join(LISTS)}; download it, or remove "
            "the other list"
        )
    lines = read_text(path, _MAX_BYTES, error=DataError).splitlines()
    return {line.strip() for line in lines if line.strip()}


def _with_images_of(names: Collection[str], cases: Cases) -> Cases:
    """Return the cases with an image in a list."""
    return tuple(case for case in cases if any(path.name in names for path in case.images))


def _listed(names: Iterable[str]) -> str:
    """Return the number of names and the first of them."""
    ordered = sorted(names)
    more = ", ..." if len(ordered) > _MOST_LISTED else ""
    return f"{len(ordered)} ({', '.join(ordered[:_MOST_LISTED])}{more})"


def _list(folder: Path, problem: Fault, _: Fault) -> Listing:
    """List the images that have a row; the split by the official lists is checked, too."""
    cases: tuple[Case, ...] = ()
    try:
        table, files = find_table(folder), find_images(folder)
        rows = paired_rows(table, files, problem)
        cases = tuple(
            Case(Path(name).stem, row.patient, (files[name],), (table,))
            for name, row in sorted(rows.items())
        )
        split_patients(folder, list_patients(rows, files, table), SplitSettings())
    except AnalogmedError as error:
        text = str(error).removeprefix("cannot read ")
        named = Path(text.partition(": ")[0])
        path = named if named.is_relative_to(folder) else folder
        report_error(problem, path, text, "download it again")
    return Listing(cases, ChestReader(), has_masks=False)


LAYOUT = Layout(
    name="ChestX-ray14",
    files=f"{_ANY_TABLE} with images (ChestX-ray14)",
    content=f"the folder that holds {_TABLES[0]} and the images",
    origin="the data come from https://nihcc.app.box.com/v/ChestXray-NIHCC",
    applies=lambda folder: any(folder.glob(_ANY_TABLE)),
    list=_list,
    folders=("chestxray14",),
)
