"""Tasks of the Medical Segmentation Decathlon, and data sets with the same layout."""

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from analogmed.data.case import Case, Task
from analogmed.data.datasets.listing import (
    Fault,
    Layout,
    Listing,
    refuse,
    report_error,
)
from analogmed.data.datasets.msd_tasks import MsdTask, known_msd_task
from analogmed.data.normalise import checked_size
from analogmed.data.readers.files import is_hidden, natural_order
from analogmed.data.readers.nifti import DEFAULT_MAX_VOXELS, NanPolicy
from analogmed.data.readers.orientation import Orientation
from analogmed.data.splits import SHARES, SplitSettings, checked_shares, split_cases
from analogmed.data.volumes import (
    Axes,
    Intensity,
    VolumeReader,
    checked_spacing,
    ct_window_of,
    default_window,
    intensity_of,
)
from analogmed.foundation.errors import ConfigError, DataError, SecurityError
from analogmed.foundation.files import read_head, require_folder
from analogmed.foundation.strict_yaml import MAX_JSON_BYTES, parse_json, read_text
from analogmed.foundation.text import known_name, nearest

_REQUIRED_KEYS = ("name", "modality", "labels", "numTraining", "training")
_ENDINGS = (".nii.gz", ".nii")


@dataclass(frozen=True)
class MsdDescription:
    """Description of a task, from its ``dataset.json``.

    Attributes:
        name: name of the data set.
        modalities: modality of each channel, in order.
        labels: names by label value, background (0) included.
        training: image and label file of each case, in the order of the case names.
    """

    name: str
    modalities: tuple[str, ...]
    labels: dict[int, str]
    training: tuple[tuple[Path, Path], ...]


def load_msd(
    root: Path | str,
    *,
    name: str | None = None,
    labels: Sequence[str] | None = None,
    spatial_dims: int = 3,
    slice_axis: int = 2,
    size: Sequence[int] | None = None,
    window: Sequence[int] | None = None,
    intensity: Intensity | None = None,
    ct_window_hu: Sequence[float] | None = None,
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
    """Load the labelled cases of a Decathlon task.

    Args:
        root: task folder, with ``dataset.json``, ``imagesTr`` and ``labelsTr``.
        name: name of the task; by default the short name of an official task
            (``"spleen"``), or the folder's name.
        labels: names of the classes to keep, in this order; the others become background.
            All classes by default.
        spatial_dims: 3 for volumes; 2 for their slices.
        slice_axis: axis perpendicular to the slices (0 sagittal, 1 coronal, 2 axial), which comes
            first in a sample. With orientation ``"file"``, the axis of the files.
        size: (D, H, W), or (H, W) for slices, to resample to; ``None`` keeps the voxels.
        window: spatial size of the network input; by default ``size``, or a default for the task.
        intensity: normalisation of every channel; by default ``"ct"`` (a window) for CT and
            ``"z_score_foreground"`` for all else. Networks trained with the former default need
            ``"z_score_nonzero"``.
        ct_window_hu: (low, high) of the CT window; by default soft tissue, or lung for Task06.
        nan_policy, max_voxels: as in :func:`analogmed.data.readers.nifti.read_nifti`.
        orientation: ``"ras"`` permutes and flips the axes of every file to the closest RAS
            directions; ``"file"`` keeps them, for networks trained on another axis order.
        axes: order of the spatial axes in arrays, ``size``, ``window`` and ``spacing_mm``:
            ``"zyx"`` (Z, Y, X), or ``"xyz"`` (X, Y, Z) as in MONAI. Slices are (Y, X) or (X, Y).
        spacing_mm: voxel size in mm in the order of ``axes``, of slices the distance between them
            first; replaces that of the files, whose affines are then used for orientation only.
        patient_pattern: regular expression whose first group is the patient in a case's name,
            for sets with several scans of one; by default each case is a separate patient.
        split_seed, shares, split_file: see :class:`analogmed.data.splits.SplitSettings`.

    Returns:
        A task with spacing in mm.

    Raises:
        ConfigError: a setting is invalid, or a class in ``labels`` is unknown.
        DataError: ``dataset.json`` is damaged or incomplete, or images and labels do not match.
        SecurityError: ``dataset.json`` names a file outside the folder.
    """
    root = require_folder(root).absolute()
    known = known_msd_task(root.name)
    description = read_description(root)
    classes = _chosen_classes(description, labels, root)
    default = known or MsdTask(root.name, root.name, (), ())
    reader = VolumeReader(
        channels=description.modalities,
        class_values=tuple((value,) for value in classes.values()),
        allowed_values=tuple(description.labels),
        intensities=tuple(intensity or intensity_of(m) for m in description.modalities),
        spatial_dims=spatial_dims,
        slice_axis=slice_axis,
        size=checked_size(size, spatial_dims),
        ct_window_hu=default.ct_window_hu if ct_window_hu is None else ct_window_of(ct_window_hu),
        nan_policy=nan_policy,
        max_voxels=max_voxels,
        orientation=orientation,
        axes=axes,
        spacing_mm=checked_spacing(spacing_mm),
        classes_from="labels in dataset.json, or task.options.labels",
    )
    cases = [_case_of(image, label, patient_pattern) for image, label in description.training]
    if not cases:
        raise DataError(f"{root}: 0 images in imagesTr with a label in labelsTr; download it again")
    train, validation, test = split_cases(
        cases, SplitSettings(split_seed, checked_shares(shares), split_file)
    )
    return Task(
        name=name or default.short_name,
        root=root,
        spatial_dims=spatial_dims,
        channels=description.modalities,
        classes=tuple(classes),
        window=default_window(window or size, spatial_dims, default.window_3d, default.window_2d),
        spacing_unit="mm",
        train=train,
        validation=validation,
        test=test,
        read=reader,
        axes=reader.axis_names,
        is_oriented=reader.orientation == "ras",
    )


def read_description(root: Path, fault: Fault = refuse) -> MsdDescription:
    """Read ``dataset.json``, or return the description of an official task if it is missing.

    Args:
        root: task folder.
        fault: receives each file of an official task without its partner; by default it raises
            DataError.

    Returns:
        Channels, labels and training files.

    Raises:
        DataError: the file is not JSON, lacks keys or is inconsistent; or it is missing and
            the folder does not have the name of an official task.
        SecurityError: a file name is absolute or refers to a location outside the folder.
    """
    path = root / "dataset.json"
    if path.exists():
        return _parse_description(path)
    known = known_msd_task(root.name)
    if known is None:
        raise DataError(
            f"{path}: missing; it names channels, labels and cases. Without it, the folder must "
            "be named like an official task (Task01_BrainTumour to Task10_Colon)"
        )
    warnings.warn(
        f"{path}: missing; channels and labels are those of the official {known.folder}",
        stacklevel=3,
    )
    labels = {0: "background"} | dict(enumerate(known.classes, start=1))
    return MsdDescription(known.folder, known.modalities, labels, _pairs_on_disk(root, fault))


def case_name(image: Path) -> str:
    """Return the name of a case: its image file without ``.nii.gz`` or ``.nii``."""
    for ending in _ENDINGS:
        if image.name.endswith(ending):
            return image.name.removesuffix(ending)
    return image.stem


def patient_of(case_id: str, pattern: str | None) -> str:
    """Return the patient of a case: the first group of the pattern, or the case without a pattern.

    Raises:
        ConfigError: the pattern is not a regular expression, has no group, or does not match.
    """
    if pattern is None:
        return case_id
    try:
        match = re.search(pattern, case_id)
        patient = match[1] if match else None
    except (re.error, IndexError, TypeError) as error:
        raise ConfigError(f"patient_pattern {pattern!r}: {error}; it needs one group") from error
    if not patient:
        raise ConfigError(f"patient_pattern {pattern!r} finds no patient in {case_id!r}")
    return patient


def _chosen_classes(
    description: MsdDescription, labels: Sequence[str] | None, root: Path
) -> dict[str, int]:
    """Return label values by class name, in the order of the class indices."""
    known = {name: value for value, name in description.labels.items() if value != 0}
    if labels is None:
        return known
    if not labels or isinstance(labels, str):
        raise ConfigError(f"labels must be a list of class names, not {labels!r}")
    labels = [known_name(name, known) for name in labels]
    for name in labels:
        if name not in known:
            raise ConfigError(f"{root}: no class {name!r}; {nearest(name, known)}")
    return {name: known[name] for name in labels}


def _case_of(image: Path, label: Path, patient_pattern: str | None = None) -> Case:
    case_id = case_name(image)
    return Case(case_id, patient_of(case_id, patient_pattern), (image,), (label,))


def _pairs_on_disk(root: Path, fault: Fault) -> tuple[tuple[Path, Path], ...]:
    images, labels = (_volumes(root / folder) for folder in ("imagesTr", "labelsTr"))
    for name in sorted(images.keys() ^ labels.keys(), key=natural_order):
        what = "image without label" if name in images else "label without image"
        fault(images.get(name) or labels[name], what, "restore the other from the source")
    pairs = sorted(images.keys() & labels.keys(), key=natural_order)
    return tuple((images[name], labels[name]) for name in pairs)


def _volumes(folder: Path) -> dict[str, Path]:
    files = [path for ending in _ENDINGS for path in folder.glob(f"*{ending}")]
    return {case_name(path): path for path in files if not is_hidden(path)}


def _parse_description(path: Path) -> MsdDescription:
    read_head(path)
    text = read_text(path, MAX_JSON_BYTES, error=DataError)
    content = parse_json(text, str(path), error=DataError)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a JSON object, found {type(content).__name__}")
    missing = [key for key in _REQUIRED_KEYS if key not in content]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; a decathlon task has all of these")
    return MsdDescription(
        name=str(content["name"]),
        modalities=_modalities(content["modality"], path),
        labels=_labels(content["labels"], path),
        training=_training(content["training"], content["numTraining"], path),
    )


def _modalities(table: Any, path: Path) -> tuple[str, ...]:
    names = _by_number(table, "modality", path)
    if list(names) != list(range(len(names))):
        raise DataError(f"{path}: modality keys {list(names)}; expected 0, 1, 2, ...")
    return tuple(names.values())


def _labels(table: Any, path: Path) -> dict[int, str]:
    names = _by_number(table, "labels", path)
    if 0 not in names or len(names) < 2:
        raise DataError(f"{path}: labels {table}; expected '0' (background) and at least one class")
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: labels {table} name a class twice")
    return names


def _by_number(table: Any, key: str, path: Path) -> dict[int, str]:
    try:
        numbered = {int(number): str(name) for number, name in table.items()}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f'{path}: {key} is {table!r}; expected a table such as {{"0": "name"}}'
        ) from error
    if not numbered:
        raise DataError(f"{path}: {key} is empty")
    return dict(sorted(numbered.items()))


def _training(entries: Any, count: Any, path: Path) -> tuple[tuple[Path, Path], ...]:
    if not isinstance(entries, list):
        raise DataError(f"{path}: training is a {type(entries).__name__}; expected a list")
    pairs = [_pair_of(entry, number, path) for number, entry in enumerate(entries)]
    if len(pairs) != count:
        raise DataError(f"{path}: numTraining is {count!r}, but training lists {len(pairs)} cases")
    pairs = [pair for pair in pairs if not is_hidden(pair[0])]
    names = [case_name(image) for image, _ in pairs]
    _refuse_repeats(names, path)
    if not pairs:
        raise DataError(f"{path}: training lists no case")
    return tuple(sorted(pairs, key=lambda pair: natural_order(case_name(pair[0]))))


def _pair_of(entry: Any, number: int, path: Path) -> tuple[Path, Path]:
    if not isinstance(entry, dict):
        raise DataError(f"{path}: training entry {number} is {entry!r}; expected image and label")
    missing = [key for key in ("image", "label") if not isinstance(entry.get(key), str)]
    if missing:
        raise DataError(f"{path}: training entry {number} lacks {', '.join(missing)}")
    return _inside(entry["image"], path), _inside(entry["label"], path)


def _inside(name: str, path: Path) -> Path:
    """Return a file named in dataset.json; only names are checked, so a linked folder works."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
        raise SecurityError(f"{path}: {name!r} is absolute or leaves the folder of the data set")
    return path.parent / posix


def _refuse_repeats(names: Iterable[str], path: Path) -> None:
    seen: set[str] = set()
    repeated = sorted({name for name in names if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
    if repeated:
        raise DataError(f"{path}: training lists {', '.join(repeated)} more than once")


def _list(folder: Path, problem: Fault, warning: Fault) -> Listing:
    """List the cases of ``dataset.json``, or the pairs on disk if that file is damaged."""
    path = folder / "dataset.json"
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            description = read_description(folder, problem)
    except DataError as error:
        report_error(problem, path, error, "download the data set again")
        pairs = _pairs_on_disk(folder, problem)
        return Listing([_case_of(*pair) for pair in pairs], is_volumetric=True)
    for one in caught:
        report_error(warning, path, str(one.message))
    known = {file for pair in description.training for file in pair}
    for part in ("imagesTr", "labelsTr"):
        for file in sorted(_volumes(folder / part).values()):
            if path.exists() and file not in known:
                warning(file, "not listed in dataset.json", "add it there, or remove it")
    reader = VolumeReader(
        channels=description.modalities,
        class_values=tuple((value,) for value in description.labels if value != 0),
        allowed_values=tuple(description.labels),
        intensities=tuple(intensity_of(name) for name in description.modalities),
    )
    cases = [_case_of(*pair) for pair in description.training]
    return Listing(cases, reader, True, tuple(description.labels))


LAYOUT = Layout(
    name="Medical Segmentation Decathlon",
    files="imagesTr with dataset.json (Decathlon)",
    content="a task folder with its dataset.json",
    origin="the data come from http://medicaldecathlon.com (CC BY-SA 4.0)",
    applies=lambda folder: (folder / "dataset.json").exists() or (folder / "imagesTr").is_dir(),
    list=_list,
    folders=("Task*",),
    is_format=True,
)
