"""U-Net of the LGG brain segmentation benchmark, in 1D, 2D and 3D."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from analogmed.foundation.settings.checks import require_at_least_one, require_number

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOL = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_UPCONV = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_DROPOUT = {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}


class UNet(nn.Module):
    """U-Net with batch norm: four encoder levels, a bottleneck, four decoder levels, skips.

    Each level applies a 3-wide convolution without bias, batch norm and ReLU twice. Max pooling
    halves the size and the next level doubles the features; a transposed convolution (kernel 2,
    stride 2) reverses both. Skips are concatenated. A 1-wide convolution computes the logits.

    Args:
        in_channels: number of image channels.
        out_channels: number of logits per position.
        spatial_dims: 1, 2 or 3.
        features: number of channels of the first level; the bottleneck has 16 times as many.
        dropout: dropout ratio of channels after each level, for Monte Carlo dropout; at 0 the
            network has no dropout layers.

    Source: Buda, Saha, Mazurowski 2019, arXiv:1906.03720 (7,763,041 parameters in 2D at 3 input
    channels, 1 output channel and 32 features).
    """

    required_divisor = 16

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        spatial_dims: int = 2,
        features: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_at_least_one("features", features)
        require_number("dropout", dropout, at_least=0, below=1)

        def level(channels: int, width: int) -> nn.Sequential:
            return _level(channels, width, spatial_dims, dropout)

        def pool() -> nn.Module:
            return _POOL[spatial_dims](2)

        def upconv(width: int) -> nn.Module:
            return _UPCONV[spatial_dims](2 * width, width, kernel_size=2, stride=2)

        w1, w2, w3, w4, w5 = (features * 2**depth for depth in range(5))
        self.encoder1, self.pool1 = level(in_channels, w1), pool()
        self.encoder2, self.pool2 = level(w1, w2), pool()
        self.encoder3, self.pool3 = level(w2, w3), pool()
        self.encoder4, self.pool4 = level(w3, w4), pool()
        self.bottleneck = level(w4, w5)
        self.upconv4, self.decoder4 = upconv(w4), level(2 * w4, w4)
        self.upconv3, self.decoder3 = upconv(w3), level(2 * w3, w3)
        self.upconv2, self.decoder2 = upconv(w2), level(2 * w2, w2)
        self.upconv1, self.decoder1 = upconv(w1), level(2 * w1, w1)
        self.head = _CONV[spatial_dims](w1, out_channels, kernel_size=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch.

        Args:
            images: shape (B, in_channels, *spatial), each spatial size a multiple of 16.

        Returns:
            logits, shape (B, out_channels, *spatial).
        """
        skip1 = self.encoder1(images)  # (B, w1, *spatial)
        skip2 = self.encoder2(self.pool1(skip1))  # (B, w2, *spatial / 2)
        skip3 = self.encoder3(self.pool2(skip2))  # (B, w3, *spatial / 4)
        skip4 = self.encoder4(self.pool3(skip3))  # (B, w4, *spatial / 8)
        deepest = self.bottleneck(self.pool4(skip4))  # (B, w5, *spatial / 16)
        up4 = self.decoder4(torch.cat([self.upconv4(deepest), skip4], dim=1))
        up3 = self.decoder3(torch.cat([self.upconv3(up4), skip3], dim=1))
        up2 = self.decoder2(torch.cat([self.upconv2(up3), skip2], dim=1))
        up1 = self.decoder1(torch.cat([self.upconv1(up2), skip1], dim=1))
        logits: Tensor = self.head(up1)
        return logits


def _level(channels: int, width: int, spatial_dims: int, dropout: float) -> nn.Sequential:
    conv, norm = _CONV[spatial_dims], _NORM[spatial_dims]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=conv(channels, width, kernel_size=3, padding=1, bias=False),
        norm1=norm(width),
        relu1=nn.ReLU(inplace=True),
        conv2=conv(width, width, kernel_size=3, padding=1, bias=False),
        norm2=norm(width),
        relu2=nn.ReLU(inplace=True),
    )
    if dropout > 0:
        layers["dropout"] = _DROPOUT[spatial_dims](dropout)
    return nn.Sequential(layers)
