from types import SimpleNamespace

import numpy as np
import pytest

from analogmed.evaluation.studies.uncertainty.conformal import (
    THRESHOLDS,
    MaskCounts,
    control_risk,
    control_risk_without_each,
    needed,
)
from analogmed.evaluation.studies.uncertainty.conformal_table import ConformalCounts
from analogmed.foundation.errors import ConfigError, ShapeError
from analogmed.kinds.segmentation import SEGMENTATION


def patient(rng, *, shift=0.0, voxels=60):
    """One patient's counts: probabilities about a level of the patient's own."""
    level = rng.normal(1.0 - shift, 1.0)
    inside = rng.random(voxels) < 0.4
    logits = rng.normal(np.where(inside, level, -2.0), 1.0)
    return MaskCounts.of(1 / (1 + np.exp(-logits)), inside)


def test_counts_are_those_of_thresholding():
    rng = np.random.default_rng(0)
    prob, inside = rng.random((3, 7, 7)), rng.random((3, 7, 7)) < 0.3
    counts = MaskCounts.of(prob, inside)
    for index in (0, 100, 320, 500, 641):
        mask = prob >= THRESHOLDS[index]
        assert counts.marked[index] == mask.sum()
        assert counts.found[index] == (mask & inside).sum()
        share = 1 - (mask & inside).sum() / inside.sum()
        assert counts.missed_share[index] == pytest.approx(share)
    assert counts.missed_share[0] == 0.0


def test_counts_of_slices_add_up():
    rng = np.random.default_rng(1)
    prob, inside = rng.random((2, 5)), rng.random((2, 5)) < 0.5
    summed = MaskCounts.of(prob[0], inside[0]) + MaskCounts.of(prob[1], inside[1])
    whole = MaskCounts.of(prob, inside)
    assert (summed.found == whole.found).all() and (summed.marked == whole.marked).all()
    assert (summed.structure, summed.voxels) == (whole.structure, whole.voxels)


def test_without_a_structure_the_share_is_undefined_and_left_out():
    empty = MaskCounts.of(np.full(4, 0.9), np.zeros(4))
    assert np.isnan(empty.missed_share).all()
    rng = np.random.default_rng(2)
    curves = [patient(rng).missed_share for _ in range(20)]
    assert control_risk([*curves, empty.missed_share], 0.2) == control_risk(curves, 0.2)


def test_the_threshold_is_the_highest_with_the_finite_sample_bound():
    rng = np.random.default_rng(3)
    curves = np.array([patient(rng).missed_share for _ in range(30)])
    found = control_risk(curves, 0.15)
    bound = (30 * curves.mean(0) + 1) / 31
    assert bound[found.index] <= 0.15 < bound[found.index + 1]
    assert found.threshold == THRESHOLDS[found.index]
    assert (found.n_units, found.trivial) == (30, False)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("n_units", "alpha"), [(9, 0.1), (20, 0.1), (40, 0.2)])
def test_the_expected_miss_of_a_further_patient_is_at_most_alpha(n_units, alpha):
    """Exchangeable patients: the mean over many draws of calibration and test stays below."""
    rng = np.random.default_rng(4)
    misses = []
    for _ in range(1000):
        control = control_risk([patient(rng).missed_share for _ in range(n_units)], alpha)
        misses.append(patient(rng).missed_share[control.index])
    error = np.std(misses) / np.sqrt(len(misses))
    assert np.mean(misses) <= alpha + 3 * error
    # Not by marking everything: the bound is tight up to 2 / (n + 1) (theorem 2).
    assert np.mean(misses) >= alpha - 2 / (n_units + 1) - 3 * error


@pytest.mark.exhaustive
def test_without_the_finite_sample_term_the_promise_would_break():
    rng = np.random.default_rng(5)
    misses = []
    for _ in range(3000):
        mean = np.mean([patient(rng).missed_share for _ in range(9)], 0)
        index = np.flatnonzero(mean <= 0.1)[-1]
        misses.append(patient(rng).missed_share[index])
    assert np.mean(misses) > 0.1 + 3 * np.std(misses) / np.sqrt(3000)


def test_patients_that_have_drifted_are_missed_more_often():
    rng = np.random.default_rng(6)
    control = control_risk([patient(rng).missed_share for _ in range(200)], 0.1)
    later = [patient(rng, shift=1.5).missed_share[control.index] for _ in range(500)]
    assert np.mean(later) > 0.15


def test_too_few_units_mark_every_voxel_and_say_so():
    rng = np.random.default_rng(7)
    few = control_risk([patient(rng).missed_share for _ in range(8)], 0.1)
    assert (few.threshold, few.trivial) == (0.0, True)
    perfect = np.zeros((9, len(THRESHOLDS)))
    assert not control_risk(perfect, 0.1).trivial
    assert control_risk(perfect, 0.1).index == len(THRESHOLDS) - 1
    assert control_risk([], 0.1).trivial


def test_units_needed_are_one_less_than_one_over_alpha():
    assert [needed(alpha) for alpha in (0.5, 0.25, 0.1, 0.05, 0.01)] == [1, 3, 9, 19, 99]


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1, float("nan")])
def test_an_alpha_outside_its_range_is_refused(alpha):
    with pytest.raises(ConfigError, match="alpha: expected a finite number above 0 and below 1"):
        control_risk([], alpha)


def test_losses_that_fall_are_refused():
    with pytest.raises(ValueError, match="not fall with the threshold"):
        control_risk(np.linspace(1, 0, len(THRESHOLDS))[None], 0.1)
    with pytest.raises(ShapeError, match="probabilities have shape"):
        MaskCounts.of(np.zeros(3), np.zeros(4))


def test_thresholds_that_leave_one_unit_out_are_those_of_the_others():
    rng = np.random.default_rng(5)
    calibration = [patient(rng).missed_share for _ in range(6)]
    test = [patient(rng).missed_share for _ in range(12)]
    test.insert(3, np.full(len(THRESHOLDS), np.nan))  # without the structure
    for alpha in (0.05, 0.1, 0.3):
        expected = [
            control_risk([*calibration, *test[:i], *test[i + 1 :]], alpha) for i in range(len(test))
        ]
        assert control_risk_without_each(test, calibration, alpha) == expected
    assert control_risk_without_each([], calibration, 0.1) == []


class Counting(MaskCounts):
    """Counts that register each use of their curve."""

    uses = 0

    @property
    def missed_share(self):
        Counting.uses += 1
        return super().missed_share


def masks_of(n_patients):
    """Digital counts and those of one chip at one time, of patients with one class."""
    rng = np.random.default_rng(0)
    found = ConformalCounts(SimpleNamespace(classes=("tumour",), kind=SEGMENTATION))
    for number in range(n_patients):
        for time_s in (-1.0, 0.0):
            counts = patient(rng)
            found.counts[time_s, 0, 0, 1, f"p{number}"] = Counting(**vars(counts))
    return found


@pytest.mark.parametrize("leave_one_out", [False, True])
def test_the_work_grows_with_the_number_of_patients_and_not_with_its_square(leave_one_out):
    uses = []
    for n in (10, 20):
        masks, names = masks_of(n), [f"p{number}" for number in range(n)]
        Counting.uses = 0
        rows = masks.evaluate(names[:4], names[4:], 0.3, leave_one_out=leave_one_out)
        assert len(rows) == 4 * (n - 4)  # digital; on the chip by each of three calibrations
        uses.append(Counting.uses / n)
    assert uses[1] < 1.5 * uses[0]
