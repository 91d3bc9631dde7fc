"""Base of layers whose values follow from the training images."""

from collections.abc import Iterable

import numpy as np
from torch import nn


class FittedToImages(nn.Module):
    """Layer that is fitted to the training images before the first step of a training.

    What it learns are buffers, which checkpoints store. A training with ``init`` keeps them.
    """

    def fit_to(self, images: Iterable[np.ndarray], seed: int) -> None:
        """Set the buffers.

        Args:
            images: all training images without augmentation, float32, shape (C, *window) each.
            seed: seed of all random draws, 0 or more.
        """
        raise NotImplementedError
