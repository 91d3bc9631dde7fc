"""Random changes of training patches: MONAI's, drawn from a seed for each patch."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from monai.data import get_track_meta, set_track_meta
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandFlipd,
    RandGaussianNoised,
    Randomizable,
    RandScaleIntensityd,
    RandShiftIntensityd,
)
from torch import Tensor

_KEYS = ("image", "label")
_LARGEST_ANGLE = np.deg2rad(15)


class Augmentation:
    """Flips, small rotations and zooms, and changes of intensity, contrast and noise.

    Volumes are rotated in the plane of their last two axes, across which voxels are alike; what
    comes in from outside mirrors the inside. Intensities are meant to have a range of about 1, as
    z-scores and windows have.

    Args:
        spatial_dims: 2 or 3.
    """

    def __init__(self, spatial_dims: int) -> None:
        self._transform = _transform(spatial_dims)
        # To seed each transform by itself would take longer than to apply it.
        self._state = np.random.RandomState()
        for transform in self._transform.transforms:
            if isinstance(transform, Randomizable):
                transform.set_random_state(state=self._state)

    def __call__(self, image: Tensor, label: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Change a patch and its label alike.

        Args:
            image: shape (C, *window).
            label: class indices, shape (1, *window).
            seed: all that the change depends on, besides the patch.
        """
        self._state.seed(seed % 2**32)
        with _plain_tensors():
            changed = self._transform({"image": image, "label": label})
        return changed["image"], changed["label"]


def _transform(spatial_dims: int) -> Compose:
    flips = [RandFlipd(_KEYS, prob=0.5, spatial_axis=axis) for axis in range(spatial_dims)]
    return Compose(
        [
            *flips,
            RandAffined(
                _KEYS,
                prob=0.3,
                rotate_range=_LARGEST_ANGLE,  # of volumes about their first axis
                scale_range=[0.1] * spatial_dims,
                mode=("bilinear", "nearest"),
                padding_mode="reflection",
            ),
            RandScaleIntensityd("image", factors=0.1, prob=0.5),
            RandShiftIntensityd("image", offsets=0.1, prob=0.5),
            RandAdjustContrastd("image", gamma=(0.7, 1.5), prob=0.2),
            RandGaussianNoised("image", prob=0.2, std=0.05),
        ]
    )


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """Let MONAI carry no history of its operations, which takes three quarters of the time."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)
