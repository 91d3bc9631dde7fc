import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import NormalizeIntensity, ScaleIntensityRange
from scipy import ndimage

from analogmed.data.normalise import (
    checked_size,
    ct_window,
    foreground_mask,
    resize_image,
    resize_label,
    resized_spacing,
    z_score,
)
from analogmed.foundation.errors import ConfigError, ShapeError


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_ct_window_agrees_with_monai(random):
    hu = random.uniform(-1024, 3000, size=(7, 8, 9)).astype(np.float32)
    reference = ScaleIntensityRange(-150, 250, 0.0, 1.0, clip=True)(hu)
    np.testing.assert_allclose(ct_window(hu), np.asarray(reference), atol=1e-6)


def test_air_is_zero_and_bone_one():
    np.testing.assert_array_equal(
        ct_window(np.array([-1000, -150, 50, 250, 1500])), [0, 0, 0.5, 1, 1]
    )


@pytest.mark.parametrize("window", [(250, -150), (0, 0), (float("nan"), 1), (0, float("inf"))])
def test_impossible_ct_window_is_refused(window):
    with pytest.raises(ConfigError, match="low < high"):
        ct_window(np.zeros(3), *window)


def test_z_score_of_nonzero_voxels_agrees_with_monai(random):
    data = random.normal(300, 40, size=(9, 8, 7)).astype(np.float32)
    data[data < 290] = 0
    reference = NormalizeIntensity(nonzero=True)(data.copy())
    np.testing.assert_allclose(z_score(data, data != 0), np.asarray(reference), atol=1e-4)


def brain_in_air(random, shape=(20, 24, 16), margin=4):
    """Image of a bright box in air of exactly 0, with one dark voxel inside."""
    data = np.zeros(shape, np.float32)
    inside = tuple(slice(margin, length - margin) for length in shape)
    data[inside] = random.normal(100, 15, data[inside].shape)
    data[10, 12, 8] = 0.0
    return data, inside


def test_the_foreground_is_the_filled_union_of_the_channels(random):
    first, inside = brain_in_air(random)
    second = first.copy()
    second[inside[0].start] = 0  # another channel has less of it
    first[10, 12, 8] = second[10, 12, 8] = 0
    found = foreground_mask([first, second])
    expected = np.zeros(first.shape, bool)
    expected[inside] = True
    np.testing.assert_array_equal(found, expected)
    reference = ndimage.binary_fill_holes((first != 0) | (second != 0))
    np.testing.assert_array_equal(found, reference)


@pytest.mark.parametrize(("length", "is_masked"), [(14, True), (15, False), (20, False)])
def test_the_foreground_counts_only_where_its_box_leaves_out_a_quarter(length, is_masked):
    data = np.zeros((20, 4, 4))
    data[:length] = 1
    data[5, 1, 1] = 0
    found = foreground_mask([data])
    assert (found is not None) == is_masked  # 14 / 20 < 3 / 4 <= 15 / 20
    assert found is None or found.sum() == length * 16


def test_an_image_of_zeros_has_no_foreground():
    assert foreground_mask([np.zeros((4, 4, 4))]) is None


def test_z_score_has_mean_zero_and_deviation_one(random):
    scored = z_score(random.integers(0, 255, size=(20, 20), dtype=np.uint8))
    assert scored.dtype == np.float32
    assert scored.mean() == pytest.approx(0, abs=1e-6)
    assert scored.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("value", [0, 7, 0.1, 1e30])
def test_constant_image_becomes_zero_without_dividing_by_it(value):
    constant = np.full((4, 5), value, dtype=np.float32)
    np.testing.assert_array_equal(z_score(constant), np.zeros((4, 5)))
    np.testing.assert_array_equal(z_score(constant, constant != 0), np.zeros((4, 5)))


def test_mask_of_another_shape_is_refused():
    with pytest.raises(ShapeError):
        z_score(np.zeros((3, 3)), np.ones((3, 4), dtype=bool))


def test_enlarging_agrees_with_torch_interpolation(random):
    image = random.normal(size=(2, 7, 9)).astype(np.float32)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None], size=(20, 15), mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(resize_image(image, (20, 15)), reference[0].numpy(), atol=1e-5)


def test_enlarging_a_volume_agrees_with_torch_interpolation(random):
    image = random.normal(size=(5, 6, 7)).astype(np.float32)
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], size=(9, 12, 7), mode="trilinear", align_corners=False
    )
    np.testing.assert_allclose(resize_image(image, (9, 12, 7)), reference[0, 0].numpy(), atol=1e-5)


def test_shrinking_keeps_a_ramp_at_the_new_pixel_centres():
    ramp = np.tile(np.arange(64, dtype=np.float32), (8, 1))
    shrunk = resize_image(ramp, (8, 16))
    centres = (np.arange(16) + 0.5) * 4 - 0.5
    np.testing.assert_allclose(shrunk[:, 4:-4], np.tile(centres[4:-4], (8, 1)), atol=1e-4)


def test_shrinking_removes_what_the_coarse_grid_cannot_hold():
    stripes = np.tile([0.0, 1.0], (32, 32)).astype(np.float32)
    shrunk = resize_image(stripes, (8, 16))
    np.testing.assert_allclose(shrunk, 0.5, atol=0.1)


def test_label_shrinks_and_grows_by_whole_pixels():
    label = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    grown = resize_label(label, (6, 12))
    np.testing.assert_array_equal(grown, label.repeat(2, axis=1).repeat(3, axis=2))
    np.testing.assert_array_equal(resize_label(grown, (3, 4)), label)


@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 100),
)
def test_resizing_gives_the_size_and_invents_no_value(shape, size, seed):
    label = np.random.default_rng(seed).integers(0, 4, size=shape, dtype=np.uint8)
    resized = resize_label(label, size)
    assert resized.shape == size
    assert set(resized.ravel()) <= set(label.ravel())
    image = resize_image(label.astype(np.float32), size)
    assert image.shape == size
    assert label.min() - 1e-4 <= image.min() <= image.max() <= label.max() + 1e-4


def test_same_size_changes_nothing(random):
    image = random.normal(size=(3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(resize_image(image, (8, 8)), image)


def test_spacing_keeps_the_field_of_view():
    assert resized_spacing((2.0, 0.5), (10, 100), (20, 25)) == (1.0, 2.0)


@pytest.mark.parametrize("size", [(0, 4), (3, 4, 5, 6), ()])
def test_size_that_does_not_fit_is_refused(size):
    with pytest.raises(ShapeError):
        resize_image(np.zeros((2, 3, 4)), size)
    with pytest.raises(ConfigError):
        checked_size(size, 3)
