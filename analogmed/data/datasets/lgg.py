"""TCGA lower-grade glioma brain MRI: the ``kaggle_3m`` folder of slices and tumour masks.

Source: Buda, Saha, Mazurowski 2019, doi:10.1016/j.compbiomed.2019.05.002;
https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analogmed.data.case import Case, Sample, Task
from analogmed.data.datasets.listing import Fault, Layout, Listing, case_folders, refuse
from analogmed.data.normalise import checked_size, z_score
from analogmed.data.readers.files import is_hidden, natural_order
from analogmed.data.readers.images import read_image
from analogmed.data.samples import binary_mask, check_same_shape, image_sample, naming_case
from analogmed.data.splits import SHARES, SplitSettings, checked_shares, split_cases
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import require_folder

CHANNELS = ("pre-contrast", "FLAIR", "post-contrast")
CLASSES = ("tumour",)
_FOLDER = "kaggle_3m"
_WINDOW = (256, 256)
_MASK_END = "_mask.tif"
_TCGA_PATIENT = re.compile(r"(TCGA_[^_]+_[^_]+)_\d{8}")


def load_lgg(
    root: Path | str,
    *,
    name: str = "lgg",
    size: Sequence[int] | None = None,
    window: Sequence[int] | None = None,
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
) -> Task:
    """Load the LGG data set; each case is the stack of slices of one scan of a patient.

    Slices are ordered by number. Each channel is z-scored over the stack. The files contain no
    voxel size, so spacing is in pixels of the file. A folder ``TCGA_XX_XXXX_<date>`` belongs to
    the patient ``TCGA_XX_XXXX``; any other folder is a separate patient.

    Args:
        root: folder that contains ``kaggle_3m``, or that folder itself.
        name: name of the task.
        size: (H, W) to resample to; ``None`` keeps the original pixels (256 x 256).
        window: (H, W) of the network input; by default ``size``, or 256 x 256.
        split_seed, shares, split_file: see :class:`analogmed.data.splits.SplitSettings`.

    Returns:
        A 2D task with the channels pre-contrast, FLAIR, post-contrast and the class tumour.

    Raises:
        ConfigError: a setting is invalid.
        DataError: the folder contains no such scans, or a slice without its mask.
    """
    size = checked_size(size, 2)
    root = require_folder(root)
    folder = root / _FOLDER if (root / _FOLDER).is_dir() else root
    cases = list_cases(folder)
    if not cases:
        raise DataError(
            f"{folder}: no <patient>/<patient>_<n>.tif with <patient>_<n>_mask.tif; give the "
            f"folder that holds {_FOLDER}"
        )
    train, validation, test = split_cases(
        cases, SplitSettings(split_seed, checked_shares(shares), split_file)
    )
    return Task(
        name=name,
        root=folder,
        spatial_dims=2,
        channels=CHANNELS,
        classes=CLASSES,
        window=checked_size(window, 2) or size or _WINDOW,
        spacing_unit="px",
        train=train,
        validation=validation,
        test=test,
        read=StackReader(size),
    )


@dataclass(frozen=True)
class StackReader:
    """Reader of the slices of one case, normalised as one volume.

    Attributes:
        size: (H, W) to resample to, or None.
    """

    size: tuple[int, ...] | None = None

    def __call__(self, case: Case) -> Sample:
        """Return image (N, 3, H, W), label (N, H, W) and spacing (H, W) in pixels of the file.

        Raises:
            DataError: a file is missing, damaged or inconsistent with the other files of the case.
        """
        with naming_case(case):
            stack = np.stack(_read_alike(case.images))  # (N, H, W, C)
            if stack.ndim != 4 or stack.shape[-1] != len(CHANNELS):
                raise DataError(f"{case.images[0]}: shape {stack.shape[1:]}, expected (H, W, 3)")
            masks = _read_alike(case.labels)
            check_same_shape(stack.shape[1:3], case.images[0], masks[0].shape[:2], case.labels[0])
            label = np.stack(
                [binary_mask(mask, path) for mask, path in zip(masks, case.labels, strict=True)]
            ).astype(np.uint8)
        image = np.stack([z_score(stack[..., c]) for c in range(len(CHANNELS))], axis=1)
        return image_sample(image, label, self.size, case)


def list_cases(folder: Path, fault: Fault = refuse) -> list[Case]:
    """Return the scan of each folder: its slices that have a mask, in natural order.

    Args:
        folder: folder of the folders of scans.
        fault: receives each slice without its mask and each mask without its slice; by default it
            raises DataError.
    """
    cases = (_case_of(each, fault) for each in case_folders(folder))
    return [case for case in cases if case is not None]


def _case_of(folder: Path, fault: Fault) -> Case | None:
    files = [path for path in folder.glob("*.tif") if not is_hidden(path)]
    masks = {path.name.removesuffix(_MASK_END): path for path in files if _is_mask(path)}
    slices = {path.stem: path for path in files if not _is_mask(path)}
    for stem in sorted(slices.keys() - masks.keys(), key=natural_order):
        fault(slices[stem], f"no {stem}{_MASK_END} in its folder", "restore it from the source")
    for stem in sorted(masks.keys() - slices.keys(), key=natural_order):
        fault(masks[stem], f"a mask without its slice {stem}.tif", "restore the slice")
    stems = sorted(slices.keys() & masks.keys(), key=natural_order)
    if not stems:
        return None
    patient = _TCGA_PATIENT.fullmatch(folder.name)
    return Case(
        case_id=folder.name,
        patient_id=patient[1] if patient else folder.name,
        images=tuple(slices[stem] for stem in stems),
        labels=tuple(masks[stem] for stem in stems),
    )


def _is_mask(path: Path) -> bool:
    return path.name.endswith(_MASK_END)


def _read_alike(paths: Sequence[Path]) -> list[np.ndarray]:
    arrays = [read_image(path) for path in paths]
    for array, path in zip(arrays, paths, strict=True):
        check_same_shape(arrays[0].shape, paths[0], array.shape, path)
    return arrays


LAYOUT = Layout(
    name="LGG (kaggle_3m)",
    files=f"<patient>/*{_MASK_END} (LGG)",
    content="the folder kaggle_3m or the one that holds it",
    origin="the data come from https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
    applies=lambda folder: any(folder.glob(f"*/*{_MASK_END}")),
    list=lambda folder, problem, _: Listing(list_cases(folder, problem), StackReader()),
    folders=(_FOLDER,),
)
