"""A network of the literature: ResNet-32 takes 43 tiles of 512 x 512 (AnalogNAS)."""

import pytest
from torch import nn

from analogmed.hardware import map_tiles


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x):
        return self.second(self.first(x).relu()).add(self.shortcut(x)).relu()


def resnet32():
    """Of He et al. 2016 for CIFAR-10, with projections as shortcuts where the size changes."""
    layers, channels = [nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()], 16
    for outputs in (16, 32, 64):
        for number in range(5):
            layers.append(Block(channels, outputs, 2 if number == 0 and outputs > 16 else 1))
            channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("row_split", ["channels", "even"])
def test_resnet_32_takes_43_tiles_of_512(row_split):
    tiles = map_tiles(resnet32(), (1, 3, 32, 32), 512, row_split=row_split)
    assert tiles.summary()["tiles"] == 43


def test_each_block_keeps_its_input_for_the_addition():
    tiles = map_tiles(resnet32(), (1, 3, 32, 32), 512)
    assert len(tiles.skips) == 15
    assert all(skip.read - skip.born in (2, 3) for skip in tiles.skips)
