import gzip
import struct
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from analogmed.data.readers.nifti import read_nifti, read_to_end
from analogmed.foundation.errors import ConfigError, DataError

SHAPE = (5, 6, 7)
PIXDIM_OFFSET, DIM_OFFSET, DATATYPE_OFFSET, SROW_OFFSET = 76, 40, 70, 280


@pytest.fixture
def voxels():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def volume_path(tmp_path, voxels):
    path = tmp_path / "volume.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.diag([0.8, 0.9, 2.5, 1.0])), path)
    return path


def patch_header(path, offset, layout, *values):
    raw = bytearray(gzip.decompress(path.read_bytes()))
    struct.pack_into(layout, raw, offset, *values)
    path.write_bytes(gzip.compress(bytes(raw)))


def assert_refused(path, *words):
    with pytest.raises(DataError) as caught:
        read_nifti(path)
    for word in (str(path), *words):
        assert word in str(caught.value)
    return caught.value


def test_voxels_spacing_and_affine_are_those_of_the_file(volume_path, voxels):
    volume = read_nifti(volume_path)
    np.testing.assert_array_equal(volume.data, voxels)
    assert volume.spacing_mm == pytest.approx((0.8, 0.9, 2.5))
    np.testing.assert_allclose(volume.affine, np.diag([0.8, 0.9, 2.5, 1.0]), atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint16])
def test_integers_stay_as_stored(tmp_path, dtype):
    stored = np.arange(210, dtype=dtype).reshape(SHAPE)
    nib.save(nib.Nifti1Image(stored, np.eye(4)), tmp_path / "a.nii")
    data = read_nifti(tmp_path / "a.nii").data
    assert data.dtype == dtype
    np.testing.assert_array_equal(data, stored)


@pytest.mark.parametrize("image_class", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("dtype", [">i2", ">f4", "<f8"])
def test_byte_order_and_header_version_do_not_matter(tmp_path, image_class, dtype):
    stored = np.arange(210).reshape(SHAPE).astype(dtype)
    header = image_class.header_class(endianness=dtype[0])
    header.set_data_dtype(np.dtype(dtype))
    nib.save(image_class(stored, np.eye(4), header), tmp_path / "a.nii.gz")
    data = read_nifti(tmp_path / "a.nii.gz").data
    assert data.dtype.isnative
    np.testing.assert_array_equal(data, np.arange(210).reshape(SHAPE))


def test_slope_and_intercept_are_applied_as_nibabel_does(tmp_path):
    path = tmp_path / "scaled.nii.gz"
    image = nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), np.eye(4))
    image.header.set_slope_inter(0.5, -1024)
    nib.save(image, path)
    expected = nib.load(path).get_fdata()
    assert read_nifti(path).data.dtype == np.float32
    np.testing.assert_allclose(read_nifti(path).data, expected)


def test_a_qfac_of_zero_counts_as_one_as_the_standard_says(tmp_path, voxels):
    image = nib.Nifti1Image(voxels, None)
    image.set_qform(np.diag([0.8, 0.9, 2.5, 1.0]), code=1)
    path = tmp_path / "a.nii.gz"
    nib.save(image, path)
    patch_header(path, PIXDIM_OFFSET, "<f", 0.0)
    np.testing.assert_allclose(read_nifti(path).affine, nib.load(path).affine)
    np.testing.assert_allclose(read_nifti(path).affine, np.diag([0.8, 0.9, 2.5, 1.0]), atol=1e-6)


def test_oblique_qform_gives_nibabels_affine_and_the_true_spacing(tmp_path, voxels):
    angle = np.deg2rad(30)
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    affine = np.eye(4)
    affine[:3, :3] = rotation * [1.0, 2.0, 3.0]
    image = nib.Nifti1Image(voxels, affine)
    image.set_sform(None, 0)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    volume = read_nifti(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.affine, affine, atol=1e-5)
    assert volume.spacing_mm == pytest.approx((1.0, 2.0, 3.0), rel=1e-5)


def test_metres_and_micrometres_become_mm(tmp_path, voxels):
    for unit, mm in (("meter", 1000.0), ("micron", 0.001)):
        image = nib.Nifti1Image(voxels, np.eye(4))
        image.header.set_xyzt_units(unit)
        nib.save(image, tmp_path / "a.nii")
        volume = read_nifti(tmp_path / "a.nii")
        assert volume.spacing_mm == pytest.approx((mm, mm, mm))
        assert volume.affine[0, 0] == pytest.approx(mm)


def test_voxel_size_that_contradicts_the_affine_is_warned_about(volume_path):
    patch_header(volume_path, PIXDIM_OFFSET + 4, "<f", 3.0)
    with pytest.warns(UserWarning, match=r"the affine is used"):
        assert read_nifti(volume_path).spacing_mm[0] == pytest.approx(0.8)


def test_single_channel_axis_is_dropped_and_several_channels_stay(tmp_path, voxels):
    nib.save(nib.Nifti1Image(voxels[..., None], np.eye(4)), tmp_path / "one.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([voxels] * 3, -1), np.eye(4)), tmp_path / "three.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "one.nii.gz").data, voxels)
    assert read_nifti(tmp_path / "three.nii.gz").data.shape == (*SHAPE, 3)


def test_missing_file_is_named(tmp_path):
    assert_refused(tmp_path / "gone.nii.gz", "missing")


def test_folder_in_place_of_a_file_is_refused(tmp_path):
    assert_refused(tmp_path, "expected a file, found a folder")


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.nii.gz"
    path.touch()
    assert_refused(path, "empty")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_truncated_gzip_is_refused_with_its_path(volume_path, share):
    content = volume_path.read_bytes()
    volume_path.write_bytes(content[: int(len(content) * share)])
    error = assert_refused(volume_path, "truncated")
    assert isinstance(error.__cause__, EOFError)


def test_gzip_without_its_checksum_is_refused(volume_path):
    volume_path.write_bytes(volume_path.read_bytes()[:-8])
    assert_refused(volume_path, "truncated")


@pytest.mark.parametrize("name", ["page.nii.gz", "page.nii"])
def test_web_page_under_a_volumes_name_hints_to_download_again(tmp_path, name):
    path = tmp_path / name
    path.write_text("\n<!DOCTYPE html><html><body>404</body></html>")
    assert_refused(path, "web page", "download the file again")


def test_git_lfs_pointer_is_recognised(tmp_path):
    path = tmp_path / "pointer.nii.gz"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    assert_refused(path, "git lfs pull")


def test_uncompressed_file_named_gz_hints_to_rename(tmp_path, voxels):
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "volume.nii")
    path = (tmp_path / "volume.nii").rename(tmp_path / "volume.nii.gz")
    assert_refused(path, "rename it to volume.nii")


def test_compressed_file_named_nii_hints_to_rename(volume_path):
    path = volume_path.rename(volume_path.with_name("volume.nii"))
    assert_refused(path, "rename it to volume.nii.gz")


def test_flipped_byte_that_nibabel_reads_is_refused_by_the_checksum(tmp_path, voxels):
    path = tmp_path / "flipped.nii.gz"
    content = bytearray(gzip.compress(nib.Nifti1Image(voxels, np.eye(4)).to_bytes(), 0))
    content[500] ^= 0x40
    path.write_bytes(content)
    assert not np.array_equal(np.asarray(nib.load(path).dataobj), voxels)
    assert_refused(path, "damaged")
    with pytest.raises(DataError, match="CRC"):
        read_to_end(path)


def test_any_flipped_byte_of_the_stream_is_refused(tmp_path, voxels):
    content = gzip.compress(nib.Nifti1Image(voxels, np.eye(4)).to_bytes())
    path = tmp_path / "flipped.nii.gz"
    for position in range(10, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(DataError):
            read_to_end(path)


def test_reading_to_the_end_counts_the_decompressed_bytes(volume_path):
    assert read_to_end(volume_path) == 352 + 5 * 6 * 7 * 4


def test_header_alone_is_too_short(tmp_path, voxels):
    raw = nib.Nifti1Image(voxels, np.eye(4)).to_bytes()
    for n_bytes, words in ((200, "ends in its header"), (348, "before its voxels"), (400, "48")):
        path = tmp_path / f"short{n_bytes}.nii.gz"
        path.write_bytes(gzip.compress(raw[:n_bytes]))
        assert_refused(path, words)


def test_claim_of_too_many_voxels_is_refused_from_the_header(volume_path):
    patch_header(volume_path, DIM_OFFSET, "<4h", 3, 30000, 30000, 30000)
    tracemalloc.start()
    assert_refused(volume_path, "27000000000000", "max_voxels")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_size_limit_is_the_callers(volume_path):
    assert read_nifti(volume_path, max_voxels=210).data.size == 210
    with pytest.raises(DataError, match="limit of 209"):
        read_nifti(volume_path, max_voxels=209)


def test_gzip_bomb_behind_the_voxels_is_refused_before_it_unfolds(tmp_path, voxels):
    path = tmp_path / "bomb.nii.gz"
    raw = nib.Nifti1Image(voxels, np.eye(4)).to_bytes()
    path.write_bytes(gzip.compress(raw + bytes(2**26)))
    tracemalloc.start()
    assert_refused(path, "has more than the")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


def test_voxels_that_start_beyond_any_extension_are_refused(volume_path):
    patch_header(volume_path, 108, "<f", 1e30)
    assert_refused(volume_path, "voxels start")


@pytest.mark.parametrize("dims", [(3, -5, 6, 7), (3, 0, 6, 7), (0, 5, 6, 7), (9, 5, 6, 7)])
def test_impossible_dimensions_are_refused(volume_path, dims):
    patch_header(volume_path, DIM_OFFSET, "<4h", *dims)
    assert_refused(volume_path, "dimensions")


@pytest.mark.parametrize("code", [3000, 1])
def test_unknown_data_type_is_refused(volume_path, code):
    patch_header(volume_path, DATATYPE_OFFSET, "<h", code)
    assert_refused(volume_path, "data type", str(code))


@pytest.mark.parametrize("code", [32, 128])
def test_complex_and_colour_voxels_are_refused(volume_path, code):
    patch_header(volume_path, DATATYPE_OFFSET, "<h", code)
    assert_refused(volume_path, "expected integers or floats")


@pytest.mark.parametrize("pixdim", [0.0, -1.0, float("nan"), float("inf")])
def test_voxel_size_that_nibabel_would_repair_is_refused(volume_path, pixdim):
    patch_header(volume_path, PIXDIM_OFFSET + 8, "<f", pixdim)
    assert_refused(volume_path, "voxel size", "three positive numbers")


def test_nan_affine_is_refused(volume_path):
    patch_header(volume_path, SROW_OFFSET, "<f", float("nan"))
    assert_refused(volume_path, "NaN or Inf in the affine")


def test_singular_affine_is_refused(volume_path):
    patch_header(volume_path, SROW_OFFSET, "<8f", 1, 0, 0, 0, 1, 0, 0, 0)
    assert_refused(volume_path, "singular affine")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers_are_counted_and_refused(tmp_path, voxels, bad):
    voxels[1, 2, 3] = voxels[0, 0, 0] = bad
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "nan.nii.gz")
    assert_refused(tmp_path / "nan.nii.gz", "2 of 210 voxels", "nan_policy")
    healed = read_nifti(tmp_path / "nan.nii.gz", nan_policy="zero").data
    expected = voxels.copy()
    expected[1, 2, 3] = expected[0, 0, 0] = 0
    np.testing.assert_array_equal(healed, expected)


def test_doubles_beyond_float32_count_as_infinite(tmp_path, voxels):
    wide = voxels.astype(np.float64)
    wide[0, 0, 0] = 1e300
    nib.save(nib.Nifti1Image(wide, np.eye(4)), tmp_path / "wide.nii.gz")
    assert_refused(tmp_path / "wide.nii.gz", "1 of 210 voxels")


def test_unknown_nan_policy_is_refused(volume_path):
    with pytest.raises(ConfigError, match="'skip'"):
        read_nifti(volume_path, nan_policy="skip")


def test_flat_image_and_other_formats_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4), np.float32), np.eye(4)), tmp_path / "flat.nii.gz")
    assert_refused(tmp_path / "flat.nii.gz", "2 dimensions")
    (tmp_path / "text.nii").write_text("x,y,z\n" * 100)
    assert_refused(tmp_path / "text.nii", "not a NIfTI file")
    nib.save(nib.AnalyzeImage(np.zeros(SHAPE, np.float32), np.eye(4)), tmp_path / "old.img")
    header = (tmp_path / "old.hdr").rename(tmp_path / "old.nii")
    assert_refused(header, "single-file NIfTI")
