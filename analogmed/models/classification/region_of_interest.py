"""Weights of pixels by how unusual their intensity is, before a network of smaller images."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError, DataError
from analogmed.foundation.settings.checks import require_choice, require_number, require_whole
from analogmed.models.classification.intensities import LEVELS, count_levels, densities, quantise
from analogmed.models.divisor import divisible_by, require_window, window_of_task
from analogmed.models.registry import build_model, follows_window, required_divisor
from analogmed.network.layers.digital_product import DigitalProduct
from analogmed.network.layers.fitted import FittedToImages

_WEIGHTINGS = ("multiply", "channel", "none")


class PixelWeights(DigitalProduct, FittedToImages):
    """Weight of each pixel of an X-ray: how unusual its intensity is at its position.

    The training images give the density P of the intensities at each position (ProbMat). A
    self-organising map replaces the densities of all positions by few prototypes. The weight of a
    pixel of intensity I is 1 - P(I) / max P with the prototype of its position. Before
    :meth:`fit_to`, all weights are 0.

    Args:
        window: size of the images, two numbers.
        weighting: multiply or channel; see :class:`RegionOfInterest`.
        side: prototypes along both axes of the map.
        bandwidth: standard deviation of the kernel of the densities, in grey levels.

    Source: reconstructed from slides that show ProbMat, SOM and weighted maps without formulas.
    """

    reason: ClassVar[str] = "each pixel has a factor of its own"
    nearest: Tensor
    usual: Tensor

    def __init__(
        self, window: Sequence[int], weighting: str, side: int = 4, bandwidth: float = 8.0
    ) -> None:
        super().__init__()
        self.window, self.weighting = tuple(window), weighting
        self.side, self.bandwidth = side, bandwidth
        self.register_buffer("nearest", torch.zeros(self.window, dtype=torch.uint8))
        self.register_buffer("usual", torch.ones(side**2, LEVELS))

    def fit_to(self, images: Iterable[np.ndarray], seed: int) -> None:
        """Set the weights from training images with values in [-1, 1], shape (1, *window) each.

        Raises:
            DataError: an image has another shape or range.
            ConfigError: the package minisom is not installed.
        """
        counts = count_levels(map(self._levels_of, images), self.nearest.numel())
        prototypes, nearest = quantise(densities(counts, self.bandwidth), self.side, seed)
        usual = prototypes / prototypes.max(axis=1, keepdims=True)
        self.usual.copy_(torch.from_numpy(usual))
        self.nearest.copy_(torch.from_numpy(nearest.reshape(self.window)))

    def weights(self, images: Tensor) -> Tensor:
        """Return the weights in [0, 1] of images (B, 1, *window), of the same shape."""
        levels = _grey_levels(images.float())
        return 1 - self.usual[self.nearest.long(), levels]

    def forward(self, images: Tensor) -> Tensor:
        """Return weighted images (B, 1 or 2, *window) of images (B, 1, *window)."""
        weights = self.weights(images).to(images.dtype)
        if self.weighting == "channel":
            return torch.cat([images, 2 * weights - 1], dim=1)
        return (images + 1) * (1 + weights) - 1

    def count_macs(self, inputs: Tensor, output: Tensor) -> int:
        """Return one per pixel."""
        return inputs.numel()

    def _levels_of(self, image: np.ndarray) -> np.ndarray:
        if image.shape != (1, *self.window):
            raise DataError(
                f"region_of_interest: expected images of shape {(1, *self.window)}, got one of "
                f"{image.shape}; set model.options.window to their size"
            )
        if not -1.001 <= float(image.min()) <= float(image.max()) <= 1.001:
            raise DataError(
                f"region_of_interest: expected images with values from -1 to 1, got one from "
                f"{image.min():.3g} to {image.max():.3g}"
            )
        return _grey_levels(torch.from_numpy(image)).numpy()


def _grey_levels(images: Tensor) -> Tensor:
    return ((images + 1) * ((LEVELS - 1) / 2)).round().clamp(0, LEVELS - 1).long()


def _divisor(
    reduction: int = 2, model: Mapping[str, Any] | None = None, spatial_dims: int = 2, **_: Any
) -> tuple[int, ...] | None:
    name, options = _network_of(model)
    require_whole("model.options.reduction", reduction, least=1)
    inner = required_divisor(name, spatial_dims=spatial_dims, **options)
    return None if inner is None else tuple(reduction * divisor for divisor in inner)


@window_of_task
@divisible_by(_divisor)
class RegionOfInterest(nn.Module):
    """Network of smaller images, whose unusual pixels are emphasised before the reduction.

    Training fits the weights of the pixels to its training images; the checkpoint stores them.
    Weights and reduction are digital.

    Args:
        in_channels: number of image channels, 1.
        out_channels: number of logits per image.
        spatial_dims: 2.
        window: size of the images along each axis; one number for both. In training, the default
            is the size of the images of the task.
        reduction: factor by which the images become smaller, by averaging.
        weighting: multiply brightens a pixel by the factor 1 + its weight, channel appends the
            weights as a second channel, and none reduces the images without weights.
        side: number of prototypes along both axes of the self-organising map.
        bandwidth: standard deviation of the kernel of the densities, in grey levels.
        model: name and options of the network; by default the light classifier.

    Raises:
        ConfigError: an option is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        window: int | Sequence[int] = 32,
        reduction: int = 2,
        weighting: str = "multiply",
        side: int = 4,
        bandwidth: float = 8.0,
        model: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        size = (window,) * spatial_dims if isinstance(window, int) else tuple(window)
        weighting = require_choice("model.options.weighting", weighting, _WEIGHTINGS)
        _check(in_channels, spatial_dims, size, reduction, side, bandwidth)
        self.window, self.reduction = size, reduction
        self.weigh: nn.Module = (
            nn.Identity() if weighting == "none" else PixelWeights(size, weighting, side, bandwidth)
        )
        name, options = _network_of(model)
        if follows_window(name):
            options["window"] = [axis // reduction for axis in size]
        self.network = build_model(
            name,
            in_channels=2 if weighting == "channel" else 1,
            out_channels=out_channels,
            spatial_dims=spatial_dims,
            **options,
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, out_channels) of images (B, 1, *window).

        Raises:
            ShapeError: the images do not have the size of ``window``.
        """
        require_window(images, self.window)
        small = F.avg_pool2d(self.weigh(images), self.reduction)
        logits: Tensor = self.network(small)
        return logits


def _network_of(model: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return name and options of the network."""
    given = dict(model) if isinstance(model, Mapping) else {} if model is None else {"": model}
    name, options = given.pop("name", "light_classifier"), given.pop("options", {})
    if given or not isinstance(name, str) or not isinstance(options, Mapping):
        raise ConfigError(
            "model.options.model: expected name and options, such as {name: light_classifier, "
            f"options: {{hidden: 64}}}}, got {model!r}"
        )
    if "window" in options:
        raise ConfigError(
            "model.options.model: window follows from that of the region of interest and "
            "reduction; leave it out of options"
        )
    return name, dict(options)


def _check(
    in_channels: int,
    spatial_dims: int,
    window: tuple[int, ...],
    reduction: int,
    side: int,
    bandwidth: float,
) -> None:
    if in_channels != 1 or spatial_dims != 2:
        raise ConfigError(
            f"model 'region_of_interest': expected 2D images of one channel, got {spatial_dims}D "
            f"images of {in_channels}"
        )
    require_whole("model.options.reduction", reduction, least=1)
    require_whole("model.options.side", side, least=1, most=16)
    require_number("model.options.bandwidth", bandwidth, above=0)
    if len(window) != 2 or any(type(axis) is not int or axis < 1 for axis in window):
        raise ConfigError(
            f"model.options.window: expected one size or two, in whole pixels, got {window}"
        )
    if any(axis % reduction for axis in window):
        raise ConfigError(
            f"model.options.reduction: expected a number that divides the window {window}, got "
            f"{reduction}"
        )
