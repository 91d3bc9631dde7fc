"""Training patches: drawn from cached samples, balanced, padded, augmented."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSpatialCropd,
    SpatialPadd,
    Transform,
)
from torch import Tensor

from analogmed.data import Case, Task
from analogmed.seeds import derive_seed

_KEYS = ("image", "label")


class PatchSampler:
    """Draws training batches of a task.

    Half of the patches hold a foreground voxel, if there is any; the others lie anywhere, so that
    rare structures are seen and empty images too.

    Args:
        task: gives the reader and the window, which is the patch size.
        cases: training cases; their samples are kept in memory.
        batch_size: patches in a batch.
        seed: seed of everything that is drawn.
    """

    def __init__(self, task: Task, cases: tuple[Case, ...], *, batch_size: int, seed: int) -> None:
        self._batch_size = batch_size
        self._seed = seed
        self._images: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        for case in cases:
            sample = task.read(case)
            self._images.extend(sample.image)
            self._labels.extend(sample.label)
        self._with_foreground = [i for i, label in enumerate(self._labels) if label.any()]
        self._anywhere = _augmentation(RandSpatialCropd(_KEYS, task.window), task.window)
        self._centred = _augmentation(
            RandCropByPosNegLabeld(_KEYS, "label", task.window, pos=1, neg=0), task.window
        )

    def __len__(self) -> int:
        """Batches in an epoch: as many patches as there are slices or volumes."""
        return max(1, len(self._images) // self._batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of one epoch: images (B, C, *window) and class indices (B, 1, *window)."""
        generator = np.random.default_rng(derive_seed(self._seed, "epoch", number))
        for transform in (self._anywhere, self._centred):
            transform.set_random_state(seed=int(generator.integers(2**31)))
        for _ in range(len(self)):
            with _plain_tensors():
                patches = [self._patch(generator) for _ in range(self._batch_size)]
            yield (
                torch.stack([torch.as_tensor(patch["image"]) for patch in patches]).float(),
                torch.stack([torch.as_tensor(patch["label"]) for patch in patches]).long(),
            )

    def _patch(self, generator: np.random.Generator) -> dict[str, Tensor]:
        centred = bool(self._with_foreground) and generator.random() < 0.5
        pool = self._with_foreground if centred else range(len(self._images))
        index = pool[int(generator.integers(len(pool)))]
        transform = self._centred if centred else self._anywhere
        found = transform({"image": self._images[index], "label": self._labels[index][None]})
        return found[0] if isinstance(found, list) else found


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Let MONAI carry no history of its operations, which takes three quarters of the time."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def _augmentation(crop: Transform, window: tuple[int, ...]) -> Compose:
    flips = [RandFlipd(_KEYS, prob=0.5, spatial_axis=axis) for axis in range(len(window))]
    return Compose(
        [
            SpatialPadd(_KEYS, window),
            crop,
            *flips,
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
            RandShiftIntensityd("image", offsets=0.1, prob=0.5),
            RandGaussianNoised("image", prob=0.2, std=0.05),
        ]
    )
