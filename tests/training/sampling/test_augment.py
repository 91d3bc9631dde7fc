import numpy as np
import pytest
import torch

from analogmed.training.sampling.augment import Augmentation


@pytest.fixture
def disc():
    """A bright disc off the centre: image (1, 48, 48) and label of the same shape."""
    rows, columns = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    label = ((rows - 20) ** 2 + (columns - 26) ** 2 < 14**2)[None].to(torch.uint8)
    return label.float(), label


def test_the_seed_alone_decides_the_change(disc):
    augmentation = Augmentation(2)
    first = augmentation(*disc, seed=2**40 + 7)
    augmentation(*disc, seed=1)
    for changed in (augmentation(*disc, seed=2**40 + 7), Augmentation(2)(*disc, seed=2**40 + 7)):
        assert all(map(torch.equal, changed, first))
    images = {tuple(augmentation(*disc, seed=seed)[0].flatten().tolist()) for seed in range(50)}
    assert len(images) > 45


def test_image_and_label_move_together(disc):
    for seed in range(100):
        image, label = Augmentation(2)(*disc, seed=seed)
        bright = image > (image.min() + image.max()) / 2
        overlap = 2 * (bright & (label > 0)).sum() / (bright.sum() + (label > 0).sum())
        assert overlap > 0.95


def test_labels_keep_to_their_classes_and_the_patch_to_its_shape(disc):
    moved = 0
    for seed in range(50):
        image, label = Augmentation(2)(disc[0], 3 * disc[1], seed=seed)
        assert set(label.unique().tolist()) == {0, 3}
        assert image.shape == label.shape == (1, 48, 48)
        moved += int((label > 0).sum() != disc[1].sum())
    assert moved > 5  # zoomed or rotated, not just flipped


def test_signals_keep_their_form_and_direction():
    """Each channel is scaled and shifted, and noise of 0.05 is small against the signal."""
    signal = torch.stack([torch.linspace(-3, 3, 64) ** 3, torch.linspace(0, 20, 64)])
    changed = 0
    for seed in range(30):
        image, label = Augmentation(1, masks=False)(signal, torch.ones(1), seed=seed)
        assert torch.equal(label, torch.ones(1))
        for before, after in zip(signal, image, strict=True):
            correlation = torch.corrcoef(torch.stack([before, after]))[0, 1]
            assert correlation > 0.999
        changed += int(not torch.equal(image, signal))
    assert changed > 15


def test_a_missing_channel_of_a_signal_stays_0():
    signal = torch.stack([torch.zeros(64), torch.linspace(-1, 1, 64), torch.zeros(64)])
    for seed in range(30):
        image, _ = Augmentation(1, masks=False)(signal, torch.ones(1), seed=seed)
        assert not image[[0, 2]].any()
        assert image[1].any()


def test_volumes_are_rotated_in_plane(disc):
    """A label that is constant on each plane stays so."""
    planes = torch.arange(12, dtype=torch.uint8)[None, :, None, None].expand(1, 12, 24, 24).clone()
    for seed in range(40):
        _, label = Augmentation(3)(planes.float(), planes, seed=seed)
        assert torch.equal(label, label[..., :1, :1].expand_as(label))


def test_the_angle_of_volumes_with_z_first_takes_one_random_number():
    """As a number, so that a seed gives the augmentation of earlier versions."""
    grids = [Augmentation(3, axis)._transforms[3].rand_affine.rand_affine_grid for axis in (0, 2)]
    assert [len(grid.rotate_range) for grid in grids] == [1, 3]


def test_volumes_with_x_first_are_rotated_about_their_last_axis():
    planes = torch.arange(12, dtype=torch.uint8)[None, None, None, :].expand(1, 24, 24, 12).clone()
    for seed in range(20):
        _, label = Augmentation(3, 2)(planes.float(), planes, seed=seed)
        assert torch.equal(label, label[:, :1, :1].expand_as(label))


def test_what_is_given_is_not_changed(disc):
    before = [part.clone() for part in disc]
    for seed in range(20):
        Augmentation(2)(*disc, seed=seed)
    assert all(map(torch.equal, disc, before))


def test_global_random_states_are_left_alone(disc):
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    for seed in range(20):
        Augmentation(2)(*disc, seed=seed)
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_a_constant_patch_stays_finite():
    flat = torch.full((1, 16, 16), 3.0)
    for seed in range(50):
        assert torch.isfinite(Augmentation(2)(flat, torch.zeros_like(flat), seed=seed)[0]).all()
