"""Own data: order of the axes, voxel sizes and a name."""

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.metrics import compute_dice
from monai.networks.nets import BasicUNet
from monai.transforms import (
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Orientationd,
)

from analogmed.config import TaskConfig
from analogmed.data import load_task
from analogmed.data.datasets.nifti_folder import load_nifti
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.metrics.case import case_metrics
from analogmed.network.inference import predict_logits, to_classes

SHAPE = (32, 24, 16)
LPS = np.diag([-2.0, -1.0, 3.0, 1.0])
BOX = (6, 3, 4), (20, 12, 9)
BOX_RAS = (12, 12, 4), (26, 21, 9)
OPTIONS = {"images": ["img.nii"], "label": "seg.nii", "classes": {"lesion": 1}}


def write_case(folder, affine=LPS, shape=SHAPE):
    folder.mkdir(parents=True)
    random = np.random.default_rng(len(folder.name))
    label = np.zeros(shape, np.uint8)
    label[tuple(map(slice, *BOX))] = 1
    image = random.normal(100, 10, shape).astype(np.float32) + 30 * label
    image += np.linspace(0, 40, shape[0], dtype=np.float32)[:, None, None]
    for name, data in (("img", image), ("seg", label)):
        nib.save(nib.Nifti1Image(data, affine), folder / f"{name}.nii")


@pytest.fixture
def root(tmp_path):
    write_case(tmp_path / "p1")
    return tmp_path


def sample_of(root, **options):
    task = load_nifti(root, **OPTIONS, **options)
    return task.read(task.test[0])


class Located(BasicUNet):
    """A network that has learned where along (X, Y, Z) the lesion is, and sees noise."""

    def forward(self, image):
        inside = 1
        for axis, (start, stop) in enumerate(zip(*BOX_RAS, strict=True)):
            position = torch.arange(image.shape[2 + axis])
            shape = [1] * axis + [-1] + [1] * (2 - axis)
            inside = inside * ((position >= start) & (position < stop)).reshape(shape)
        noise = super().forward(image)
        return (noise - noise.mean()) / (2 * noise.std()) + 2 * inside - 1


def dice_of(network, sample, window):
    images = torch.from_numpy(sample.image)
    with torch.inference_mode():
        logits = predict_logits(network, images, window=window, batch_size=1)
    (row,) = case_metrics(
        to_classes(logits),
        sample.label,
        n_classes=1,
        spacing=sample.spacing,
        tolerance=1.0,
        unit="mm",
        metrics=("dice",),
    )
    return row.value


def test_a_network_trained_on_monais_axes_has_the_dice_that_monai_computes(root):
    torch.manual_seed(3)
    network = Located(3, 1, 1, features=(4, 4, 4, 4, 4, 4)).eval()
    pipeline = Compose(
        [
            LoadImaged(["image", "label"]),
            EnsureChannelFirstd(["image", "label"]),
            Orientationd(["image", "label"], axcodes="RAS", labels=None),
            NormalizeIntensityd("image"),
        ]
    )
    case = pipeline({"image": root / "p1" / "img.nii", "label": root / "p1" / "seg.nii"})
    image, label = case["image"].as_tensor()[None], case["label"].as_tensor()[None]
    with torch.inference_mode():
        expected = float(compute_dice((network(image) > 0).float(), label))
    assert 0.3 < expected < 0.95
    ours = dice_of(network, sample_of(root, axes="xyz"), SHAPE)
    assert ours == pytest.approx(expected, abs=1e-4)
    assert dice_of(network, sample_of(root), SHAPE[::-1]) < expected - 0.1


def test_axes_permute_image_label_and_voxel_size_together(root):
    zyx, xyz = sample_of(root), sample_of(root, axes="xyz")
    assert xyz.image.shape == (1, 1, *SHAPE)
    np.testing.assert_array_equal(xyz.image, zyx.image.transpose(0, 1, 4, 3, 2))
    np.testing.assert_array_equal(xyz.label, zyx.label.transpose(0, 3, 2, 1))
    assert (xyz.spacing, zyx.spacing) == ((2.0, 1.0, 3.0), (3.0, 1.0, 2.0))


def test_surface_distances_do_not_depend_on_the_axes(root):
    found = []
    for sample in (sample_of(root), sample_of(root, axes="xyz")):
        shifted = np.roll(sample.label, 2, axis=1 + sample.spacing.index(2.0))
        rows = case_metrics(
            torch.from_numpy(shifted), sample.label, n_classes=1, spacing=sample.spacing,
            tolerance=1.0, unit="mm", metrics=("dice", "hd95", "nsd"),
        )  # fmt: skip
        found.append([row.value for row in rows])
    assert found[0] == pytest.approx(found[1])


def test_size_and_window_follow_the_axes(root):
    task = load_nifti(root, **OPTIONS, axes="xyz", size=(16, 12, 8), window=(16, 8, 8))
    sample = task.read(task.test[0])
    assert (task.window, sample.label.shape) == ((16, 8, 8), (1, 16, 12, 8))
    assert sample.spacing == (4.0, 2.0, 6.0)


@pytest.mark.parametrize(
    ("options", "order", "names"),
    [
        ({}, (2, 1, 0), "zyx"),
        ({"axes": "xyz"}, (2, 0, 1), "zxy"),
        ({"axes": "xyz", "slice_axis": 0}, (0, 1, 2), "xyz"),
        ({"slice_axis": 1}, (1, 2, 0), "yzx"),
    ],
)
def test_slices_have_their_axis_first(root, options, order, names):
    task = load_nifti(root, **OPTIONS, spatial_dims=2, **options)
    sample = task.read(task.test[0])
    assert task.axes == names
    assert sample.label.shape == tuple(SHAPE[axis] for axis in order)
    assert sample.spacing == tuple((2.0, 1.0, 3.0)[axis] for axis in order)


@pytest.mark.parametrize(("axes", "spacing"), [("zyx", (5.0, 1.0, 1.0)), ("xyz", (1.0, 1.0, 5.0))])
def test_a_voxel_size_of_the_settings_replaces_that_of_the_files(root, axes, spacing):
    sample = sample_of(root, axes=axes, spacing_mm=list(spacing))
    assert sample.spacing == spacing


def without_voxel_size(path):
    content = bytearray(path.read_bytes())
    content[80:92] = bytes(12)  # pixdim[1:4]
    content[252:256] = bytes(4)  # qform_code, sform_code
    path.write_bytes(content)


def test_files_without_a_voxel_size_are_read_if_the_settings_have_one(root):
    for name in ("img.nii", "seg.nii"):
        without_voxel_size(root / "p1" / name)
    with pytest.raises(DataError, match=r"set task\.options\.spacing_mm"):
        sample_of(root)
    assert sample_of(root, spacing_mm=(2, 1, 1)).spacing == (2.0, 1.0, 1.0)


def test_a_label_with_another_affine_is_read_if_the_settings_replace_the_geometry(root):
    path = root / "p1" / "seg.nii"
    label = np.asarray(nib.load(path).dataobj).copy()
    nib.save(nib.Nifti1Image(label, np.eye(4)), path)
    with pytest.raises(DataError, match="corners lie up to"):
        sample_of(root)
    with pytest.raises(DataError, match=r"the axes LPS, but .* RAS; .*orientation to file"):
        sample_of(root, spacing_mm=(3, 1, 2))
    sample = sample_of(root, spacing_mm=(3, 1, 2), orientation="file")
    np.testing.assert_array_equal(sample.label[0], label.T)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": "xzy"}, r"axes: expected 'zyx' or 'xyz', got 'xzy'"),
        ({"axes": "xyz", "slice_axis": 0}, "slice_axis: expected no value"),
        ({"spacing_mm": (1, 1)}, r"spacing_mm: expected three voxel sizes .*, got \(1, 1\)"),
        ({"spacing_mm": (1, 1, 0)}, "spacing_mm: expected three"),
        ({"spacing_mm": 2}, "spacing_mm: expected three"),
    ],
)
def test_wrong_axes_and_voxel_sizes_are_refused(root, options, message):
    with pytest.raises(ConfigError, match=message):
        load_nifti(root, **OPTIONS, **options)


def test_own_data_have_a_name_of_their_own(root):
    assert load_task("nifti", root, name="knees", **OPTIONS).name == "knees"
    config = TaskConfig("nifti", root, options={**OPTIONS, "name": "knees"})
    assert (config.own_name, config.load().name) == ("knees", "knees")
    assert load_task("nifti", root, **OPTIONS).name == "nifti"


@pytest.mark.parametrize(
    ("name", "own", "message"),
    [
        ("phantom_brain", "knees", r"task\.options\.name: .* Write task\.name for another"),
        ("nifti", 3, r"task\.options\.name: expected a name for the data, got 3"),
        ("nifti", " ", r"task\.options\.name: expected a name"),
    ],
)
def test_a_name_is_text_and_only_for_own_data(root, name, own, message):
    with pytest.raises(ConfigError, match=message):
        TaskConfig(name, root, options={**OPTIONS, "name": own}).load()
