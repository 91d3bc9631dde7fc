import numpy as np
import pytest

from analogmed.training.sampling.cache import ImageTable
from analogmed.training.sampling.plan import balanced_subset, count_reads, plan_epoch

N_CASES, SLICES = 20, 6


@pytest.fixture
def table():
    """Class 1 is in every third slice of twenty cases, class 3 in one, class 2 nowhere."""
    holds = np.zeros((N_CASES * SLICES, 3), dtype=bool)
    holds[::3, 0] = holds[17, 2] = True
    return ImageTable(
        np.repeat(np.arange(N_CASES), SLICES),
        np.tile(np.arange(SLICES), N_CASES),
        holds,
        np.full(N_CASES, 100),
    )


def plan_of(table, n_patches=1200, **settings):
    return plan_epoch(
        table, n_patches, **{"foreground": 0.5, "mixed_cases": 4, "seed": 0, **settings}
    )


@pytest.mark.parametrize("foreground", [0.0, 0.3, 1.0])
def test_the_wanted_share_is_centred_on_foreground(table, foreground):
    centred = plan_of(table, foreground=foreground).class_index > 0
    deviation = (foreground * (1 - foreground) / 1200) ** 0.5
    assert abs(centred.mean() - foreground) <= 4 * deviation


def test_classes_take_turns_however_rare_and_absent_ones_are_not_drawn(table):
    counts = np.bincount(plan_of(table).class_index, minlength=4)
    assert counts[2] == 0
    assert abs(counts[1] - counts[3]) <= 1


def test_a_patch_of_a_class_comes_from_a_slice_that_holds_it(table):
    plan = plan_of(table)
    for class_index in (1, 3):
        images = plan.image[plan.class_index == class_index]
        assert table.holds[images, class_index - 1].all()


def test_slices_take_turns_so_that_all_are_seen_alike(table):
    plan = plan_of(table, foreground=0.0)
    assert np.bincount(plan.image).tolist() == [1200 // 120] * 120


def test_without_foreground_all_patches_lie_anywhere(table):
    bare = ImageTable(table.case, table.position, np.zeros_like(table.holds), table.sizes)
    assert not plan_of(bare, foreground=1.0).class_index.any()


def test_patches_of_a_group_of_cases_follow_each_other(table):
    """Five groups of four cases: a case leaves the plan for good when its group ends."""
    cases = table.case[plan_of(table).image]
    spans = {
        (int(np.flatnonzero(cases == case)[0]), int(np.flatnonzero(cases == case)[-1]))
        for case in range(N_CASES)
    }
    groups = {frozenset(cases[first : last + 1].tolist()) for first, last in spans}
    assert all(len(group) == 4 for group in groups)
    assert frozenset.union(*groups) == set(range(N_CASES))
    assert len(groups) == N_CASES // 4


def test_patches_of_a_group_are_mixed(table):
    cases = table.case[plan_of(table).image]
    assert (np.diff(cases) != 0).mean() > 0.5


def test_the_seed_decides_the_plan(table):
    first, same, other = (plan_of(table, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.image, same.image)
    assert np.array_equal(first.class_index, same.class_index)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(("limit", "cases"), [(250, 2), (100, 1), (10, 1), (399, 3), (400, 4)])
def test_a_group_is_no_larger_than_its_limit(table, limit, cases):
    """Cases of 100 bytes; all patches of a group precede those of the next."""
    found = table.case[plan_of(table, mixed_bytes=limit).image]
    firsts = [int(np.flatnonzero(found == case)[0]) for case in range(N_CASES)]
    lasts = [int(np.flatnonzero(found == case)[-1]) for case in range(N_CASES)]
    mixed = [sum(f <= place <= e for f, e in zip(firsts, lasts, strict=True)) for place in lasts]
    assert max(mixed) == cases


def test_a_limit_that_no_group_reaches_changes_nothing(table):
    plans = [plan_of(table, mixed_bytes=limit) for limit in (400, np.inf)]
    assert np.array_equal(plans[0].image, plans[1].image)


def test_reads_are_counted_as_the_least_recently_used_case_goes():
    sizes = np.array([1, 1, 2])
    assert count_reads([0, 1, 0, 1], sizes, 2) == 2
    assert count_reads([0, 1, 2, 0], sizes, 3) == 4  # 2 displaces 0
    assert count_reads([0, 1, 0, 2, 0], sizes, 3) == 3  # 2 displaces 1
    assert count_reads([2, 2, 0], sizes, 1) == 2


@pytest.fixture
def classified():
    """Ninety images of class 0, nine of class 1 and one of class 2, in ten cases."""
    label = np.zeros(100, dtype=int)
    label[5:95:10], label[50] = 1, 2
    return ImageTable(
        np.repeat(np.arange(10), 10),
        np.tile(np.arange(10), 10),
        label[:, None] == np.arange(3),
        np.full(10, 100),
    )


def test_a_subset_has_each_class_as_often_as_there_are_images_and_each_image_once(classified):
    subset = balanced_subset(classified, 0.15, seed=0)
    assert subset.holds.sum(axis=0).tolist() == [7, 7, 1]
    whole = list(zip(classified.case, classified.position, classified.holds.tolist(), strict=True))
    kept = list(zip(subset.case, subset.position, subset.holds.tolist(), strict=True))
    assert all(image in whole for image in kept)
    assert len({image[:2] for image in kept}) == len(kept) == 15


def test_a_subset_is_that_of_its_seed(classified):
    first, again, other = (balanced_subset(classified, 0.1, seed) for seed in (0, 0, 1))
    assert (first.case.tolist(), first.position.tolist()) == (
        again.case.tolist(),
        again.position.tolist(),
    )
    assert first.position.tolist() != other.position.tolist()
    assert balanced_subset(classified, 1.0, seed=0) is classified


def test_images_without_a_class_are_a_group_of_their_own(table):
    subset = balanced_subset(table, 0.1, seed=0)
    assert subset.holds.any(axis=1).tolist().count(False) == 5  # the other 7: class 1, and class 3


def test_an_epoch_of_a_subset_has_no_other_image(classified):
    subset = balanced_subset(classified, 0.03, seed=0)
    plan = plan_of(subset, n_patches=30)
    assert set(plan.image) == {0, 1, 2}
