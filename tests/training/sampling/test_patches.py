from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import get_track_meta

from analogmed.data import Case, Sample, Task
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.training.sampling.patches import PatchSampler
from analogmed.training.settings import LoadingConfig


def task_of(images, labels, window):
    """A task whose cases are these arrays: images (N, C, *spatial), labels (N, *spatial)."""
    cases = tuple(Case(str(i), str(i), (), ()) for i in range(len(images)))

    def read(case):
        index = int(case.case_id)
        return Sample(images[index], labels[index], (1.0,) * len(window), case)

    return Task(
        "arrays", Path(), len(window), ("grey",), ("spot",), window, "px", cases, (), (), read
    )


@pytest.fixture
def spots():
    """Twelve slices of which three hold one foreground pixel."""
    labels = np.zeros((4, 3, 40, 40), dtype=np.uint8)
    labels[:3, 1, 30, 5] = 1
    images = np.random.default_rng(0).normal(size=(4, 3, 1, 40, 40)).astype(np.float32)
    return task_of(images, labels, (16, 16))


PLAIN = LoadingConfig(augment=False)


def sampler_of(task, **settings):
    return PatchSampler(task, task.train, **{"batch_size": 4, "seed": 0, **settings})


def all_of(sampler, number=0, first=0):
    """An epoch as one tensor of images and one of labels."""
    images, labels = zip(*sampler.epoch(number, first), strict=True)
    return torch.cat(images), torch.cat(labels)


def same(one, other):
    return all(map(torch.equal, one, other))


def test_batches_have_the_window_and_an_epoch_as_many_patches_as_slices(spots):
    sampler = sampler_of(spots)
    batches = list(sampler.epoch(0))
    assert len(sampler) == len(batches) == 12 // 4
    for images, labels in batches:
        assert (images.shape, images.dtype) == ((4, 1, 16, 16), torch.float32)
        assert (labels.shape, labels.dtype) == ((4, 1, 16, 16), torch.int64)


def test_fewer_slices_than_a_batch_still_make_one(spots):
    sampler = sampler_of(spots, batch_size=50)
    assert len(sampler) == 1
    assert next(iter(sampler.epoch(0)))[0].shape[0] == 50


@pytest.mark.slow
def test_about_half_of_the_patches_hold_a_rare_structure(spots):
    """By chance it would be 3 / 12 slices times a patch's share of the positions, below 10 %."""
    sampler = sampler_of(spots)
    held = [bool(label.any()) for e in range(100) for label in all_of(sampler, e)[1]]
    deviation = (0.25 / len(held)) ** 0.5
    assert 0.5 - 4 * deviation < np.mean(held) < 0.6 + 4 * deviation


def test_without_any_foreground_patches_lie_anywhere(spots):
    images = np.ones((2, 3, 1, 40, 40), dtype=np.float32)
    empty = task_of(images, np.zeros((2, 3, 40, 40), dtype=np.uint8), (16, 16))
    assert all(not labels.any() for _, labels in sampler_of(empty).epoch(0))


@pytest.mark.parametrize("n_dims", [2, 3])
def test_image_and_label_are_cropped_together(n_dims):
    labels = (np.random.default_rng(0).random((2, 1, *(20,) * n_dims)) < 0.3).astype(np.uint8)
    images = 100.0 * labels[:, :, None].astype(np.float32)
    sampler = sampler_of(task_of(images, labels, (16,) * n_dims), loading=PLAIN)
    for epoch in range(5):
        for image, label in sampler.epoch(epoch):
            assert torch.equal((image > 50).long(), label)


def test_an_image_smaller_than_the_window_is_padded():
    images, labels = np.full((1, 1, 1, 10, 30), 5, np.float32), np.ones((1, 1, 10, 30), np.uint8)
    for image, label in sampler_of(task_of(images, labels, (16, 16)), loading=PLAIN).epoch(0):
        assert image.shape == label.shape == (4, 1, 16, 16)
        assert label.sum(dim=(1, 2, 3)).tolist() == [10 * 16] * 4


def test_an_epoch_depends_on_seed_and_number_alone(spots):
    first = sampler_of(spots)
    third = all_of(first, 3)
    all_of(first, 0)
    torch.manual_seed(5)
    np.random.seed(5)
    assert same(all_of(first, 3), third)
    assert same(all_of(sampler_of(spots), 3), third)
    assert not same(all_of(first, 4), third)
    assert not same(all_of(sampler_of(spots, seed=1), 3), third)


def test_an_epoch_goes_on_at_any_batch_as_if_it_had_not_stopped(spots):
    batches = list(sampler_of(spots).epoch(2))
    for first in range(len(batches)):
        went_on = list(sampler_of(spots).epoch(2, first))
        assert len(went_on) == len(batches) - first
        assert all(map(same, went_on, batches[first:]))


@pytest.mark.parametrize("n_samples", [0, 1, 2])
def test_the_size_of_the_cache_does_not_change_the_patches(spots, n_samples):
    sample = spots.read(spots.train[0])
    limit = n_samples * (sample.image.nbytes + sample.label.nbytes)
    small = sampler_of(spots, loading=LoadingConfig(cache_bytes=limit, patches_per_image=4))
    assert same(
        all_of(small), all_of(sampler_of(spots, loading=LoadingConfig(patches_per_image=4)))
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("cache_bytes", [0, 2**30])
def test_reading_ahead_does_not_change_the_patches(spots, workers, cache_bytes):
    loading = LoadingConfig(workers=workers, cache_bytes=cache_bytes)
    ahead = sampler_of(spots, loading=loading)
    for epoch in (0, 1):
        assert same(all_of(ahead, epoch), all_of(sampler_of(spots), epoch))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_together_draw_the_patches_of_one(spots, world_size):
    alone = list(sampler_of(spots).epoch(1))
    ranks = [
        list(sampler_of(spots, rank=rank, world_size=world_size).epoch(1))
        for rank in range(world_size)
    ]
    for batch, whole in enumerate(alone):
        for rank in range(world_size):
            assert same(ranks[rank][batch], [part[rank::world_size] for part in whole])


@pytest.mark.parametrize("workers", [0, 1])
def test_drawing_leaves_the_global_random_state_alone(spots, workers):
    state = torch.random.get_rng_state()
    all_of(sampler_of(spots, loading=LoadingConfig(workers=workers)))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_data_beyond_the_cache_are_read_once_an_epoch():
    """Six groups of two cases, of which the cache holds three."""
    images = np.zeros((12, 5, 1, 20, 20), dtype=np.float32)
    labels = np.ones((12, 5, 20, 20), dtype=np.uint8)
    task, reads = task_of(images, labels, (16, 16)), []
    counted = replace(task, read=lambda case: reads.append(case.case_id) or task.read(case))
    loading = LoadingConfig(
        cache_bytes=3 * (images[0].nbytes + labels[0].nbytes), mixed_cases=2, patches_per_image=4
    )
    sampler = sampler_of(counted, loading=loading, batch_size=10)
    reads.clear()
    all_of(sampler)
    assert set(reads) <= {case.case_id for case in task.train}
    assert 12 - 3 <= len(reads) <= 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "least", "most"),
    [
        ({}, 0, 0),
        ({"cache": 3}, 24, 240),
        ({"cache": 3, "mixed_bytes": 3}, 12, 18),  # a batch may have patches of two groups
        ({"cache": 3, "mixed_cases": 2}, 12, 12),
    ],
)
def test_reads_of_an_epoch_are_foreseen(settings, least, most):
    """Twelve cases, of which the cache holds three; with the default, groups are larger."""
    images = np.zeros((12, 5, 1, 20, 20), dtype=np.float32)
    labels = np.ones((12, 5, 20, 20), dtype=np.uint8)
    size = images[0].nbytes + labels[0].nbytes
    given = dict(settings)
    given["cache_bytes"] = given.pop("cache", 12) * size
    if "mixed_bytes" in given:
        given["mixed_bytes"] *= size
    task, reads = task_of(images, labels, (16, 16)), []
    counted = replace(task, read=lambda case: reads.append(case.case_id) or task.read(case))
    loading = LoadingConfig(patches_per_image=4, **given)
    sampler = sampler_of(counted, loading=loading, batch_size=10)
    all_of(sampler)  # fills the cache
    reads.clear()
    foreseen = sampler.reads_per_epoch()
    all_of(sampler)
    assert foreseen - 3 <= len(reads) <= foreseen  # what is in the cache already is not read
    assert least <= foreseen <= most


def test_centred_patches_show_rare_classes_as_often_as_common_ones():
    labels = np.zeros((3, 4, 40, 40), dtype=np.uint8)
    labels[:, :, 5:9, 5:9] = 1
    labels[2, 3, 39, 0] = 3
    images = np.zeros((3, 4, 1, 40, 40), dtype=np.float32)
    task = replace(task_of(images, labels, (16, 16)), classes=("common", "absent", "rare"))
    sampler = sampler_of(
        task, loading=LoadingConfig(foreground=1.0, augment=False, patches_per_image=10)
    )
    _, patches = all_of(sampler)
    holds = [(patches == index).flatten(1).any(1).sum().item() for index in (1, 2, 3)]
    assert holds[0] >= 60
    assert holds[1:] == [0, 60]
    assert sampler.missing_classes() == ("absent",)


def test_images_of_a_subset_are_read_once_and_as_they_are(spots):
    sampler = sampler_of(spots, loading=LoadingConfig(subset=0.5))
    images = list(sampler.images())
    assert len(images) == round(0.5 * sum(len(spots.read(case).image) for case in spots.train))
    known = [image for case in spots.train for image in spots.read(case).image]
    found = [next(i for i, k in enumerate(known) if np.array_equal(k, image)) for image in images]
    assert len(set(found)) == len(images)


def test_plain_patches_are_cut_from_anywhere_in_the_images(spots):
    """Pixels are numbered, so that each patch tells where it lay."""
    numbered = np.arange(4 * 3 * 40 * 40, dtype=np.float32).reshape(4, 3, 1, 40, 40)
    task = task_of(numbered, np.zeros((4, 3, 40, 40), np.uint8), (16, 16))
    images, _ = all_of(sampler_of(task, loading=replace(PLAIN, patches_per_image=200)))
    first = images[:, 0, 0, 0].long()
    rows, columns = first // 40 % 40, first % 40
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 24, 0, 24)
    assert set((first // 1600).tolist()) == set(range(12))
    steps = 40 * torch.arange(16)[:, None] + torch.arange(16)
    assert torch.equal(images[:, 0].long(), first[:, None, None] + steps)


def test_a_training_without_a_case_is_refused(spots):
    with pytest.raises(DataError, match=r"task arrays has no case.*task\.shares"):
        PatchSampler(spots, (), batch_size=4, seed=0)


@pytest.mark.parametrize("batch_size", [0, 3])
def test_a_batch_that_ranks_cannot_share_evenly_is_refused(spots, batch_size):
    with pytest.raises(ConfigError, match=rf"batch_size {batch_size}.*2 ranks.*multiple of 2"):
        sampler_of(spots, batch_size=batch_size, world_size=2)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_case_that_cannot_be_read_again_is_named(spots, workers):
    sampler = sampler_of(spots, loading=LoadingConfig(cache_bytes=0, workers=workers))

    def fail(case):
        raise DataError(f"case {case.case_id}: gone")

    sampler._cache._read = fail
    with pytest.raises(DataError, match=r"case \d: gone"):
        all_of(sampler)


def test_samples_are_not_changed_by_augmentation(spots):
    before = spots.read(spots.train[0]).image.copy()
    list(sampler_of(spots).epoch(0))
    assert np.array_equal(spots.read(spots.train[0]).image, before)


def test_the_setting_of_monai_is_left_as_it_was(spots):
    assert get_track_meta()
    for _ in sampler_of(spots).epoch(0):
        assert get_track_meta()


@pytest.mark.slow
def test_files_read_again_give_the_same_patches(tiny_task):
    task = tiny_task.load()
    cached, read_again = (
        sampler_of(task, loading=LoadingConfig(cache_bytes=cache)) for cache in (2**30, 0)
    )
    images, labels = all_of(cached)
    assert images.shape[1:] == (task.in_channels, *task.window)
    assert set(labels.unique().tolist()) == {0, 1}
    assert cached.missing_classes() == ()
    assert same(all_of(read_again), (images, labels))
