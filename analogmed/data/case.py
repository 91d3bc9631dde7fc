"""Cases on disk, loaded samples, and tasks."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analogmed.foundation.text import Rendered, shortened
from analogmed.kinds.kind import Kind
from analogmed.kinds.segmentation import SEGMENTATION
from analogmed.metrics.registry import spelled_metric


@dataclass(frozen=True, repr=False)
class Case(Rendered):
    """One labelled image, slice stack or volume on disk.

    Attributes:
        case_id: identifier, unique within its task.
        patient_id: identifier of the patient, whose cases are all in the same split.
        images: image files in the order that the loader expects (channels, or slices of a stack).
        labels: label files in the corresponding order; empty for an unlabelled case, and for one
            whose labels are in its image file.
        digest: hash of the image, for a case that shares its file with others; empty otherwise.
    """

    case_id: str
    patient_id: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]
    digest: str = ""

    def facts(self) -> dict[str, object]:
        """Return case, patient, and the number of files."""
        return {
            "case": self.case_id,
            "patient": self.patient_id,
            "image files": len(self.images),
            "label files": len(self.labels),
        }


@dataclass(frozen=True, repr=False)
class Sample(Rendered):
    """Input and reference of one case.

    Attributes:
        image: float32, shape (N, C, *spatial): N slices of a 2D task, N windows of a 1D task, N = 1
            for a 3D task.
        label: reference of the kind of the task; for segmentation uint8 class indices, shape
            (N, *spatial), with 0 for the background.
        spacing: voxel size along the axes of a mask, in ``Task.spacing_unit``. Two values for
            separate 2D images; three if the N slices, or the volume, form one 3D grid.
        case: source of the sample.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...]
    case: Case

    def facts(self) -> dict[str, object]:
        """Return case, shapes and voxel size."""
        return {
            "case": self.case.case_id,
            "image": f"{self.image.shape} {self.image.dtype}",
            "label": f"{self.label.shape} {self.label.dtype}",
            "spacing": self.spacing,
        }


@dataclass(frozen=True)
class Strip:
    """Signal of a case, with the place of each of its images, such as heartbeats.

    Attributes:
        signal: signal as networks get it, float32, shape (channels, samples).
        rate: samples per second.
        places: number of the sample of each image, in the order of the images of the case.
    """

    signal: np.ndarray
    rate: float
    places: np.ndarray


@dataclass(frozen=True, repr=False)
class Task(Rendered):
    """A data set with its labels, split and metric settings.

    Attributes:
        name: name in the results table.
        root: folder that contains the cases.
        spatial_dims: 1 (signals over time), 2 or 3, the dimensions of the convolutions.
        channels: names of the input channels.
        classes: names of the foreground classes; class index 1 is ``classes[0]``.
        window: spatial input size of a network. Larger images use sliding windows; smaller ones are
            padded and their predictions cropped.
        spacing_unit: ``"mm"``, or ``"px"`` if the files contain no voxel size.
        train: cases of the training split; no patient appears in more than one split.
        validation: cases of the validation split.
        test: cases of the test split.
        read: function that reads, checks and normalises one case.
        primary_metric: name of the metric by which networks are trained, compared and summarised;
            by default that of the kind.
        axes: order of the spatial axes of a volume or stack of slices, letters of x (to the right),
            y (anterior) and z (superior), or the axes of the files; empty for separate images.
        is_oriented: whether these axes are directions in the body, not those of the files.
        kind: what a network predicts.
        rate: samples per second of signals; 0 for images.
        apart: those of the classes that are scored on their own, and are in no mean over classes.
        strip: function that reads the signal of which the images of a case are windows; ``None`` if
            they are no windows of one signal.
    """

    name: str
    root: Path
    spatial_dims: int
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    window: tuple[int, ...]
    spacing_unit: str
    train: tuple[Case, ...]
    validation: tuple[Case, ...]
    test: tuple[Case, ...]
    read: Callable[[Case], Sample]
    primary_metric: str = ""
    axes: str = ""
    is_oriented: bool = True
    kind: Kind = SEGMENTATION
    apart: tuple[str, ...] = ()
    strip: Callable[[Case], Strip] | None = None
    rate: int = 0

    def __post_init__(self) -> None:
        primary = spelled_metric(self.primary_metric) or self.kind.primary_metric
        object.__setattr__(self, "primary_metric", primary)

    @property
    def through_slices(self) -> int:
        """Spatial axis of a volume that runs through its slices: the last one in (X, Y, Z)."""
        return 2 if self.spatial_dims == 3 and self.axes.endswith("z") else 0

    def facts(self) -> dict[str, object]:
        """Return name, channels, classes, window, and the patients of each split."""
        splits = {"training": self.train, "validation": self.validation, "test": self.test}
        patients = {name: len({case.patient_id for case in part}) for name, part in splits.items()}
        return {
            "name": self.name,
            "dimensions": self.spatial_dims,
            "channels": shortened(self.channels),
            "classes": shortened(self.classes),
            "window": self.window,
            "patients": ", ".join(f"{count} {name}" for name, count in patients.items()),
        }

    @property
    def in_channels(self) -> int:
        """Number of channels of the image."""
        return len(self.channels)

    @property
    def out_channels(self) -> int:
        """Number of logits."""
        return self.kind.n_logits(len(self.classes))
