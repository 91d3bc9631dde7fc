"""Inference on images of any size: from images to logits and class indices."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from analogmed.foundation.errors import NonFiniteError


def predict_logits(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    *,
    window: tuple[int, ...],
    batch_size: int,
) -> Tensor:
    """Apply a network to images of any size.

    Images of the window size are passed to the network directly. Smaller images are padded with
    zeros and the logits are cropped back. Larger images use sliding-window inference with Gaussian
    blending of the overlaps.

    The network receives copies of the images, so it may change its input in place.

    Args:
        network: callable from (B, C, *window) to (B, K, *window).
        images: shape (N, C, *spatial).
        window: spatial size of the network input.
        batch_size: number of windows per forward pass.

    Returns:
        logits, shape (N, K, *spatial).

    Raises:
        ValueError: ``images`` is empty.
    """
    if images.numel() == 0:
        raise ValueError(f"no image to predict: shape {tuple(images.shape)}")

    def on_copy(part: Tensor) -> Tensor:
        return network(part.clone())

    if tuple(images.shape[2:]) == tuple(window):
        return torch.cat([on_copy(part) for part in images.split(batch_size)])
    from monai.inferers import sliding_window_inference  # takes seconds, and needed here only

    blended = sliding_window_inference(
        images, window, batch_size, on_copy, overlap=0.25, mode="gaussian"
    )
    assert isinstance(blended, Tensor)
    return blended


def predict_each(
    network: Callable[[Tensor], Tensor],
    images: Sequence[Tensor],
    *,
    window: tuple[int, ...],
    batch_size: int,
) -> tuple[Tensor, ...]:
    """Apply a network to the images of several cases at once; see :func:`predict_logits`.

    Args:
        network: callable from (B, C, *window) to (B, K, ...).
        images: images of each case, shape (N, C, *spatial), of one size if there are several cases.
        window: spatial size of the network input.
        batch_size: number of windows per forward pass.

    Returns:
        logits of each case.
    """
    joined = images[0] if len(images) == 1 else torch.cat(list(images))
    logits = predict_logits(network, joined, window=window, batch_size=batch_size)
    return logits.split([len(part) for part in images])


def require_finite(logits: Tensor) -> None:
    """Raise NonFiniteError if a logit is NaN or Inf."""
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).sum())
        raise NonFiniteError(f"the network put out {bad} NaN or Inf logits of {logits.numel()}")


def to_classes(logits: Tensor) -> Tensor:
    """Return class indices: threshold of a single logit, or argmax of several.

    Args:
        logits: shape (N, K, *spatial); K = 1 is one class against the background.

    Returns:
        uint8 class indices, shape (N, *spatial); 0 is background.

    Raises:
        NonFiniteError: a logit is NaN or Inf.
    """
    require_finite(logits)
    indices = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
    return indices.to(torch.uint8)
