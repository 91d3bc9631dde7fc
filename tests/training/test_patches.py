from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import get_track_meta

from analogmed.data import Case, Sample, Task
from analogmed.training.config import LoadingConfig
from analogmed.training.patches import PatchSampler


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


def test_about_half_of_the_patches_hold_a_rare_structure(spots):
    """By chance it would be 3 / 12 slices times a patch's share of the positions, below 10 %."""
    sampler = sampler_of(spots)
    held = [
        bool(label.any()) for e in range(100) for _, labels in sampler.epoch(e) for label in labels
    ]
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
    def epoch(sampler, number):
        return torch.cat([images for images, _ in sampler.epoch(number)])

    first, other_seed = sampler_of(spots), sampler_of(spots, seed=1)
    third = epoch(first, 3)
    epoch(first, 0)
    torch.manual_seed(5)
    np.random.seed(5)
    assert torch.equal(epoch(first, 3), third)
    assert torch.equal(epoch(sampler_of(spots), 3), third)
    assert not torch.equal(epoch(first, 4), third)
    assert not torch.equal(epoch(other_seed, 3), third)


def test_samples_are_not_changed_by_augmentation(spots):
    before = spots.read(spots.train[0]).image.copy()
    list(sampler_of(spots).epoch(0))
    assert np.array_equal(spots.read(spots.train[0]).image, before)


def test_the_setting_of_monai_is_left_as_it_was(spots):
    assert get_track_meta()
    for _ in sampler_of(spots).epoch(0):
        assert get_track_meta()


def test_the_real_task_gives_the_same_patches_in_any_order_of_reading(tiny_task):
    task = tiny_task.load()
    images, labels = next(iter(sampler_of(task).epoch(0)))
    assert images.shape == (4, task.in_channels, *task.window)
    assert set(labels.unique().tolist()) <= {0, 1}
    assert torch.equal(next(iter(sampler_of(replace(task)).epoch(0)))[0], images)
