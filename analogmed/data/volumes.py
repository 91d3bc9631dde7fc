"""Conversion of the NIfTI files of a case to a sample, for 3D networks and for slices."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from analogmed.data.case import Case, Sample
from analogmed.data.normalise import (
    check_ct_window,
    checked_size,
    ct_window,
    foreground_mask,
    resize_image,
    resize_label,
    resized_spacing,
    z_score,
)
from analogmed.data.readers.nifti import DEFAULT_MAX_VOXELS, NanPolicy, Volume, read_nifti
from analogmed.data.readers.orientation import Orientation, axis_codes, to_ras
from analogmed.data.samples import (
    MAX_CLASSES,
    check_same_shape,
    class_indices,
    label_values,
    naming_case,
)
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.settings.checks import require_choice
from analogmed.foundation.settings.forms import checks_arguments

Axes = Literal["zyx", "xyz"]
Intensity = Literal["ct", "z_score", "z_score_foreground", "z_score_nonzero", "none"]

SOFT_TISSUE_HU = (-150.0, 250.0)
_MAX_SHIFT_VOXELS = 0.1


@checks_arguments
@dataclass(frozen=True)
class VolumeReader:
    """Reader that loads, checks and normalises the volumes of one case.

    Axes are permuted and flipped to the closest RAS directions (X to the right, Y anterior, Z
    superior), without resampling. Then ``axes`` determines their order in arrays.

    Attributes:
        channels: names of the channels that the image files must contain together.
        class_values: label values of each foreground class.
        allowed_values: all values allowed in a label file; ``None`` for any.
        intensities: normalisation per channel: ``"ct"`` (window to [0, 1]), ``"z_score"``,
            ``"z_score_foreground"`` (statistics and result only in the foreground, see
            :func:`analogmed.data.normalise.foreground_mask`), ``"z_score_nonzero"`` (only in
            voxels that are not 0; zeros inside tissue are excluded too), or ``"none"``.
        spatial_dims: 3 for one volume, 2 for its slices.
        slice_axis: axis perpendicular to the slices: 0 sagittal, 1 coronal, 2 axial;
            with orientation ``"file"``, the axis of the file.
        size: spatial size to resample to, (D, H, W) or (H, W); ``None`` keeps the voxels.
        ct_window_hu: window of ``"ct"`` channels.
        nan_policy, max_voxels: as in :func:`analogmed.data.readers.nifti.read_nifti`.
        orientation: ``"ras"``, or ``"file"`` to keep the axes of each file.
        axes: order of the spatial axes in arrays: ``"zyx"`` puts the slice axis first, then the
            other two in reverse order; ``"xyz"`` keeps the order of the file in 3D, as MONAI does,
            and puts slices in the order (N, X, Y).
        spacing_mm: voxel size along the spatial axes of a sample, before ``size``, which replaces
            that of the files; ``None`` uses that of the files.
        classes_from: where the label values of the classes are set, for messages.
    """

    channels: tuple[str, ...]
    class_values: tuple[tuple[int, ...], ...]
    allowed_values: tuple[int, ...] | None
    intensities: tuple[Intensity, ...]
    spatial_dims: int = 3
    slice_axis: int = 2
    size: tuple[int, ...] | None = None
    ct_window_hu: tuple[float, float] = SOFT_TISSUE_HU
    nan_policy: NanPolicy = "error"
    max_voxels: int = DEFAULT_MAX_VOXELS
    orientation: Orientation = "ras"
    axes: Axes = "zyx"
    spacing_mm: tuple[float, ...] | None = None
    classes_from: str = "task.options.classes"

    def __post_init__(self) -> None:
        _check_settings(self)

    @property
    def axis_order(self) -> tuple[int, ...]:
        """Axis of the file, 0 to 2, of each spatial axis of a volume or stack of slices."""
        if self.axes == "xyz" and self.spatial_dims == 3:
            return (0, 1, 2)
        others = [axis for axis in (0, 1, 2) if axis != self.slice_axis]
        return (self.slice_axis, *(others if self.axes == "xyz" else reversed(others)))

    @property
    def axis_names(self) -> str:
        """Names of the axes of a volume or stack of slices in order, such as ``"zyx"``."""
        return "".join("xyz"[axis] for axis in self.axis_order)

    def __call__(self, case: Case) -> Sample:
        """Read one case; error messages name it.

        Raises:
            ConfigError: the number of channels in the files differs from that of the task.
            DataError: a file is missing or damaged, or image and label are inconsistent.
        """
        with naming_case(case):
            image, label, spacing_mm = self._read(case)
            return self._to_sample(image, label, spacing_mm, case)

    def stored_channels(self, case: Case) -> list[np.ndarray]:
        """Return the channels (X, Y, Z) of a case as stored, without normalisation."""
        with naming_case(case):
            return _channels([self._read_file(path) for path in case.images])

    def stored_labels(self, case: Case) -> list[int]:
        """Return the label values that the label file of a case contains, sorted."""
        with naming_case(case):
            label = read_nifti(case.labels[0], max_voxels=self.max_voxels, needs_spacing=False)
        return label_values(label.data, None, label.path)

    def _read(self, case: Case) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]]:
        """Return image (C, X, Y, Z), label (X, Y, Z) and spacing (X, Y, Z)."""
        if len(case.labels) != 1:
            raise DataError(f"{len(case.labels)} label files; expected 1")
        volumes = [self._read_file(path) for path in case.images]
        label = read_nifti(
            case.labels[0], max_voxels=self.max_voxels, needs_spacing=self.spacing_mm is None
        )
        for other in [*volumes[1:], label]:
            self._check_grids(volumes[0], other)
        if label.data.ndim != 3:
            raise DataError(f"{label.path}: label of shape {label.data.shape}; expected 3 axes")
        if self.orientation == "ras":
            affine = volumes[0].affine
            *volumes, label = (to_ras(volume, affine) for volume in (*volumes, label))
        indices = class_indices(label.data, self.class_values, self.allowed_values, label.path)
        return self._normalised(_channels(volumes)), indices, volumes[0].spacing_mm

    def _read_file(self, path: object) -> Volume:
        return read_nifti(
            str(path),
            max_voxels=self.max_voxels,
            nan_policy=self.nan_policy,
            needs_spacing=self.spacing_mm is None,
        )

    def _check_grids(self, first: Volume, second: Volume) -> None:
        """Raise DataError if two volumes differ in shape, or in the geometry that is used."""
        if self.spacing_mm is None:
            check_same_grid(first, second)
            return
        check_same_shape(first.data.shape[:3], first.path, second.data.shape[:3], second.path)
        codes = [axis_codes(volume.affine) for volume in (first, second)]
        if self.orientation == "ras" and codes[0] != codes[1]:
            raise DataError(
                f"{first.path} has the axes {codes[0]}, but {second.path} has {codes[1]}; expected "
                "the same. Correct the headers, or set task.options.orientation to file"
            )

    def _normalised(self, channels: list[np.ndarray]) -> np.ndarray:
        if len(channels) != len(self.channels):
            raise ConfigError(
                f"the image has {len(channels)} channels, but the task has "
                f"{len(self.channels)} {self.channels}"
            )
        uses_foreground = "z_score_foreground" in self.intensities
        foreground = foreground_mask(channels) if uses_foreground else None
        return np.stack(
            [
                _normalise(channel, intensity, self.ct_window_hu, foreground)
                for channel, intensity in zip(channels, self.intensities, strict=True)
            ]
        )

    def _to_sample(
        self, image: np.ndarray, label: np.ndarray, spacing_mm: tuple[float, ...], case: Case
    ) -> Sample:
        order = self.axis_order
        image = image.transpose(0, *(axis + 1 for axis in order))  # (C, D, H, W)
        label = label.transpose(order)  # (D, H, W)
        spacing = self.spacing_mm or tuple(spacing_mm[axis] for axis in order)
        if self.size is not None:
            size = (*label.shape[: 3 - len(self.size)], *self.size)
            spacing = resized_spacing(spacing, label.shape, size)
            image, label = resize_image(image, self.size), resize_label(label, self.size)
        if self.spatial_dims == 2:
            image = image.swapaxes(0, 1)  # (N, C, H, W)
        else:
            image, label = image[None], label[None]  # (1, C, D, H, W), (1, D, H, W)
        return Sample(np.ascontiguousarray(image), np.ascontiguousarray(label), spacing, case)


def check_same_grid(first: Volume, second: Volume) -> None:
    """Raise DataError if the voxels of two volumes have different positions.

    Args:
        first: first volume.
        second: second volume; channels are not compared.

    Raises:
        DataError: the shapes differ, or the positions of a corner differ by more than a tenth of a
            voxel. The message names both files.
    """
    shape = first.data.shape[:3]
    check_same_shape(shape, first.path, second.data.shape[:3], second.path)
    corners = np.array(
        [[x, y, z, 1] for x in (0, shape[0]) for y in (0, shape[1]) for z in (0, shape[2])]
    )
    shifts_mm = np.linalg.norm(corners @ (first.affine - second.affine).T, axis=1)
    if shifts_mm.max() > _MAX_SHIFT_VOXELS * min(first.spacing_mm):
        raise DataError(
            f"{first.path} has the affine {first.affine.tolist()}, but {second.path} has "
            f"{second.affine.tolist()}: corners lie up to {shifts_mm.max():.3g} mm apart"
        )


def intensity_of(modality: str) -> Intensity:
    """Return the normalisation for a modality: a window for CT, a z-score for all others."""
    return "ct" if modality.strip().upper() == "CT" else "z_score_foreground"


def default_window(
    size: Sequence[int] | None,
    spatial_dims: int,
    window_3d: tuple[int, int, int] = (96, 96, 96),
    window_2d: tuple[int, int] = (256, 256),
) -> tuple[int, ...]:
    """Return the window of a volume task: the requested size, or a default per dimension.

    Raises:
        ConfigError: the size has another number of dimensions.
    """
    fallback = window_3d if spatial_dims == 3 else window_2d
    return checked_size(size, spatial_dims, "window") or fallback


def ct_window_of(window_hu: Sequence[float]) -> tuple[float, float]:
    """Return a CT window as a pair.

    Raises:
        ConfigError: the window is not two numbers.
    """
    pair = tuple(window_hu) if isinstance(window_hu, list | tuple) else ()
    if len(pair) != 2 or not all(isinstance(bound, int | float) for bound in pair):
        raise ConfigError(f"ct_window_hu must be two numbers (low, high), not {window_hu!r}")
    return float(pair[0]), float(pair[1])


def checked_spacing(spacing_mm: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return a voxel size as a tuple, or ``None`` if it is ``None``.

    Raises:
        ConfigError: the voxel size is not three positive, finite numbers.
    """
    if spacing_mm is None:
        return None
    sizes = tuple(spacing_mm) if isinstance(spacing_mm, list | tuple) else ()
    if len(sizes) != 3 or not all(_is_positive(size) for size in sizes):
        raise ConfigError(
            f"spacing_mm: expected three voxel sizes above 0 in mm, in the order of axes, got "
            f"{spacing_mm!r}"
        )
    return tuple(map(float, sizes))


def _is_positive(value: object) -> bool:
    return isinstance(value, int | float) and value is not True and 0 < value < math.inf


def _check_settings(reader: VolumeReader) -> None:
    if reader.spatial_dims not in (2, 3):
        raise ConfigError(f"spatial_dims must be 2 or 3, not {reader.spatial_dims!r}")
    if reader.slice_axis not in (0, 1, 2):
        raise ConfigError(f"slice_axis must be 0, 1 or 2, not {reader.slice_axis!r}")
    if reader.axes == "xyz" and reader.spatial_dims == 3 and reader.slice_axis != 2:
        raise ConfigError(
            f"slice_axis: expected no value, because axes xyz has no slices in 3D, got "
            f"{reader.slice_axis}"
        )
    checked_size(reader.size, reader.spatial_dims)
    check_ct_window(*reader.ct_window_hu)
    for intensity in reader.intensities:
        require_choice("intensity", intensity, get_args(Intensity))
    if len(reader.class_values) > MAX_CLASSES:
        raise ConfigError(
            f"classes: expected at most {MAX_CLASSES}, got {len(reader.class_values)}; "
            "choose some, or merge them"
        )
    if len(reader.intensities) != len(reader.channels):
        raise ConfigError(
            f"{len(reader.intensities)} intensities for {len(reader.channels)} channels"
        )


def _channels(volumes: Sequence[Volume]) -> list[np.ndarray]:
    """Return all channels (X, Y, Z) of the files, in order."""
    channels: list[np.ndarray] = []
    for volume in volumes:
        data = volume.data if volume.data.ndim == 4 else volume.data[..., None]
        channels.extend(np.moveaxis(data, -1, 0))
    return channels


def _normalise(
    channel: np.ndarray,
    intensity: Intensity,
    window_hu: tuple[float, float],
    foreground: np.ndarray | None,
) -> np.ndarray:
    if intensity == "ct":
        return ct_window(channel, *window_hu)
    if intensity == "none":
        return channel.astype(np.float32)
    if intensity == "z_score_foreground":
        return z_score(channel, foreground)
    return z_score(channel, channel != 0 if intensity == "z_score_nonzero" else None)
