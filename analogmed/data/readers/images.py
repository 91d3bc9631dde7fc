"""Reader of PNG and TIFF images with full validation."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from analogmed.data.readers.files import check_not_placeholder
from analogmed.foundation.errors import DataError
from analogmed.foundation.files import read_head

DEFAULT_MAX_PIXELS = 2**26
"""Default limit on the number of pixels: 8192 x 8192."""

_FORMATS = ("PNG", "TIFF")
_COLOURS = ("RGB", "RGBA", "LA")
_STORED_AS_IS = ("L", "RGB", "RGBA", "I;16", "I;16L", "I;16B")
_READ_AS = {"1": "L", "P": "RGB", "LA": "RGBA", "PA": "RGBA"}
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    zlib.error,
    struct.error,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    Image.DecompressionBombError,
)


def read_image(path: Path | str, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> np.ndarray:
    """Read a PNG or a single-page TIFF.

    Args:
        path: image file.
        max_pixels: limit on the number of pixels; larger images raise before they are decoded.

    Returns:
        uint8 or uint16 array: (H, W) for grey, (H, W, 3) for colour, (H, W, 4) with an alpha
        channel. Palettes are resolved; a bilevel image contains 0 and 255.

    Raises:
        DataError: the file is missing, empty, damaged (checksums of a PNG are verified), too
            large, of another format, has several pages, or has 16-bit colours, of which Pillow
            would read only the upper 8 bits.
    """
    path = Path(path)
    check_not_placeholder(read_head(path), path)
    content = path.read_bytes()
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_extent(image, path, max_pixels)
            # Verifies the CRC of every chunk, unlike decoding; the image cannot be used afterwards.
            image.verify()
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            return _to_array(image, path)
    except Image.DecompressionBombWarning as warning:
        raise DataError(f"{path}: too many pixels ({warning}); limit {max_pixels}") from warning
    except Image.UnidentifiedImageError as error:
        raise DataError(f"{path}: not a PNG or TIFF image, or damaged; download again") from error
    except _DECODER_ERRORS as error:
        raise DataError(f"{path}: damaged image ({error}); download it again") from error


def _check_extent(image: Image.Image, path: Path, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise DataError(
            f"{path}: {image.width} x {image.height} pixels, more than the limit of {max_pixels}"
        )
    if getattr(image, "n_frames", 1) > 1:
        raise DataError(f"{path}: several pages in one file; expected one image")


def _to_array(image: ImageFile.ImageFile, path: Path) -> np.ndarray:
    if image.mode in _COLOURS and any(";16" in str(tile.args) for tile in image.tile):
        raise DataError(f"{path}: 16 bits a colour; expected 8, or grey without alpha; convert it")
    if image.mode == "P" and "transparency" in image.info:
        return np.array(image.convert("RGBA"))
    if image.mode in _READ_AS:
        return np.array(image.convert(_READ_AS[image.mode]))
    if image.mode not in _STORED_AS_IS:
        raise DataError(f"{path}: pixel format {image.mode}; expected 8 or 16 bit grey, or colour")
    pixels = np.array(image)
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)
