"""Random augmentation of training patches with MONAI, drawn from a seed for each patch."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from torch import Tensor

_IMAGE, _MASK = "image", "label"
_LARGEST_ANGLE = np.deg2rad(20)


class Augmentation:
    """Flips, rotations and zooms, and changes of intensity, contrast and noise.

    Contrast is changed about the minimum and range of all channels together. Signals over time (1D)
    are only scaled, shifted and disturbed by noise: their direction, duration and form have a
    meaning. Channels of signals that are 0 throughout are missing ones, and stay 0.

    Volumes are rotated in the plane of their slices, in which voxels are alike; positions outside
    the patch are filled by reflection. Intensities should have a range of about 1, as
    z-scores and windows have.

    Args:
        spatial_dims: 1, 2 or 3.
        through_slices: spatial axis of a volume that runs through its slices.
        masks: whether labels are masks, which move with the image. Without masks, images are
            flipped only along their last axis.
    """

    def __init__(self, spatial_dims: int, through_slices: int = 0, *, masks: bool = True) -> None:
        # Composed by hand with one state: the overhead and seeding of Compose would take longer
        # than most of the transforms.
        self._transforms = _transforms(spatial_dims, through_slices, masks=masks)
        self._keeps_missing = spatial_dims == 1
        self._state = np.random.RandomState()
        for transform in self._transforms:
            transform.set_random_state(state=self._state)

    def __call__(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Transform a patch and its label in the same way.

        Args:
            image: patch, shape (C, *window).
            label: target: class indices, shape (1, *window), or that of the whole image.
            seed: seed that determines the change.
        """
        self._state.seed(seed % 2**32)
        patch: dict[Hashable, Any] = {"image": image, "label": label}
        with _plain_tensors():
            for transform in self._transforms:
                patch = dict(transform(patch))
        if self._keeps_missing:
            patch["image"] = patch["image"] * image.any(dim=1, keepdim=True)
        return patch["image"], patch["label"].to(label.dtype)


def _transforms(
    spatial_dims: int, through_slices: int, *, masks: bool
) -> list[RandomizableTransform]:
    scale = RandScaleIntensityd("image", factors=0.25, prob=0.5, channel_wise=True)
    shift = RandShiftIntensityd("image", offsets=0.25, prob=0.5, channel_wise=True)
    noise = RandGaussianNoised("image", prob=0.2, std=0.05)
    if spatial_dims == 1:
        return [scale, shift, noise]
    keys = (_IMAGE, _MASK) if masks else (_IMAGE,)
    # A number is the angle about the first axis, and takes one random number instead of three.
    angles = [0.0] * through_slices + [_LARGEST_ANGLE] if through_slices else _LARGEST_ANGLE
    axes = range(0 if masks else spatial_dims - 1, spatial_dims)
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in axes]
    return [
        *flips,
        RandAffined(
            keys,
            prob=0.5,
            rotate_range=angles,
            scale_range=[0.2] * spatial_dims,
            mode=("bilinear", "nearest")[: len(keys)],
            padding_mode="reflection",
        ),
        scale,
        shift,
        RandAdjustContrastd("image", gamma=(0.7, 1.5), prob=0.2),
        noise,
    ]


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Disable MONAI's metadata tracking, which takes three quarters of the time."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
