"""MedMNIST: small images of many modalities with a class or labels, one ``.npz`` file per data set.

Source: Yang et al. 2023, doi:10.1038/s41597-022-01721-8; https://medmnist.com
"""

import hashlib
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from analogmed.data.case import Case, Sample, Task
from analogmed.data.datasets.listing import Fault, Layout, Listing, report_error
from analogmed.data.normalise import checked_size, pad_image, padded_size, resize_image
from analogmed.data.samples import MAX_CLASSES, naming_case
from analogmed.data.splits import split_from_file
from analogmed.foundation.errors import AnalogmedError, ConfigError, DataError
from analogmed.foundation.files import read_head
from analogmed.kinds.classification import MULTICLASS, MULTILABEL, Classification

MAX_BYTES = 2**36
"""Largest unpacked size of a file, 64 GiB; the largest data set has 17 GB at 224 x 224 pixels."""
MAX_RATIO = 100
"""Largest ratio of unpacked and packed size; images are compressed by less than 10."""
PARTS = ("train", "val", "test")
KEYS = tuple(f"{part}_{what}" for part in PARTS for what in ("images", "labels"))
_CHANNELS = {2: ("grey",), 3: ("red", "green", "blue")}
_ORGANS = (
    "bladder", "left femur", "right femur", "heart", "left kidney", "right kidney", "liver",
    "left lung", "right lung", "pancreas", "spleen",
)  # fmt: skip
CLASSES = MappingProxyType(
    {
        "bloodmnist": (
            "basophil", "eosinophil", "erythroblast", "immature granulocyte", "lymphocyte",
            "monocyte", "neutrophil", "platelet",
        ),
        "breastmnist": ("normal or benign",),
        "chestmnist": (
            "atelectasis", "cardiomegaly", "effusion", "infiltration", "mass", "nodule",
            "pneumonia", "pneumothorax", "consolidation", "edema", "emphysema", "fibrosis",
            "pleural thickening", "hernia",
        ),
        "dermamnist": (
            "actinic keratosis or intraepithelial carcinoma", "basal cell carcinoma",
            "benign keratosis", "dermatofibroma", "melanoma", "melanocytic nevus",
            "vascular lesion",
        ),
        "octmnist": (
            "choroidal neovascularization", "diabetic macular edema", "drusen", "normal",
        ),
        "organamnist": _ORGANS,
        "organcmnist": _ORGANS,
        "organsmnist": _ORGANS,
        "pathmnist": (
            "adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle",
            "normal colon mucosa", "cancer-associated stroma", "colorectal adenocarcinoma",
        ),
        "pneumoniamnist": ("pneumonia",),
        "retinamnist": tuple(f"grade {grade}" for grade in range(5)),
        "tissuemnist": (
            "collecting duct", "distal convoluted tubule", "glomerular endothelium",
            "interstitial endothelium", "leukocyte", "podocyte", "proximal tubule",
            "thick ascending limb",
        ),
    }
)  # fmt: skip
"""Names of the classes of each data set; of two classes, that of label 1."""


def load_medmnist(
    root: Path | str,
    *,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    size: Sequence[int] | None = None,
    split_file: Path | str | None = None,
) -> Task:
    """Load a MedMNIST file with its official split, or another one.

    Labels (n, 1) are classes: with two of them the task is binary, and its class is that of label
    1. Labels (n, K) of 0 and 1 are independent of each other. Intensities are scaled from [0, 255]
    to [-1, 1], and images are padded with black to a multiple of 32 pixels. Patients are unknown,
    so that each image counts as one. Training images that are also in validation or test, and
    validation images that are also in test, are left out with a warning.

    Args:
        root: the ``.npz`` file, or a folder with one such file.
        name: name of the task; by default that of the file.
        classes: names of the classes; by default those of the data set of this name.
        size: (H, W) to resample to, before padding.
        split_file: YAML or JSON file with the images of each split, named as ``train-00017``; by
            default, parts are the official ones.

    Raises:
        ConfigError: ``root`` does not exist or has several files, or ``classes`` or ``size`` is
            invalid.
        DataError: the file is damaged or has another content.
    """
    size = checked_size(size, 2)
    file = find_file(Path(root))
    arrays = read_arrays(file)
    stem = re.sub(r"_\d+$", "", file.stem)
    kind, names = _kind_and_classes(arrays, classes or CLASSES.get(stem), file)
    shape = size or arrays["train_images"].shape[1:3]
    cases = dict(_without_repeated(list_cases(file, arrays), file))
    parts = tuple(cases[part] for part in PARTS)
    if split_file is not None:
        parts = split_from_file([case for part in parts for case in part], split_file)
    train, validation, test = parts
    return Task(
        name=name or stem,
        root=file.parent,
        spatial_dims=2,
        channels=_CHANNELS[arrays["train_images"].ndim - 1],
        classes=names,
        window=padded_size(shape),
        spacing_unit="px",
        train=train,
        validation=validation,
        test=test,
        read=MedMnistReader(size),
        kind=kind,
    )


@dataclass(frozen=True)
class MedMnistReader:
    """Reader of one image of a file.

    Attributes:
        size: (H, W) to resample to, or None.
    """

    size: tuple[int, ...] | None = None

    def __call__(self, case: Case) -> Sample:
        """Return image (1, C, H, W) in [-1, 1] and reference (1, 1) or (1, classes).

        Raises:
            DataError: the file is damaged.
        """
        with naming_case(case):
            arrays = read_arrays(case.images[0])
        part, number = _address(case)
        pixels = arrays[f"{part}_images"][number]
        channels = np.atleast_3d(pixels).transpose(2, 0, 1)[None]
        image = channels.astype(np.float32) / np.float32(127.5) - np.float32(1)
        size = self.size or pixels.shape[:2]
        image = pad_image(resize_image(image, size), -1.0)
        label = arrays[f"{part}_labels"][number][None].astype(np.uint8)
        return Sample(image, label, (1.0, 1.0), case)


def find_file(root: Path) -> Path:
    """Return the file that ``root`` is or contains.

    Raises:
        ConfigError: ``root`` does not exist, or contains none or several.
    """
    if root.is_file():
        return root
    found = sorted(root.glob("*.npz"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigError(
            f"task.root {root}: expected one .npz file of MedMNIST, got {names}. Give the file."
        )
    return found[0]


def read_arrays(file: Path) -> dict[str, np.ndarray]:
    """Return the checked arrays of a file; those of the last files stay in memory.

    Returns:
        images (n, H, W) or (n, H, W, 3), uint8, and labels (n, T), integer, by key.

    Raises:
        DataError: the file is damaged, or an array has another shape, type or value.
    """
    try:
        state = file.stat()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    return _read(file, state.st_mtime_ns, state.st_size)


def list_cases(file: Path, arrays: dict[str, np.ndarray]) -> dict[str, tuple[Case, ...]]:
    """Return a case for each image of each part."""

    def case(part: str, number: int, image: np.ndarray) -> Case:
        name = f"{part}-{number:05d}"
        digest = hashlib.sha256(image.tobytes()).hexdigest()
        return Case(name, name, (file,), (), digest)

    return {
        part: tuple(case(part, *each) for each in enumerate(arrays[f"{part}_images"]))
        for part in PARTS
    }


def _constant_images(cases: Iterable[Case]) -> Iterator[Case]:
    """Yield the cases whose pixels all have one value."""
    for case in cases:
        part, number = _address(case)
        pixels = read_arrays(case.images[0])[f"{part}_images"][number]
        if pixels.min() == pixels.max():
            yield case


def _address(case: Case) -> tuple[str, int]:
    """Return part and index of a case in its file."""
    part, _, number = case.case_id.partition("-")
    return part, int(number)


@lru_cache(maxsize=2)
def _read(file: Path, _time: int, _size: int) -> dict[str, np.ndarray]:
    try:
        if read_head(file)[:2] != b"PK":
            raise DataError(
                f"{file}: no archive of NumPy; expected the .npz file of MedMNIST; give it"
            )
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            missing = [key for key in KEYS if key not in archive.files]
            if missing:
                raise DataError(
                    f"{file}: no array {', '.join(missing)}; expected those of MedMNIST, got "
                    f"{', '.join(archive.files) or 'none'}"
                )
            _check_size(file, archive.zip.infolist())
            arrays = {key: archive[key] for key in KEYS}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{file}: damaged ({error}); download it again") from error
    for part in PARTS:
        _check_part(arrays, part, file)
    return arrays


def _check_size(file: Path, entries: Sequence[zipfile.ZipInfo]) -> None:
    """Raise DataError, before anything is unpacked, if a file would take too much memory."""
    unpacked = sum(entry.file_size for entry in entries)
    most = min(MAX_BYTES, MAX_RATIO * max(file.stat().st_size, 2**20))
    if unpacked > most:
        raise DataError(
            f"{file}: its arrays take {unpacked:,} bytes; expected at most {most:,} for a file of "
            f"{file.stat().st_size:,} bytes. Download it again."
        )


def _check_part(arrays: dict[str, np.ndarray], part: str, file: Path) -> None:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    first = arrays["train_images"]
    is_image = images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)
    if images.dtype != np.uint8 or not is_image or images.shape[1:] != first.shape[1:]:
        raise DataError(
            f"{file}: {part}_images has shape {images.shape} and type {images.dtype}; expected "
            "uint8 of shape (n, H, W) or (n, H, W, 3), with one size in all parts (files of 3D "
            "images are not supported)"
        )
    expected = (len(images), *arrays["train_labels"].shape[1:])
    if labels.ndim != 2 or labels.shape != expected or labels.dtype.kind not in "iu":
        raise DataError(
            f"{file}: {part}_labels has shape {labels.shape} and type {labels.dtype}; expected "
            f"integers of shape (n, labels) for {len(images)} images"
        )
    most = 1 if labels.shape[1] > 1 else MAX_CLASSES - 1
    outside = np.flatnonzero(((labels < 0) | (labels > most)).any(axis=1))
    if len(outside):
        raise DataError(
            f"{file}: {part}_labels[{outside[0]}] is {labels[outside[0]].tolist()}; expected "
            f"integers from 0 to {most}"
        )


def _kind_and_classes(
    arrays: dict[str, np.ndarray], given: Sequence[str] | None, file: Path
) -> tuple[Classification, tuple[str, ...]]:
    labels = [arrays[f"{part}_labels"] for part in PARTS]
    columns, highest = labels[0].shape[1], max(int(part.max(initial=0)) for part in labels)
    kind: Classification = MULTILABEL
    found = columns
    if columns == 1 and highest > 1:
        kind, found = MULTICLASS, highest + 1
    names = tuple(given or (f"class {index}" for index in range(1, found + 1)))
    more_is_fine = kind is MULTICLASS and len(names) >= found
    if not more_is_fine and len(names) != found:
        raise ConfigError(
            f"task.options.classes: expected {found} name{'s' * (found > 1)} for {file}, got "
            f"{len(names)} ({', '.join(names)})"
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"task.options.classes: expected different names, got {', '.join(names)}")
    return kind, names


def _without_repeated(
    cases: dict[str, tuple[Case, ...]], file: Path
) -> Iterator[tuple[str, tuple[Case, ...]]]:
    """Yield the cases of each part without images that a later part contains."""
    later: set[str] = set()
    for part in reversed(PARTS):
        kept = tuple(case for case in cases[part] if case.digest not in later)
        if len(kept) < len(cases[part]):
            names = {"train": "validation or test", "val": "test"}[part]
            warnings.warn(
                f"{file}: {len(cases[part]) - len(kept)} images of {part} are also in {names}, "
                f"and are left out of {part}",
                stacklevel=4,
            )
        later |= {case.digest for case in cases[part]}
        yield part, kept


def _list(folder: Path, problem: Fault, warning: Fault) -> Listing:
    """List the images of a file, or of the one file of a folder."""
    cases: tuple[Case, ...] = ()
    try:
        file = find_file(folder)
        parts = list_cases(file, read_arrays(file))
        cases = tuple(case for part in parts.values() for case in part)
    except AnalogmedError as error:
        report_error(problem, folder, error, "download it again")
    for case in _constant_images(cases):
        warning(case.images[0], f"case {case.case_id}: constant image", "check its source")
    return Listing(cases, MedMnistReader())


LAYOUT = Layout(
    name="MedMNIST",
    files="one *.npz (MedMNIST)",
    content="a MedMNIST file (.npz), or the folder that holds it",
    origin="the data come from https://medmnist.com (CC BY 4.0)",
    applies=lambda path: path.suffix == ".npz" or any(path.glob("*.npz")),
    list=_list,
    is_archive=True,
    is_format=True,
)
