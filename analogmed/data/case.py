"""The unit of a task: a case on disk, and the sample that a loader reads from it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Case:
    """One labelled image, slice stack or volume on disk.

    Attributes:
        case_id: unique within its task.
        patient_id: cases of one patient never stand in two splits.
        images: image files in the order that the loader wants (channels, or slices of a stack).
        labels: label files in the same sense; empty for an unlabelled case.
    """

    case_id: str
    patient_id: str
    images: tuple[Path, ...]
    labels: tuple[Path, ...]


@dataclass(frozen=True)
class Sample:
    """What a network sees of a case, and what it is compared with.

    Attributes:
        image: float32, shape (N, C, *spatial): N slices of a 2D task, N = 1 for a 3D one.
        label: uint8 class indices, shape (N, *spatial); 0 is background.
        spacing: voxel size along the axes of the label, in ``Task.spacing_unit``. Two values for
            separate 2D images; three where the N slices, or the volume, form one 3D grid.
        case: where it was read from.
    """

    image: np.ndarray
    label: np.ndarray
    spacing: tuple[float, ...]
    case: Case


@dataclass(frozen=True)
class Task:
    """A data set with its labels, its split and its metric settings.

    Attributes:
        name: name in the results table.
        root: folder that the cases lie in.
        spatial_dims: 2 or 3, dimensions that a network convolves over.
        channels: names of the input channels.
        classes: names of the foreground classes; class index 1 is ``classes[0]``.
        window: spatial size at which a network is applied; larger images are slid over,
            smaller ones are padded and cropped back.
        spacing_unit: ``"mm"``, or ``"px"`` where the files carry no voxel size.
        train, validation, test: the split; no patient stands in two of them.
        read: reads, checks and normalises one case.
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

    @property
    def in_channels(self) -> int:
        """Channels of the image."""
        return len(self.channels)

    @property
    def out_channels(self) -> int:
        """Logits of a network: 1 (sigmoid) for one class, else background and classes (softmax)."""
        return 1 if len(self.classes) == 1 else len(self.classes) + 1
