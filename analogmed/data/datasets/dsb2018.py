"""Nuclei of the 2018 Data Science Bowl: microscopy images with one mask file per nucleus.

Source: Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7; https://bbbc.broadinstitute.org/BBBC038
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analogmed.data.case import Case, Sample, Task
from analogmed.data.datasets.listing import Fault, Layout, Listing, case_folders, refuse
from analogmed.data.normalise import checked_size, z_score
from analogmed.data.readers.files import is_hidden
from analogmed.data.readers.images import read_image
from analogmed.data.samples import binary_mask, check_same_shape, image_sample, naming_case
from analogmed.data.splits import SHARES, SplitSettings, checked_shares, split_cases
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.files import require_folder

CLASSES = ("nucleus",)
_CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}
_FOLDER = "stage1_train"
_LABEL = "label.png"
_PARTS = ("images", "masks", _LABEL)
_WINDOW = (256, 256)
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""ITU-R BT.601 weights of red, green and blue for conversion to grey."""


def load_dsb2018(
    root: Path | str,
    *,
    name: str = "dsb2018",
    n_channels: int = 3,
    size: Sequence[int] | None = None,
    window: Sequence[int] | None = None,
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
) -> Task:
    """Load the nuclei data set; each image is one case and counts as one patient.

    Fluorescence (bright nuclei on dark) and stained or brightfield images (dark on bright) are
    both z-scored per image and channel; alpha channels are dropped. Labels are the merged files in
    ``masks/``, or one ``label.png``. The data set does not identify patients.

    Args:
        root: folder that contains ``stage1_train``, or that folder itself.
        name: name of the task.
        n_channels: 3 (grey images have three equal channels) or 1 (colour becomes grey).
        size: (H, W) to resample to; ``None`` keeps the original pixels of each image.
        window: (H, W) of the network input; by default ``size``, or 256 x 256.
        split_seed, shares, split_file: see :class:`analogmed.data.splits.SplitSettings`.

    Returns:
        A 2D task with the class nucleus and spacing in pixels of the original file.

    Raises:
        ConfigError: a setting is invalid.
        DataError: the folder contains no such images, or an image without a label.
    """
    if n_channels not in _CHANNELS:
        raise ConfigError(f"n_channels must be 1 or 3, not {n_channels!r}")
    size = checked_size(size, 2)
    root = require_folder(root)
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    cases = list_cases(folder)
    if not cases:
        raise DataError(
            f"{folder}: no <id>/images/<id>.png in it; give the folder that holds {_FOLDER}"
        )
    train, validation, test = split_cases(
        cases, SplitSettings(split_seed, checked_shares(shares), split_file)
    )
    return Task(
        name=name,
        root=folder,
        spatial_dims=2,
        channels=_CHANNELS[n_channels],
        classes=CLASSES,
        window=checked_size(window, 2) or size or _WINDOW,
        spacing_unit="px",
        train=train,
        validation=validation,
        test=test,
        read=NucleiReader(n_channels, size),
    )


@dataclass(frozen=True)
class NucleiReader:
    """Reader of an image and the union of its nuclei.

    Attributes:
        n_channels: number of channels, 1 or 3.
        size: (H, W) to resample to, or None.
    """

    n_channels: int = 3
    size: tuple[int, ...] | None = None

    def __call__(self, case: Case) -> Sample:
        """Return image (1, C, H, W), label (1, H, W) and spacing (H, W) in pixels of the file.

        Raises:
            DataError: a file is missing or damaged, or a mask does not fit the image.
        """
        with naming_case(case):
            channels = _to_channels(read_image(case.images[0]), self.n_channels)
            coverage = _nuclei_per_pixel(case, channels.shape[1:])
        image = np.stack([z_score(channel) for channel in channels])[None]
        label = (coverage > 0).astype(np.uint8)[None]
        return image_sample(image, label, self.size, case)


def count_overlaps(case: Case) -> int:
    """Return the number of pixels that belong to more than one instance mask of a case.

    Raises:
        DataError: a file is missing or damaged, or a mask does not fit the image.
    """
    with naming_case(case):
        shape = read_image(case.images[0]).shape[:2]
        return int(np.count_nonzero(_nuclei_per_pixel(case, shape) > 1))


def list_cases(folder: Path, fault: Fault = refuse) -> list[Case]:
    """Return the image of each folder that has a folder of images or of masks, or a label file.

    Args:
        folder: folder of the folders of images.
        fault: receives each folder without exactly one image, or without a label; by default it
            raises DataError.
    """
    cases = (_case_of(each, fault) for each in case_folders(folder) if _is_field(each))
    return [case for case in cases if case is not None]


def _is_field(folder: Path) -> bool:
    return any((folder / part).exists() for part in _PARTS)


def _case_of(folder: Path, fault: Fault) -> Case | None:
    images = _png_files(folder / "images")
    labels = _png_files(folder / "masks")
    if not labels and (folder / _LABEL).exists():
        labels = (folder / _LABEL,)
    if len(images) != 1:
        what = f"{len(images)} PNG in images, expected 1"
        fault(folder, what, "restore it, or remove the folder")
    elif not labels:
        fault(
            folder,
            "no label: expected masks/*.png or label.png",
            "use the labelled stage 1 training images; for a field without nuclei, write a "
            "label.png of zeros",
        )
    else:
        return Case(folder.name, folder.name, images, labels)
    return None


def _png_files(folder: Path) -> tuple[Path, ...]:
    return tuple(sorted(path for path in folder.glob("*.png") if not is_hidden(path)))


def _to_channels(image: np.ndarray, n_channels: int) -> np.ndarray:
    """Return pixels (H, W[, C]) as float32 (n_channels, H, W) without alpha."""
    if image.ndim == 2:
        return np.repeat(image[None].astype(np.float32), n_channels, axis=0)
    colours = image[..., :3].astype(np.float32)
    if n_channels == 1:
        return (colours @ _LUMA)[None]
    return np.moveaxis(colours, -1, 0)


def _nuclei_per_pixel(case: Case, shape: tuple[int, ...]) -> np.ndarray:
    """Return the number of masks of the case that cover each pixel, int (H, W)."""
    coverage = np.zeros(shape, dtype=np.int32)
    for path in case.labels:
        mask = read_image(path)
        check_same_shape(shape, case.images[0], mask.shape[:2], path)
        coverage += binary_mask(mask, path)
    return coverage


def _applies(folder: Path) -> bool:
    images = (path.parent for path in folder.glob("*/images") if any(path.glob("*.png")))
    return any((each / "masks").is_dir() or (each / _LABEL).is_file() for each in images)


def _list(folder: Path, problem: Fault, _: Fault) -> Listing:
    """List the images; any other visible folder is a problem."""
    for each in case_folders(folder):
        if not _is_field(each):
            _case_of(each, problem)
    return Listing(list_cases(folder, problem), NucleiReader())


LAYOUT = Layout(
    name="DSB 2018 (stage1_train)",
    files="<id>/images/*.png with <id>/masks (DSB 2018)",
    content="the folder stage1_train or the one that holds it",
    origin="the data come from https://bbbc.broadinstitute.org/BBBC038",
    applies=_applies,
    list=_list,
    folders=(_FOLDER,),
)
