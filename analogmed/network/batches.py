"""Images and labels of a batch, in the forms in which loaders of torch and MONAI yield them."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from analogmed.foundation.errors import ConfigError
from analogmed.network.computed_weights import unwrapped

_RAW = 100.0
"""Largest absolute value from which on whole-numbered images count as not normalised."""


def checked_network(model: object) -> nn.Module:
    """Return a torch network unchanged, and raise an error for anything else.

    Raises:
        ConfigError: names what was given.
    """
    if not isinstance(model, nn.Module):
        kind = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise ConfigError(
            f"network: expected a torch network (nn.Module) as the first argument, got {kind}"
        )
    return model


def checked_keys(keys: Sequence[str]) -> tuple[str, str]:
    """Return the keys of images and labels of a mapping.

    Raises:
        ConfigError: they are not two names.
    """
    if isinstance(keys, str) or len(keys) != 2 or not all(isinstance(key, str) for key in keys):
        raise ConfigError(
            f"keys: expected two names, of the images and of the labels, got {keys!r}"
        )
    return keys[0], keys[1]


def network_batches(
    model: nn.Module, loader: Iterable[Any], *, key: str = "image"
) -> Iterator[tuple[Any, Tensor]]:
    """Yield each batch of a loader with its images, as the network takes them.

    Images are on the device and in the floating-point type of the network's weights. Warns if the
    images of the first batch are whole numbers of 100 and more, as if not normalised.

    Args:
        model: network, whose ``spatial_dims`` or convolutions define the number of axes.
        loader: iterable of batches of the forms of :func:`images_of`.
        key: key of the images where a batch is a mapping.

    Raises:
        ConfigError: the loader yields no batches, or images that are not floating-point or lack the
            batch axis.
    """
    _check_loader(loader)
    weight = next((w for w in model.parameters() if w.is_floating_point()), torch.empty(0))
    axes = _spatial_axes(model)
    for number, batch in enumerate(loader):
        images = images_of(batch, key=key)
        _check_images(images, axes)
        if number == 0:
            _warn_of_raw_values(images)
        yield batch, images.to(weight.device, weight.dtype)


def _check_loader(loader: object) -> None:
    kind = type(loader).__name__
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        raise ConfigError(
            f"loader: expected batches of images (B, C, *spatial), got a dataset ({kind}), which "
            "has single images. Wrap it: DataLoader(dataset, batch_size=4)."
        )
    if isinstance(loader, Tensor | np.ndarray):
        raise ConfigError(
            f"loader: expected an iterable of batches, got one {kind}. Put it in a list: [images] "
            "or [(images, labels)]."
        )
    if isinstance(loader, Mapping | str | nn.Module) or not isinstance(loader, Iterable):
        raise ConfigError(
            f"loader: expected an iterable of batches, such as a DataLoader or a list, got {kind}"
        )


def _spatial_axes(model: nn.Module) -> set[int]:
    """Return the number of spatial axes that a network declares, or those of its convolutions."""
    declared = getattr(unwrapped(model), "spatial_dims", None)
    if isinstance(declared, int):
        return {declared}
    kernels = (
        getattr(layer, "kernel_size", None)
        for layer in model.modules()
        if getattr(layer, "weight", None) is not None
    )
    return {len(kernel) for kernel in kernels if isinstance(kernel, tuple)}


def _check_images(images: Tensor, axes: set[int]) -> None:
    if not images.is_floating_point():
        raise ConfigError(
            f"loader: expected images of floating-point numbers, got {images.dtype}. Normalise "
            "them as in training; where these are the labels, give the images first."
        )
    missing = images.ndim - 1  # spatial axes, if the batch or the channel axis is missing
    if missing > 1 and missing in axes and missing - 1 not in axes:
        raise ConfigError(
            f"loader: expected batches of images (B, C, *spatial) with {missing} spatial axes, got "
            f"shape {tuple(images.shape)}, which lacks the batch or the channel axis. Add it with "
            "images[None] or images[:, None], or use a DataLoader. If the images have "
            f"{missing - 1} spatial axes, use a network with {missing - 1}."
        )


def _warn_of_raw_values(images: Tensor) -> None:
    values = images[:1].detach()
    if not values.numel() or not torch.isfinite(values).all():
        return
    largest = float(values.abs().max())
    if largest >= _RAW and bool((values == values.round()).all()):
        warnings.warn(
            f"loader: the images are whole numbers up to {largest:g}, as if not normalised; "
            "expected the values on which the network was trained. Normalise them as in training.",
            stacklevel=4,
        )


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
                f"batch: it has no entry '{key}', but {known or 'none'}. Give the keys of images "
                "and labels to calibrate and robustness: keys=(..., ...)"
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
    if isinstance(values, np.ndarray) and values.dtype.kind in "biuf":
        return torch.from_numpy(np.ascontiguousarray(values, values.dtype.newbyteorder("=")))
    if isinstance(values, Tensor):
        return values.as_subclass(Tensor)  # MONAI's MetaTensor carries metadata through each layer
    kind = (
        f"an array of {values.dtype}" if isinstance(values, np.ndarray) else type(values).__name__
    )
    raise ConfigError(
        f"batch: expected '{what}' as a tensor of shape (B, C, *spatial), got {kind}; a loader "
        "yields tensors, tuples (images, labels) or mappings"
    )
