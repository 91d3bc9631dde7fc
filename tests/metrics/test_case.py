import doctest

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from monai.metrics import (
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    compute_surface_dice,
)
from scipy import ndimage
from scipy.spatial.distance import cdist

from analogmed.foundation.errors import ConfigError, NonFiniteError, ShapeError
from analogmed.metrics import case as module
from analogmed.metrics.arrays import hausdorff95, overlap, surface_dice
from analogmed.metrics.case import case_metrics, mean_dice
from analogmed.metrics.registry import METRICS

MONAI_CALLS_ITS_OWN_DEPRECATED_ARGUMENT = "ignore:.*always_return_as_numpy.*:FutureWarning"


def values(pred, label, metrics=METRICS, *, n_classes=1, spacing=(1.0, 1.0), tolerance=1.0):
    rows = case_metrics(
        pred,
        label,
        n_classes=n_classes,
        spacing=spacing,
        tolerance=tolerance,
        unit="mm",
        metrics=metrics,
    )
    return {row.metric if n_classes == 1 else (row.class_index, row.metric): row for row in rows}


def box(shape, *corner_and_size):
    label = np.zeros(shape, dtype=np.uint8)
    label[(..., *(slice(start, start + size) for start, size in corner_and_size))] = 1
    return label


def one_hot(mask):
    return torch.as_tensor(np.asarray(mask), dtype=torch.bool)[None, None]


def ball(size, radius):
    grid = np.indices((size,) * 3) - (size - 1) / 2
    return (np.sqrt((grid**2).sum(axis=0)) <= radius).astype(np.uint8)


def blobs(seed, shape):
    noise = np.random.default_rng(seed).normal(size=shape)
    return (ndimage.gaussian_filter(noise, 1.5) > 0.05).astype(np.uint8)


def surface_points(mask, spacing):
    eroded = ndimage.binary_erosion(np.pad(mask, 1))[(slice(1, -1),) * mask.ndim]
    return np.argwhere(mask.astype(bool) & ~eroded) * np.asarray(spacing)


def distances_by_brute_force(pred, ref, spacing):
    pairs = cdist(surface_points(pred, spacing), surface_points(ref, spacing))
    return pairs.min(axis=1), pairs.min(axis=0)


class TestOverlap:
    def test_a_square_shifted_by_a_quarter_has_the_values_of_the_closed_form(self):
        label, pred = box((1, 16, 16), (4, 8), (4, 8)), box((1, 16, 16), (4, 8), (6, 8))
        found = values(pred, label)
        assert found["dice"].value == 2 * 48 / 128
        assert found["jaccard"].value == 48 / 80
        assert found["sensitivity"].value == found["recall"].value == 48 / 64
        assert found["precision"].value == 48 / 64
        assert found["specificity"].value == (256 - 80) / (256 - 64)
        assert found["f1"].value == found["dice"].value

    def test_nested_cubes_have_the_dice_of_the_closed_form(self):
        label, pred = box((1, 12, 12, 12), *[(1, 10)] * 3), box((1, 12, 12, 12), *[(1, 5)] * 3)
        found = values(pred, label, spacing=(1, 1, 1))
        assert found["dice"].value == pytest.approx(2 * 125 / 1125)
        assert found["precision"].value == 1.0
        assert found["sensitivity"].value == 0.125

    def test_all_slices_of_a_case_are_pooled(self):
        label, pred = np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8), np.uint8)
        label[0, :4, :4] = pred[0, :4, :4] = 1
        label[1, 0, 0], pred[1, 7, 7] = 1, 1
        assert values(pred, label, ["dice"])["dice"].value == pytest.approx(2 * 16 / 34)

    def test_a_class_is_compared_with_all_others(self):
        label = np.array([[[0, 1, 1, 2, 2, 2]]], dtype=np.uint8)
        pred = np.array([[[0, 1, 2, 2, 2, 0]]], dtype=np.uint8)
        found = values(pred, label, ["dice", "precision"], n_classes=2)
        assert found[1, "dice"].value == pytest.approx(2 / 3)
        assert found[2, "dice"].value == pytest.approx(4 / 6)
        assert list(found) == [(1, "dice"), (1, "precision"), (2, "dice"), (2, "precision")]

    def test_dice_and_jaccard_agree_with_monai(self):
        pred, label = blobs(0, (6, 20, 20)), blobs(1, (6, 20, 20))
        found = values(pred, label, ["dice", "jaccard"])
        pair = one_hot(pred).float(), one_hot(label).float()
        assert found["dice"].value == pytest.approx(compute_dice(*pair).item(), abs=1e-6)
        assert found["jaccard"].value == pytest.approx(compute_iou(*pair).item(), abs=1e-6)

    def test_a_small_structure_in_a_volume_beyond_float32_counts_is_exact(self):
        label = np.zeros((1, 2, 4100, 4100), dtype=np.uint8)
        label[0, 0, :3, 0] = 1
        pred = np.roll(label, 1, axis=2)
        found = values(pred, label, ["dice", "precision"], spacing=(1, 1, 1))
        assert found["dice"].value == pytest.approx(2 / 3)
        assert found["precision"].value == pytest.approx(2 / 3)

    @given(
        hnp.arrays(np.uint8, (1, 5, 6), elements=st.integers(0, 1)),
        hnp.arrays(np.uint8, (1, 5, 6), elements=st.integers(0, 1)),
    )
    @settings(max_examples=50, deadline=None)
    def test_dice_is_symmetric_and_bound_to_jaccard_and_f1(self, pred, label):
        found, swapped = values(pred, label), values(label, pred)
        dice = found["dice"].value
        np.testing.assert_equal(dice, swapped["dice"].value)
        np.testing.assert_equal(dice, found["f1"].value)
        np.testing.assert_allclose(found["jaccard"].value, dice / (2 - dice))
        np.testing.assert_allclose(found["hd95"].value, swapped["hd95"].value)
        np.testing.assert_equal(found["sensitivity"].value, found["recall"].value)


class TestSurfaceDistances:
    def test_a_square_shifted_by_two_voxels_is_two_spacings_away(self):
        label, pred = box((1, 20, 20), (6, 6), (6, 6)), box((1, 20, 20), (6, 6), (8, 6))
        row = values(pred, label, ["hd95"], spacing=(1.0, 0.7))["hd95"]
        assert row.value == pytest.approx(2 * 0.7)
        assert (row.unit, row.note) == ("mm", "")

    def test_concentric_balls_are_their_radii_apart(self):
        label, pred = ball(41, 15.0)[None], ball(41, 10.0)[None]
        spacing = (0.5, 0.5, 0.5)
        found = values(pred, label, ["hd95", "nsd"], spacing=spacing, tolerance=3.4)
        assert found["hd95"].value == pytest.approx(2.5, abs=0.5)
        assert found["nsd"].value == 1.0
        assert values(pred, label, ["nsd"], spacing=spacing, tolerance=1.4)["nsd"].value == 0.0

    @pytest.mark.parametrize("seed", range(3))
    def test_hd95_and_nsd_agree_with_all_pairs_of_surface_voxels(self, seed):
        pred, label = blobs(seed, (9, 12, 12)), blobs(seed + 10, (9, 12, 12))
        spacing = (2.0, 0.8, 0.9)
        to_ref, to_pred = distances_by_brute_force(pred, label, spacing)
        found = values(pred, label, ["hd95", "nsd"], spacing=spacing, tolerance=1.0)
        expected = max(np.percentile(to_ref, 95), np.percentile(to_pred, 95))
        assert found["hd95"].value == pytest.approx(expected, rel=1e-6)
        expected = np.mean(np.concatenate([to_ref, to_pred]) <= 1.0)
        assert found["nsd"].value == pytest.approx(expected)

    @pytest.mark.filterwarnings(MONAI_CALLS_ITS_OWN_DEPRECATED_ARGUMENT)
    def test_hd95_and_nsd_agree_with_monai(self):
        pred, label = one_hot(blobs(3, (14, 14, 9))), one_hot(blobs(4, (14, 14, 9)))
        spacing = (1.0, 1.5, 3.0)
        expected = compute_hausdorff_distance(
            pred, label, percentile=95, include_background=True, spacing=spacing
        )
        found = hausdorff95(pred, label, spacing=spacing)
        torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)
        expected = compute_surface_dice(
            pred, label, class_thresholds=[1.2], include_background=True, spacing=spacing
        )
        found = surface_dice(pred, label, spacing=spacing, tolerance=1.2)
        torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-6)

    def test_a_structure_at_the_image_border_has_a_surface_there(self):
        label, pred = box((1, 8, 8), (0, 8), (0, 2)), box((1, 8, 8), (0, 8), (0, 3))
        assert values(pred, label, ["hd95"])["hd95"].value == 1.0

    def test_slices_with_three_spacings_are_one_volume(self):
        label, pred = np.zeros((9, 8, 8), np.uint8), np.zeros((9, 8, 8), np.uint8)
        label[2, 2:6, 2:6], pred[5, 2:6, 2:6] = 1, 1
        assert values(pred, label, ["hd95"], spacing=(4.0, 1, 1))["hd95"].value == 12.0

    def test_separate_images_are_averaged_where_the_structure_is(self):
        label, pred = np.zeros((3, 8, 8), np.uint8), np.zeros((3, 8, 8), np.uint8)
        label[0, 2:4, 2:4], pred[0, 2:4, 3:5] = 1, 1
        label[1, 2:4, 2:4], pred[1, 2:4, 5:7] = 1, 1
        row = values(pred, label, ["hd95"])["hd95"]
        assert row.value == pytest.approx((1 + 3) / 2)

    @given(st.floats(0.1, 10), st.integers(0, 5))
    @settings(max_examples=20, deadline=None)
    def test_hd95_scales_with_the_spacing(self, scale, seed):
        pred, label = blobs(seed, (1, 12, 12)), blobs(seed + 1, (1, 12, 12))
        spacing = np.array([1.0, 1.3])
        first = values(pred, label, ["hd95"], spacing=spacing)["hd95"].value
        scaled = values(pred, label, ["hd95"], spacing=scale * spacing)["hd95"].value
        assert scaled == pytest.approx(scale * first, rel=1e-5)

    def test_a_tolerance_is_given_per_class(self):
        label = np.array([[[1, 0, 0, 0, 0, 2]]], dtype=np.uint8)
        pred = np.array([[[0, 1, 0, 0, 2, 0]]], dtype=np.uint8)
        found = values(pred, label, ["nsd"], n_classes=2, tolerance=(1.0, 0.5))
        assert (found[1, "nsd"].value, found[2, "nsd"].value) == (1.0, 0.0)


class TestEmptyStructures:
    present, empty = box((1, 6, 8), (2, 2), (2, 2)), np.zeros((1, 6, 8), dtype=np.uint8)

    def test_a_missed_structure_is_the_worst_result(self):
        found = values(self.empty, self.present, spacing=(3.0, 4.0))
        assert found["hd95"].value == np.hypot(6 * 3.0, 8 * 4.0)
        for metric in ("dice", "jaccard", "nsd", "sensitivity", "precision", "f1"):
            assert found[metric].value == 0.0
        assert found["specificity"].value == 1.0
        assert {row.note for row in found.values()} == {"missed structure"}

    def test_a_spurious_structure_is_the_worst_result_but_has_no_sensitivity(self):
        found = values(self.present, self.empty)
        assert found["hd95"].value == 10.0
        assert (found["dice"].value, found["nsd"].value, found["precision"].value) == (0, 0, 0)
        assert np.isnan(found["sensitivity"].value)
        assert {row.note for row in found.values()} == {"spurious structure"}

    def test_both_empty_is_undefined_and_says_so(self):
        found = values(self.empty, self.empty)
        assert found.pop("specificity").value == 1.0
        assert all(np.isnan(row.value) for row in found.values())
        assert {row.note for row in found.values()} == {"both empty"}

    def test_one_missed_image_of_two_enters_the_mean_with_its_diagonal(self):
        label = np.concatenate([self.present, self.present])
        pred = np.concatenate([self.present, self.empty])
        found = values(pred, label, ["hd95", "nsd", "dice"])
        assert found["hd95"].value == pytest.approx(10.0 / 2)
        assert found["nsd"].value == 0.5
        assert found["hd95"].note == "missed structure"
        assert found["dice"].note == ""

    def test_an_image_with_a_spurious_structure_leaves_the_case_in_and_counts(self):
        """The structure is in one image of two: that the case has it does not depend on a run."""
        label = np.concatenate([self.present, self.empty])
        pred = np.concatenate([self.present, self.present])
        found = values(pred, label, ["hd95", "nsd", "dice"])
        assert found["hd95"].value == pytest.approx((0.0 + 10.0) / 2)
        assert found["nsd"].value == 0.5
        assert found["hd95"].note == found["nsd"].note == "spurious in some images"
        assert found["dice"].note == ""

    def test_a_case_that_lacks_the_structure_in_all_images_is_spurious_as_a_whole(self):
        label = np.concatenate([self.empty, self.empty])
        pred = np.concatenate([self.present, self.empty])
        assert {row.note for row in values(pred, label).values()} == {"spurious structure"}

    def test_tensor_functions_follow_the_same_policy(self):
        masks = [
            torch.as_tensor(mask, dtype=torch.bool)[None] for mask in (self.present, self.empty)
        ]
        pred = torch.cat([masks[1], masks[1]])
        ref = torch.cat([masks[0], masks[1]])
        nan = float("nan")
        expected = torch.tensor([[10.0], [nan]], dtype=torch.float64)
        found = hausdorff95(pred, ref, spacing=(1, 1))
        torch.testing.assert_close(found, expected, equal_nan=True)
        expected = torch.tensor([[0.0], [nan]], dtype=torch.float64)
        for found in (
            surface_dice(pred, ref, spacing=(1, 1), tolerance=1.0),
            overlap(pred, ref, metric="dice"),
            overlap(pred, ref, metric="precision"),
        ):
            torch.testing.assert_close(found, expected, equal_nan=True)


class TestRefusals:
    label = box((1, 6, 6), (1, 3), (1, 3))

    def test_nan_in_a_prediction(self):
        pred = self.label.astype(np.float32)
        pred[0, 0, 0] = np.nan
        with pytest.raises(NonFiniteError, match="pred holds 1 NaN or Inf of 36"):
            values(pred, self.label)
        with pytest.raises(NonFiniteError, match="pred holds 1 NaN"):
            overlap(torch.tensor(pred)[None], one_hot(self.label[0]), metric="dice")

    def test_logits_given_as_a_class_map(self):
        logits = torch.linspace(-4, 4, 36).reshape(1, 6, 6)
        with pytest.raises(ValueError, match=r"class indices.*float32"):
            values(logits, self.label)

    @pytest.mark.parametrize("function", ["dice", "hd95", "nsd"])
    def test_logits_given_as_masks(self, function):
        ref = one_hot(self.label[0])
        logits = torch.linspace(-4, 4, 36).reshape(1, 1, 6, 6)
        call = {
            "dice": lambda: overlap(logits, ref, metric="dice"),
            "hd95": lambda: hausdorff95(logits, ref, spacing=(1, 1)),
            "nsd": lambda: surface_dice(logits, ref, spacing=(1, 1), tolerance=1),
        }[function]
        with pytest.raises(ValueError, match=r"one-hot.*-4.0 to 4.0"):
            call()

    def test_a_voxel_in_two_channels(self):
        twice = torch.ones(1, 2, 4, 4, dtype=torch.bool)
        with pytest.raises(ValueError, match="two channels"):
            overlap(twice, twice, metric="dice")

    def test_a_class_beyond_the_task(self):
        with pytest.raises(ValueError, match=r"holds class 2, expected 0 .* to 1"):
            values(2 * self.label, self.label)
        with pytest.raises(ValueError, match="holds class -1"):
            values(-self.label.astype(np.int64), self.label)

    def test_shapes_that_differ(self):
        with pytest.raises(ShapeError, match=r"\(1, 6, 5\).*\(1, 6, 6\)"):
            values(self.label[..., :5], self.label)

    def test_a_case_without_voxels(self):
        with pytest.raises(ShapeError, match="no voxels"):
            values(self.label[:0], self.label[:0])

    def test_spacing_left_out(self):
        with pytest.raises(TypeError, match="spacing"):
            case_metrics(self.label, self.label, n_classes=1, tolerance=1.0, unit="mm")
        with pytest.raises(TypeError, match="spacing"):
            hausdorff95(one_hot(self.label[0]), one_hot(self.label[0]))

    def test_spacing_of_another_dimension(self):
        with pytest.raises(ShapeError, match=r"1 values.*3 axes"):
            values(self.label, self.label, spacing=(1.0,))
        with pytest.raises(ShapeError, match=r"3 values.*2 spatial"):
            hausdorff95(one_hot(self.label[0]), one_hot(self.label[0]), spacing=(1, 1, 1))

    @pytest.mark.parametrize("spacing", [(0.0, 1.0), (1.0, np.nan), (-1.0, 1.0)])
    def test_spacing_that_is_no_length(self, spacing):
        with pytest.raises(ConfigError, match="positive and finite"):
            values(self.label, self.label, spacing=spacing)

    @pytest.mark.parametrize("tolerance", [-1.0, np.inf, (1.0, 2.0)])
    def test_tolerance_out_of_range(self, tolerance):
        with pytest.raises(ConfigError, match="tolerance"):
            values(self.label, self.label, tolerance=tolerance)

    def test_a_misspelt_metric(self):
        with pytest.raises(ConfigError, match=r"'dise'.*did you mean 'dice'"):
            values(self.label, self.label, ["dise"])


def test_the_examples_in_the_docstrings_hold():
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0


def test_the_mean_dice_of_a_case_is_over_the_classes_of_its_reference():
    label = np.zeros((2, 4, 4), np.uint8)
    label[0, :2], label[0, 2:] = 1, 2
    pred = label.copy()
    pred[0, 1], pred[1] = 0, 3  # half of class 1, all of class 2, and class 3 without a reference
    assert mean_dice(pred, label, 3) == pytest.approx((2 / 3 + 1) / 2)
    assert np.isnan(mean_dice(pred, np.zeros_like(label), 3))


@pytest.mark.parametrize("spacing", [(2.0, 0.5), (5.0, 2.0, 0.5)])
def test_the_mean_dice_of_a_case_does_not_depend_on_its_spacing(spacing):
    rng = np.random.default_rng(0)
    pred, label = (rng.integers(0, 3, (3, 6, 6)).astype(np.uint8) for _ in range(2))
    found = values(pred, label, ("dice",), n_classes=2, spacing=spacing)
    assert mean_dice(pred, label, 2) == np.mean([row.value for row in found.values()])
