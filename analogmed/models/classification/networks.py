"""Networks that classify whole images: one logit per class for each image."""

import math
from collections.abc import Sequence

from monai.networks import nets
from monai.networks.layers.factories import Conv, Pool
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.checks import require_choice, require_whole
from analogmed.models.divisor import divisible_by, require_window, window_of_task
from analogmed.network.selection import STAYS_DIGITAL

_EFFICIENTNETS = (*(f"b{number}" for number in range(9)), "l2")
_REDUCTION = 8
"""Reduction of the image size by the three poolings of the light classifier."""


def _checked_blocks(blocks: object) -> tuple[int, ...]:
    """Return the numbers of layers of the dense blocks."""
    name = "model.options.blocks"
    if not isinstance(blocks, list | tuple) or not blocks:
        raise ConfigError(
            f"{name}: expected a list of one or more numbers of layers, such as [6, 12, 24, 16], "
            f"got {blocks!r}"
        )
    for layers in blocks:
        require_whole(name, layers, least=1)
    return tuple(blocks)


def _divisor_of_densenet(blocks: Sequence[int] = (6, 12, 24, 16), **_: object) -> int:
    """Return the divisor: convolution and pooling at the entry, and a pooling between blocks."""
    return 2 ** (len(_checked_blocks(blocks)) + 1)


@divisible_by(_divisor_of_densenet)
def densenet121(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    features: int = 64,
    growth: int = 32,
    blocks: Sequence[int] = (6, 12, 24, 16),
    dropout: float = 0.0,
) -> nn.Module:
    """DenseNet-121, or one of other size, with random weights (MONAI DenseNet121).

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per image.
        spatial_dims: 1, 2 or 3.
        features: number of channels of the first convolution.
        growth: number of channels that each layer adds.
        blocks: number of layers of each dense block.
        dropout: dropout ratio in [0, 1].

    Raises:
        ConfigError: an option is out of its range.

    Source: Huang et al. 2017, arXiv:1608.06993.
    """
    require_whole("model.options.features", features, least=2)
    require_whole("model.options.growth", growth, least=1)
    return nets.DenseNet121(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        init_features=features,
        growth_rate=growth,
        block_config=_checked_blocks(blocks),
        dropout_prob=dropout,
        pretrained=False,
    )


@divisible_by(32)
def efficientnet(
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    variant: str = "b0",
    depthwise: str = "digital",
) -> nn.Module:
    """EfficientNet with random weights (MONAI EfficientNetBN).

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per image.
        spatial_dims: 1, 2 or 3.
        variant: b0 to b8, or l2; larger ones are wider and deeper.
        depthwise: digital leaves the depthwise convolutions digital; analog maps them onto tiles,
            where each channel takes a tile of its own with few used cells.

    Raises:
        ConfigError: ``variant`` or ``depthwise`` is unknown.

    Source: Tan and Le 2019, arXiv:1905.11946.
    """
    variant = require_choice("model.options.variant", variant, _EFFICIENTNETS)
    depthwise = require_choice("model.options.depthwise", depthwise, ("digital", "analog"))
    network = nets.EfficientNetBN(
        f"efficientnet-{variant}",
        pretrained=False,
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        num_classes=out_channels,
    )
    if depthwise == "digital":
        for layer in network.modules():
            if isinstance(layer, _ConvNd) and layer.groups == layer.in_channels > 1:
                setattr(layer, STAYS_DIGITAL, True)
    return network


@window_of_task
@divisible_by(_REDUCTION)
class LightClassifier(nn.Module):
    """Small network of three convolutions and a residual multilayer perceptron.

    Activations need little memory in training; most weights are in the first linear layer, whose
    size follows from ``window``.

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per image.
        spatial_dims: 1, 2 or 3.
        window: size of the images along each axis, multiples of 8; one number for all axes.
            In training, the default is the size of the images of the task.
        features: number of channels of the three convolutions.
        hidden: number of features of the residual path; its inner layer has half as many.

    Raises:
        ConfigError: an option is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        window: int | Sequence[int] = 32,
        features: Sequence[int] = (32, 64, 128),
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.window = (window,) * spatial_dims if isinstance(window, int) else tuple(window)
        _check(spatial_dims, self.window, features, hidden)
        convolution, pooling = Conv[Conv.CONV, spatial_dims], Pool[Pool.AVG, spatial_dims]
        layers: list[nn.Module] = []
        channels = in_channels
        for width in features:
            layers += [convolution(channels, width, 3, padding=1), nn.SiLU(), pooling(2)]
            channels = width
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        positions = math.prod(size // _REDUCTION for size in self.window)
        self.entry = nn.Sequential(nn.Linear(channels * positions, hidden), nn.SiLU())
        self.residual = nn.Sequential(
            nn.Linear(hidden, hidden // 2), nn.SiLU(), nn.Linear(hidden // 2, hidden)
        )
        self.activation = nn.SiLU()
        self.head = nn.Linear(hidden, out_channels)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, out_channels) of images (B, in_channels, *window).

        Raises:
            ShapeError: the images do not have the size of ``window``.
        """
        require_window(images, self.window)
        features = self.entry(self.convolutions(images))
        logits: Tensor = self.head(self.activation(features + self.residual(features)))
        return logits


def _check(
    spatial_dims: int, window: tuple[int, ...], features: Sequence[int], hidden: int
) -> None:
    if len(window) != spatial_dims or any(size < 1 or size % _REDUCTION for size in window):
        raise ConfigError(
            f"model.options.window: expected a multiple of {_REDUCTION} for each of {spatial_dims} "
            f"dimensions, got {window}"
        )
    if len(features) != 3 or min(features) < 1:
        raise ConfigError(
            f"model.options.features: expected 3 numbers of channels, got {list(features)}"
        )
    if hidden < 2:
        raise ConfigError(f"model.options.hidden: expected 2 or more, got {hidden}")
