"""MED-NAS-Bench networks, rebuilt from the architecture described in a benchmark file."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.foundation.settings.checks import require_choice
from analogmed.models.med_nas_architecture import Architecture, Compat, Convolution

Pool: TypeAlias = Literal["max", "avg"]

_ACTIVATION = {"relu": nn.ReLU, "relu6": nn.ReLU6, "LeakyRelu": nn.LeakyReLU}
_ORDERS = {  # by norm, then by the number in the files, from 1
    True: ("conv norm act", "act conv norm", "norm act conv"),
    False: ("conv act", "act conv", "act conv"),
}
_POOL = {"max": nn.MaxPool2d, "avg": nn.AvgPool2d}


class MedNasBench(nn.Module):
    """A two-level network of MED-NAS-Bench.

    The network consists of two convolutions, an inner block, two convolutions of the concatenation
    and a 1-wide convolution to logits. The inner block has two convolutions and a transposed one.
    It halves the size first in some networks, but not in most. Its output is cropped to the size
    of the skip.

    Args:
        in_channels: number of image channels, which replaces that of the file.
        out_channels: number of logits per position, which replaces that of the file.
        spatial_dims: 2.
        config: ``arch_config`` of a file.
        compat: ``"same"`` pads every convolution so that the logits have the size of the image.
            ``"faithful"`` reproduces the benchmark's code: it pads by 1, so that wide and dilated
            convolutions shrink their input. If an inner block without pooling begins with an
            activation, this is computed in place and also changes the skip.
        pool: pooling type of pooled networks. The files do not define it; all of them list ``avg``.

    Raises:
        ConfigError: the architecture is invalid, or the task is not 2D.

    Source: https://github.com/IHIaadj/med_nas_bench, models/RecursiveUNet.py.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        *,
        config: Mapping[str, Any],
        compat: Compat = "same",
        pool: Pool = "max",
    ) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ConfigError(f"networks of MED-NAS-Bench are 2D; the task is {spatial_dims}D")
        compat = require_choice("compat", compat, get_args(Compat))
        pool = require_choice("pool", pool, get_args(Pool))
        self.architecture = described = Architecture.of(config).for_image(in_channels)
        self.compat = compat
        filters = described.filters
        convolutions = [_layers(each, compat) for each in described.convolutions]
        self.conv1, self.conv2, self.inner1, self.inner2, self.conv3, self.conv4 = convolutions
        self.pool = _POOL[pool](2) if described.pooled else nn.Identity()
        self.upconv = nn.ConvTranspose2d(2 * filters, filters, kernel_size=2, stride=2)
        self.head = nn.Conv2d(filters, out_channels, kernel_size=1)
        in_place = compat == "faithful" and not described.pooled
        act = self.inner1.get_submodule("act")
        self.skip = act if in_place and next(iter(self.inner1)) is act else nn.Identity()

    @staticmethod
    def required_divisor(
        *, spatial_dims: int = 2, config: Mapping[str, Any], compat: str = "same", pool: str = "max"
    ) -> int:
        """Return the divisor; a pooled network halves the size once."""
        return 2 if Architecture.of(config).pooled else 1

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch.

        Args:
            images: shape (B, in_channels, height, width).

        Returns:
            logits, shape (B, out_channels, height, width); smaller with ``compat="faithful"``.

        Raises:
            ShapeError: the images are too small, or the output of the inner block is smaller than
                the skip that it joins.
        """
        self._check_size(images)
        skip = self.conv2(self.conv1(images))
        up = self.upconv(self.inner2(self.inner1(self.pool(skip))))
        joined = torch.cat([self.skip(skip), _centre(up, skip)], dim=1)
        logits: Tensor = self.head(self.conv4(self.conv3(joined)))
        return logits

    def _check_size(self, images: Tensor) -> None:
        try:
            for size in images.shape[2:]:
                self.architecture.output_size(size, self.compat)
        except ShapeError as error:
            shape = tuple(images.shape)
            raise ShapeError(f"network of MED-NAS-Bench, images {shape}: {error}") from error


def _layers(described: Convolution, compat: Compat) -> nn.Sequential:
    conv = nn.Conv2d(
        described.in_channels,
        described.out_channels,
        described.kernel,
        padding=described.padding(compat),
        dilation=described.dilation,
    )
    layers: dict[str, nn.Module] = {"conv": conv, "act": _ACTIVATION[described.activation]()}
    if described.norm:
        channels = described.in_channels if described.order == 3 else described.out_channels
        layers["norm"] = nn.InstanceNorm2d(channels)
    order = _ORDERS[described.norm][described.order - 1].split()
    return nn.Sequential(OrderedDict((name, layers[name]) for name in order))


def _centre(images: Tensor, like: Tensor) -> Tensor:
    """Return the central crop of a feature map, with the size of another map."""
    height, width = like.shape[2:]
    top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
    return images[:, :, top : top + height, left : left + width]
