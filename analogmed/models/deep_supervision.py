"""MONAI's networks with several heads in training, and one tensor of logits in evaluation."""

from typing import Any, cast

import torch.nn.functional as F
from monai.networks import nets
from monai.networks.layers import Conv
from torch import Tensor, nn


class UNetPlusPlus(nets.BasicUNetPlusPlus):
    """MONAI's BasicUNetPlusPlus: one tensor of logits, and with deep supervision more in training.

    MONAI's three heads of the intermediate outputs are left out: without deep supervision they
    would never get a gradient (which distributed training refuses), and in evaluation they would
    take tiles for nothing.
    """

    def __init__(self, *, deep_supervision: bool, **arguments: Any) -> None:
        super().__init__(**arguments, deep_supervision=deep_supervision)
        names = ("final_conv_0_3", "final_conv_0_2", "final_conv_0_1")
        heads = [SupervisionHead(getattr(self, name)) for name in names]
        for name in names:
            setattr(self, name, nn.Identity())
        if deep_supervision:
            self.deep_supervision_heads = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits, shape (B, out_channels, *spatial), of images (B, in_channels, *spatial).

        With deep supervision and in training mode: a tuple of four such logits, of the deepest
        path of the network first (which alone is evaluated), all at full resolution.
        """
        *features, final = super().forward(x)  # features of the shallowest path first
        if not (self.training and self.deep_supervision):
            return cast(Tensor, final)
        pairs = zip(self.deep_supervision_heads, reversed(features), strict=True)
        return (final, *(head(feature) for head, feature in pairs))


class DynUNet(nets.DynUNet):
    """MONAI's DynUNet with heads of deep supervision that are of training only.

    MONAI's own keep a list of the last feature maps, which the network cannot be copied with, are
    computed in evaluation too, and enlarge their logits to the image's size.
    """

    def __init__(self, *, deep_supervision: bool, **arguments: Any) -> None:
        super().__init__(**arguments, deep_supervision=False)
        self.deep_supervision = deep_supervision
        if not deep_supervision:
            return
        convolutions = [
            Conv[Conv.CONV, self.spatial_dims](channels, self.out_channels, kernel_size=1)
            for channels in self.filters[1 : max(2, len(self.upsamples) - 1)]
        ]
        for convolution in convolutions:
            self.initialize_weights(convolution)
        self.deep_supervision_heads = nn.ModuleList(map(SupervisionHead, convolutions))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Logits, shape (B, out_channels, *spatial), of images (B, in_channels, *spatial).

        With deep supervision and in training mode: a tuple of the logits, then those of the lower
        resolutions, finest first.
        """
        if not (self.training and self.deep_supervision):
            return cast(Tensor, super().forward(x))
        skips = [self.input_block(x)]
        for block in self.downsamples:
            skips.append(block(skips[-1]))
        features = [self.bottleneck(skips[-1])]
        for block, skip in zip(self.upsamples, reversed(skips), strict=True):
            features.append(block(features[-1], skip))
        final = self.output_block(features[-1])
        pairs = zip(self.deep_supervision_heads, reversed(features[:-1]), strict=False)
        return (final, *(head(feature) for head, feature in pairs))


class SupervisionHead(nn.Module):
    """Logits of an inner feature map, by a 1-wide convolution, for the loss of training alone.

    It is no convolution layer, so that nothing puts it on a tile, programs or counts it: the chip
    holds the network that is evaluated.

    Args:
        convolution: whose weight and bias it takes over.
    """

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, features: Tensor) -> Tensor:
        """Shape (B, channels, *spatial) to (B, out_channels, *spatial)."""
        weight = cast(Tensor, self.weight)
        return _CONVOLVE[features.ndim - 3](features, weight, cast(Tensor, self.bias))


_CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)
