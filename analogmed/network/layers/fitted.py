"""Layers whose values follow from the training images."""

from collections.abc import Iterable

import numpy as np
from torch import nn

from analogmed.foundation.seeds import derive_seed


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


def fit_to_images(model: nn.Module, images: Iterable[np.ndarray], seed: int) -> None:
    """Fit such a layer of a network; a network has one at most.

    Args:
        model: network, which is changed.
        images: training images, which are read only if there is such a layer.
        seed: root seed.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, FittedToImages):
            layer.fit_to(images, derive_seed(seed, "fit", name))
