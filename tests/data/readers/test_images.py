import struct
import warnings
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from analogmed.data.readers.images import read_image
from analogmed.foundation.errors import DataError


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, size=(12, 15, 3), dtype=np.uint8)


def assert_refused(path, *words, **options):
    with pytest.raises(DataError) as caught:
        read_image(path, **options)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_colour_alpha_and_grey_png_keep_their_pixels(tmp_path, pixels):
    alpha = np.concatenate([pixels, np.full((12, 15, 1), 255, np.uint8)], axis=-1)
    for array in (pixels, alpha, pixels[..., 0]):
        Image.fromarray(array).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), array)


def test_sixteen_bit_png_keeps_its_values(tmp_path):
    deep = np.arange(180, dtype=np.uint16).reshape(12, 15) * 300
    Image.fromarray(deep).save(tmp_path / "deep.png")
    loaded = read_image(tmp_path / "deep.png")
    assert loaded.dtype == np.uint16
    np.testing.assert_array_equal(loaded, deep)


@pytest.mark.parametrize("order", ["<", ">"])
def test_sixteen_bit_tiff_keeps_its_values_in_either_byte_order(tmp_path, order):
    deep = np.arange(180, dtype=f"{order}u2").reshape(12, 15) * 300
    tifffile.imwrite(tmp_path / "deep.tif", deep, byteorder=order)
    loaded = read_image(tmp_path / "deep.tif")
    assert loaded.dtype == np.uint16
    np.testing.assert_array_equal(loaded, deep)


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_colours_of_sixteen_bits_are_refused_since_the_lower_eight_would_be_lost(
    tmp_path, pixels, compression
):
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, pixels.astype(np.uint16), photometric="rgb", compression=compression)
    assert_refused(path, "16 bits a colour")


def test_bilevel_and_palette_images_are_resolved(tmp_path):
    bits = np.eye(12, 15, dtype=bool)
    Image.fromarray(bits).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png"), bits * np.uint8(255))
    palette = Image.fromarray(bits.astype(np.uint8), mode=None).convert("P")
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.save(tmp_path / "palette.png")
    expected = np.where(bits[..., None], [200, 100, 50], [10, 20, 30])
    np.testing.assert_array_equal(read_image(tmp_path / "palette.png"), expected)


def test_tiff_written_by_another_library_keeps_its_pixels(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "colour.tif", pixels, photometric="rgb")
    tifffile.imwrite(tmp_path / "grey.tif", pixels[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / "colour.tif"), pixels)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.tif"), pixels[..., 0])


def test_missing_and_empty_files_are_refused(tmp_path):
    assert_refused(tmp_path / "gone.png", "missing")
    (tmp_path / "empty.tif").touch()
    assert_refused(tmp_path / "empty.tif", "empty")


def test_web_page_under_an_images_name_is_recognised(tmp_path):
    (tmp_path / "page.png").write_text("<html></html>")
    assert_refused(tmp_path / "page.png", "download the file again")


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_image_is_refused(tmp_path, pixels, name, share):
    path = tmp_path / name
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_refused(path)


def test_flipped_byte_in_a_png_is_refused(tmp_path, pixels):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    for position in range(20, len(content), 53):
        damaged = bytearray(content)
        damaged[position] ^= 0x04
        path.write_bytes(damaged)
        assert_refused(path)


@pytest.mark.parametrize("side", [9_000, 10_000, 50_000])
def test_png_that_claims_too_many_pixels_is_refused_from_its_header(tmp_path, side):
    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
    assert_refused(tmp_path / "bomb.png", "limit")


def test_pixel_limit_is_the_callers(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", max_pixels=180).size == 540
    assert_refused(tmp_path / "a.png", "limit of 179", max_pixels=179)


def test_other_formats_and_several_pages_are_refused(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    assert_refused(tmp_path / "a.jpg", "not a PNG or TIFF")
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([pixels, pixels]), photometric="rgb")
    assert_refused(tmp_path / "pages.tif", "several pages")
    tifffile.imwrite(tmp_path / "float.tif", pixels[..., 0].astype(np.float32))
    assert_refused(tmp_path / "float.tif", "pixel format")
