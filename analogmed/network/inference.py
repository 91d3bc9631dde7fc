"""From images to logits to class indices, whatever the size of the image."""

from collections.abc import Callable

import torch
from monai.inferers import sliding_window_inference
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

    An image of the window's size goes through as it is. A smaller one is padded with zeros and
    the result cropped back; a larger one is slid over, with Gaussian blending of the overlaps.

    The network gets copies of the images, which it may change in place.

    Args:
        network: maps (B, C, *window) to (B, K, *window).
        images: shape (N, C, *spatial).
        window: spatial size that the network is given.
        batch_size: windows in one pass.

    Returns:
        logits, shape (N, K, *spatial).

    Raises:
        ValueError: there is no image.
    """
    if images.numel() == 0:
        raise ValueError(f"no image to predict: shape {tuple(images.shape)}")

    def on_copy(part: Tensor) -> Tensor:
        return network(part.clone())

    if tuple(images.shape[2:]) == tuple(window):
        return torch.cat([on_copy(part) for part in images.split(batch_size)])
    blended = sliding_window_inference(
        images, window, batch_size, on_copy, overlap=0.25, mode="gaussian"
    )
    assert isinstance(blended, Tensor)
    return blended


def to_classes(logits: Tensor) -> Tensor:
    """Class indices of logits: a threshold for one logit, the largest for several.

    Args:
        logits: shape (N, K, *spatial); K = 1 is one class against the background.

    Returns:
        uint8 class indices, shape (N, *spatial); 0 is background.

    Raises:
        NonFiniteError: a logit is NaN or Inf.
    """
    if not torch.isfinite(logits).all():
        bad = int((~torch.isfinite(logits)).sum())
        raise NonFiniteError(f"the network put out {bad} NaN or Inf logits of {logits.numel()}")
    indices = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.argmax(1)
    return indices.to(torch.uint8)
