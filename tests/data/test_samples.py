from pathlib import Path

import numpy as np
import pytest

from analogmed.data.case import Case
from analogmed.data.samples import binary_mask, class_indices, naming_case
from analogmed.foundation.errors import ConfigError, DataError

PATH = Path("label.nii.gz")


def test_label_values_become_class_indices_in_the_order_of_the_classes():
    label = np.array([[0, 1, 2], [4, 2, 0]], dtype=np.int16)
    indices = class_indices(label, [(4,), (1, 2)], (0, 1, 2, 4), PATH)
    assert indices.dtype == np.uint8
    np.testing.assert_array_equal(indices, [[0, 2, 2], [1, 2, 0]])


def test_values_of_no_class_become_background():
    np.testing.assert_array_equal(class_indices(np.array([3, 1, 2]), [(1,)], None, PATH), [0, 1, 0])


@pytest.mark.parametrize("values", [[-5, 1, 0], [1000, 1, 0]])
def test_any_integer_is_background_where_any_is_allowed(values):
    np.testing.assert_array_equal(class_indices(np.array(values), [(1,)], None, PATH), [0, 1, 0])


def test_label_all_background_is_accepted():
    np.testing.assert_array_equal(class_indices(np.zeros((2, 3)), [(1,)], (0, 1), PATH), 0)


def test_floats_near_an_integer_are_that_integer():
    label = np.array([0.9991, 1.0009, 0.0], dtype=np.float32)
    np.testing.assert_array_equal(class_indices(label, [(1,)], (0, 1), PATH), [1, 1, 0])


@pytest.mark.parametrize("value", [0.998, 1.002, np.nan, np.inf])
def test_floats_beyond_a_thousandth_of_an_integer_are_listed(value):
    with pytest.raises(DataError, match=rf"label\.nii\.gz.*{value:g}.*not integers"):
        class_indices(np.array([0.0, value]), [(1,)], None, PATH)


def test_values_outside_the_set_are_listed_with_the_set():
    with pytest.raises(DataError, match=r"label\.nii\.gz: label values 3, 7 .*\[0, 1\]"):
        class_indices(np.array([0, 1, 3, 7]), [(1,)], (0, 1), PATH)


def test_an_image_in_place_of_a_label_is_refused():
    with pytest.raises(DataError, match="not a label file"):
        class_indices(np.array([-70_000, 4]), [(1,)], None, PATH)


@pytest.mark.parametrize("high", [1, 255])
def test_mask_of_two_values_becomes_bool(high):
    mask = np.array([[0, high], [high, 0]], dtype=np.uint8)
    np.testing.assert_array_equal(binary_mask(mask, PATH), mask > 0)
    rgba = np.stack([mask, mask, mask, np.full_like(mask, 255)], axis=-1)
    np.testing.assert_array_equal(binary_mask(rgba, PATH), mask > 0)


def test_mask_of_other_values_or_colours_is_refused():
    with pytest.raises(DataError, match="0, 128, 255"):
        binary_mask(np.array([[0, 128, 255]], dtype=np.uint8), PATH)
    with pytest.raises(DataError, match="colour"):
        binary_mask(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), PATH)


def test_errors_inside_a_case_carry_its_name_and_keep_their_kind():
    case = Case("c7", "p7", (), ())
    with pytest.raises(ConfigError, match="case c7: wrong") as caught, naming_case(case):
        raise ConfigError("wrong")
    assert isinstance(caught.value.__cause__, ConfigError)


@pytest.mark.parametrize(("n", "end"), [(10, "18, 19 are"), (11, "18, 19 and 1 more are")])
def test_more_than_ten_wrong_values_are_counted(n, end):
    label = np.arange(10, 10 + n)
    with pytest.raises(DataError, match=f"label values 10, 11, .*{end} outside"):
        class_indices(label, [(1,)], (0, 1), Path("seg.nii"))
