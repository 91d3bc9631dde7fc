import pytest

from analogmed.hardware import map_tiles
from analogmed.models import build_model


@pytest.fixture(scope="session")
def lgg_unet():
    """The U-Net of the test vectors."""
    return build_model("unet", in_channels=3, out_channels=1)


@pytest.fixture(scope="session")
def lgg_tiles(lgg_unet):
    """Its 19 convolutions on tiles of 256 x 256; transposed convolutions stay digital."""
    return map_tiles(lgg_unet, (1, 3, 256, 256), 256, row_split="channels", transposed="digital")
