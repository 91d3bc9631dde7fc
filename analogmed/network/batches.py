"""Images and labels of a batch, in the forms in which loaders of torch and MONAI yield them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from analogmed.foundation.errors import ConfigError


def images_of(batch: Any, *, key: str = "image") -> Tensor:
    """Return the images of a batch.

    Args:
        batch: images; a tuple or list that starts with them; or a mapping, as of MONAI's dictionary
            transforms. NumPy arrays become tensors.
        key: key of the images in a mapping.

    Returns:
        The images as a plain tensor, on the device and in the type of the batch.

    Raises:
        ConfigError: the batch has another form; states the expected ones.
    """
    return _tensor_of(_entry(batch, key, 0), key)


def labels_of(batch: Any, *, key: str = "label") -> Tensor:
    """Return the labels of a batch: the second entry of a tuple, or ``key`` of a mapping.

    Raises:
        ConfigError: the batch has no labels, or another form.
    """
    if isinstance(batch, Tensor | np.ndarray):
        raise ConfigError(
            "batch: expected images with labels, as a tuple (images, labels) or a mapping with "
            f"'{key}', got images only"
        )
    return _tensor_of(_entry(batch, key, 1), key)


def _entry(batch: Any, key: str, place: int) -> Any:
    if isinstance(batch, Mapping):
        if key not in batch:
            known = ", ".join(f"'{name}'" for name in batch)
            raise ConfigError(
                f"batch: it has no entry '{key}', but {known or 'none'}. Give the names of its "
                "entries: key= of calibrate, keys= of robustness"
            )
        return batch[key]
    if isinstance(batch, tuple | list):
        if len(batch) <= place:
            raise ConfigError(
                f"batch: expected at least {place + 1} entries (images, labels), got {len(batch)}"
            )
        return batch[place]
    return batch


def _tensor_of(values: Any, what: str) -> Tensor:
    if isinstance(values, np.ndarray):
        return torch.from_numpy(values)
    if isinstance(values, Tensor):
        return values.as_subclass(Tensor)  # MONAI's MetaTensor carries metadata through each layer
    raise ConfigError(
        f"batch: expected '{what}' as a tensor of shape (B, C, *spatial), got "
        f"{type(values).__name__}; a loader yields tensors, tuples (images, labels) or mappings"
    )
