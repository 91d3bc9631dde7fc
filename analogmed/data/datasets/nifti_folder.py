"""Folders of NIfTI files, one folder per case: BraTS and data sets with the same layout."""

from collections.abc import Sequence
from pathlib import Path

from analogmed.data.case import Task
from analogmed.data.datasets.case_files import list_cases
from analogmed.data.datasets.options import (
    ClassValues,
    one_text,
    some_texts,
    some_values,
    values_of_classes,
)
from analogmed.data.normalise import checked_size
from analogmed.data.readers.nifti import DEFAULT_MAX_VOXELS, NanPolicy
from analogmed.data.readers.orientation import Orientation
from analogmed.data.splits import SHARES, SplitSettings, checked_shares, split_cases
from analogmed.data.volumes import (
    SOFT_TISSUE_HU,
    Axes,
    Intensity,
    VolumeReader,
    checked_spacing,
    ct_window_of,
    default_window,
    intensity_of,
)
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.files import require_folder

BRATS_IMAGES = ("*_flair.nii*", "*_t1.nii*", "*_t1ce.nii*", "*_t2.nii*")
BRATS_LABEL = "*_seg.nii*"
BRATS_CLASSES: ClassValues = {"necrotic core": 1, "edema": 2, "enhancing tumour": 4}
BRATS_VALUES = (0, 1, 2, 4)


def load_brats(
    root: Path | str,
    *,
    name: str = "brats",
    images: Sequence[str] = BRATS_IMAGES,
    label: str = BRATS_LABEL,
    channels: Sequence[str] | None = None,
    classes: ClassValues = BRATS_CLASSES,
    label_values: Sequence[int] | None = BRATS_VALUES,
    spatial_dims: int = 3,
    slice_axis: int = 2,
    size: Sequence[int] | None = None,
    window: Sequence[int] | None = None,
    intensity: Intensity | None = None,
    nan_policy: NanPolicy = "error",
    max_voxels: int = DEFAULT_MAX_VOXELS,
    orientation: Orientation = "ras",
    axes: Axes = "zyx",
    spacing_mm: Sequence[float] | None = None,
    patient_pattern: str | None = None,
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
) -> Task:
    """Load brain tumour cases in the layout of BraTS 2017 to 2021.

    Calls :func:`load_nifti` with the file names, labels (1, 2 and 4) and modalities of BraTS.
    Regions are classes that merge labels, for instance ``{"whole tumour": (1, 2, 4)}``. Since
    2023, files end in ``-t2f``, ``-t1n``, ``-t1c``, ``-t2w`` and ``-seg``, and label 4 is 3.

    Args, Returns and Raises: as :func:`load_nifti`.
    """
    if channels is None and tuple(images) == BRATS_IMAGES:
        channels = ("FLAIR", "T1", "T1ce", "T2")
    return load_nifti(
        root,
        name=name,
        images=images,
        label=label,
        channels=channels,
        classes=classes,
        label_values=label_values,
        modality="MR",
        spatial_dims=spatial_dims,
        slice_axis=slice_axis,
        size=size,
        window=window,
        intensity=intensity,
        nan_policy=nan_policy,
        max_voxels=max_voxels,
        orientation=orientation,
        axes=axes,
        spacing_mm=spacing_mm,
        patient_pattern=patient_pattern,
        split_seed=split_seed,
        shares=shares,
        split_file=split_file,
    )


def load_nifti(
    root: Path | str,
    *,
    images: Sequence[str],
    label: str,
    classes: ClassValues,
    name: str = "nifti",
    channels: Sequence[str] | None = None,
    label_values: Sequence[int] | None = None,
    modality: str = "MR",
    spatial_dims: int = 3,
    slice_axis: int = 2,
    size: Sequence[int] | None = None,
    window: Sequence[int] | None = None,
    intensity: Intensity | None = None,
    ct_window_hu: Sequence[float] = SOFT_TISSUE_HU,
    nan_policy: NanPolicy = "error",
    max_voxels: int = DEFAULT_MAX_VOXELS,
    orientation: Orientation = "ras",
    axes: Axes = "zyx",
    spacing_mm: Sequence[float] | None = None,
    patient_pattern: str | None = None,
    split_seed: int = 0,
    shares: Sequence[float] = SHARES,
    split_file: Path | str | None = None,
) -> Task:
    """Load cases of NIfTI files: a folder for each, or folders of images and of labels.

    Args:
        root: folder with case folders at any depth, or one case folder; or the folder that the
            patterns are relative to.
        images: one pattern per channel, such as ``"*_flair.nii.gz"``; each matches exactly one
            file of a case folder. A single file may contain all channels, on its last axis. If a
            pattern contains a folder, as ``"images/*.nii.gz"``, its ``*`` is the name of the case.
        label: pattern of the label file, likewise.
        classes: label value or values of each class, by class name.
        name: name of the data, in tables and checkpoints.
        channels: names of the channels; by default the patterns without wildcards and endings.
        label_values: all values allowed in a label file; ``None`` for any. Values that belong to
            no class become background.
        modality: ``"CT"`` for a CT window; any other value for a z-score.
        spatial_dims, slice_axis, size, window, orientation, axes, spacing_mm: as in ``load_msd``.
        intensity, ct_window_hu, nan_policy, max_voxels: as in ``load_msd``.
        patient_pattern: as in ``load_msd``. Cases have the names of their folders; if any two are
            equal, all have their paths below ``root``.
        split_seed, shares, split_file: see :class:`analogmed.data.splits.SplitSettings`.

    Returns:
        A task with spacing in mm.

    Raises:
        ConfigError: a setting is invalid.
        DataError: no folder contains a case, or a pattern matches none or several of its files.
    """
    root = require_folder(root).absolute()
    allowed = some_values("label_values", label_values)
    class_values = values_of_classes(classes, allowed)
    images, label = some_texts("images", images), one_text("label", label)
    named = None if channels is None else some_texts("channels", channels)
    names = tuple(map(_channel_name, images)) if named is None else named
    if len(images) > 1 and len(names) != len(images):
        raise ConfigError(
            f"channels: expected one name for each pattern of images, got {len(names)} names for "
            f"{len(images)} patterns"
        )
    reader = VolumeReader(
        channels=names,
        class_values=tuple(class_values.values()),
        allowed_values=allowed,
        intensities=(intensity or intensity_of(one_text("modality", modality)),) * len(names),
        spatial_dims=spatial_dims,
        slice_axis=slice_axis,
        size=checked_size(size, spatial_dims),
        ct_window_hu=ct_window_of(ct_window_hu),
        nan_policy=nan_policy,
        max_voxels=max_voxels,
        orientation=orientation,
        axes=axes,
        spacing_mm=checked_spacing(spacing_mm),
    )
    train, validation, test = split_cases(
        list_cases(root, images, label, patient_pattern),
        SplitSettings(split_seed, checked_shares(shares), split_file),
    )
    return Task(
        name=name,
        root=root,
        spatial_dims=spatial_dims,
        channels=names,
        classes=tuple(class_values),
        window=default_window(window or size, spatial_dims),
        spacing_unit="mm",
        train=train,
        validation=validation,
        test=test,
        read=reader,
        axes=reader.axis_names,
        is_oriented=reader.orientation == "ras",
    )


def _channel_name(pattern: str) -> str:
    folder, _, name = pattern.rpartition("/")
    return name.split(".nii")[0].strip("*_-") or folder or pattern
