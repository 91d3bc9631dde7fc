"""MONAI networks with deep supervision in training and a single logits tensor in evaluation."""

from typing import Any, cast

import torch.nn.functional as F
from monai.networks import nets
from monai.networks.layers import Conv
from torch import Tensor, nn


class UNetPlusPlus(nets.BasicUNetPlusPlus):
    """MONAI's BasicUNetPlusPlus with one logits tensor; several with deep supervision in training.

    MONAI's three heads of the intermediate outputs are removed. Without deep supervision they would
    receive no gradient (which raises in distributed training), and in evaluation they would occupy
    tiles without effect.
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
        """Return logits (B, out_channels, *spatial) of images (B, in_channels, *spatial).

        With deep supervision in training mode, return a tuple of four such logits at full
        resolution, starting with the deepest path, which is the only one used in evaluation.
        """
        *features, final = super().forward(x)  # features of the shallowest path first
        if not (self.training and self.deep_supervision):
            return cast(Tensor, final)
        pairs = zip(self.deep_supervision_heads, reversed(features), strict=True)
        return (final, *(head(feature) for head, feature in pairs))


class DynUNet(nets.DynUNet):
    """MONAI's DynUNet with deep supervision heads that exist in training only.

    MONAI's own heads store a list of the last feature maps, which prevents copying the network, run
    in evaluation too, and resize their logits to the size of the image.
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
        """Return logits (B, out_channels, *spatial) of images (B, in_channels, *spatial).

        With deep supervision in training mode, return a tuple of the logits and those of the lower
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
    """1-wide convolution from an intermediate feature map to logits, for the training loss only.

    It is not a convolution layer, so it is never mapped onto a tile, programmed or counted: the
    chip contains only the network used in evaluation.

    Args:
        convolution: source of the weight and the bias.
    """

    def __init__(self, convolution: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias = convolution.weight, convolution.bias

    def forward(self, features: Tensor) -> Tensor:
        """Map shape (B, channels, *spatial) to (B, out_channels, *spatial)."""
        weight = cast(Tensor, self.weight)
        return _CONVOLVE[features.ndim - 3](features, weight, cast(Tensor, self.bias))


_CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)
