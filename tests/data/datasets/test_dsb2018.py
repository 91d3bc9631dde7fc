import json
import pickle

import numpy as np
import pytest
from PIL import Image

from analogmed.data.datasets.dsb2018 import count_overlaps, load_dsb2018
from analogmed.foundation.errors import ConfigError, DataError

SHAPE = (20, 30)


def write_image(root, image_id, pixels, masks):
    folder = root / "stage1_train" / image_id
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
    for n, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{n:02}.png")
    return folder


@pytest.fixture
def nuclei():
    masks = np.zeros((3, *SHAPE), dtype=bool)
    masks[0, 2:6, 2:6] = masks[1, 10:14, 20:25] = masks[2, 13:16, 20:25] = True
    return masks


@pytest.fixture
def folder(tmp_path, nuclei):
    """A dark-field grey image, a stained colour image on white, and a plain grey file."""
    inside = nuclei.any(axis=0)[..., None]
    opaque = np.full((*SHAPE, 1), 255, dtype=np.uint8)
    dark = np.where(inside, 60, 5).astype(np.uint8).repeat(3, axis=-1)
    stained = np.where(inside, [90, 30, 120], [240, 230, 235]).astype(np.uint8)
    write_image(tmp_path, "dark", np.concatenate([dark, opaque], -1), nuclei)
    write_image(tmp_path, "stained", np.concatenate([stained, opaque], -1), nuclei)
    write_image(tmp_path, "plain", dark[..., 0], nuclei)
    return tmp_path


def read(root, image_id, **options):
    task = load_dsb2018(root, **options)
    cases = {case.case_id: case for case in task.train + task.validation + task.test}
    return task.read(cases[image_id])


@pytest.mark.parametrize("image_id", ["dark", "stained", "plain"])
def test_label_is_the_union_of_the_instance_masks(folder, nuclei, image_id):
    np.testing.assert_array_equal(read(folder, image_id).label, nuclei.any(axis=0)[None])


@pytest.mark.parametrize("image_id", ["dark", "stained", "plain"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_dark_and_bright_backgrounds_are_both_normalised(folder, image_id, n_channels):
    sample = read(folder, image_id, n_channels=n_channels)
    assert sample.image.shape == (1, n_channels, *SHAPE)
    assert sample.image.dtype == np.float32
    np.testing.assert_allclose(sample.image.mean(axis=(2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(sample.image.std(axis=(2, 3)), 1, atol=1e-4)
    contrast = sample.image[0, :, 3, 3] - sample.image[0, :, 0, 0]
    assert (contrast < 0).all() if image_id == "stained" else (contrast > 0).all()


def test_grey_images_have_equal_channels_and_the_alpha_channel_is_dropped(folder):
    image = read(folder, "dark").image
    np.testing.assert_array_equal(image[:, 0], image[:, 2])
    np.testing.assert_array_equal(image, read(folder, "plain").image)


def test_overlaps_are_counted_and_belong_to_the_label_once(folder):
    task = load_dsb2018(folder)
    assert {count_overlaps(case) for case in task.test} == {5}


def test_merged_label_file_stands_in_for_the_masks(folder, nuclei):
    masks = folder / "stage1_train" / "dark" / "masks"
    for path in masks.iterdir():
        path.unlink()
    merged = nuclei.any(axis=0).astype(np.uint8) * 255
    Image.fromarray(merged).save(masks.parent / "label.png")
    np.testing.assert_array_equal(read(folder, "dark").label, nuclei.any(axis=0)[None])


def test_image_without_a_label_is_refused(folder):
    for path in (folder / "stage1_train" / "dark" / "masks").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="dark: no label"):
        load_dsb2018(folder)


def test_second_or_missing_image_is_refused(folder):
    images = folder / "stage1_train" / "dark" / "images"
    Image.new("L", (30, 20)).save(images / "second.png")
    with pytest.raises(DataError, match="dark: 2 PNG"):
        load_dsb2018(folder)
    for path in images.iterdir():
        path.unlink()
    with pytest.raises(DataError, match="dark: 0 PNG"):
        load_dsb2018(folder)


def test_mask_of_another_shape_is_refused_with_both_shapes(folder):
    path = folder / "stage1_train" / "dark" / "masks" / "01.png"
    Image.new("L", (31, 20)).save(path)
    with pytest.raises(DataError, match=r"case dark: .*\(20, 30\).*01\.png.*\(20, 31\)"):
        read(folder, "dark")


def test_damaged_mask_is_refused(folder):
    path = folder / "stage1_train" / "dark" / "masks" / "01.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"case dark: .*01\.png"):
        read(folder, "dark")


def test_constant_image_is_accepted(folder):
    Image.new("L", (30, 20), 7).save(folder / "stage1_train" / "dark" / "images" / "dark.png")
    assert not read(folder, "dark").image.any()


def test_size_resamples_and_adapts_the_spacing(folder):
    sample = read(folder, "stained", size=(10, 10))
    assert sample.image.shape == (1, 3, 10, 10)
    assert sample.label.shape == (1, 10, 10)
    assert sample.spacing == (2.0, 3.0)


def test_task_describes_itself_and_travels_to_a_worker(folder):
    task = pickle.loads(pickle.dumps(load_dsb2018(folder / "stage1_train")))
    assert (task.spatial_dims, task.channels) == (2, ("red", "green", "blue"))
    assert (task.classes, task.window, task.spacing_unit) == (("nucleus",), (256, 256), "px")
    assert task.read(task.test[0]).spacing == (1.0, 1.0)


def test_unknown_channel_count_and_other_folders_are_refused(folder, tmp_path_factory):
    with pytest.raises(ConfigError, match="n_channels"):
        load_dsb2018(folder, n_channels=2)
    with pytest.raises(DataError, match="stage1_train"):
        load_dsb2018(tmp_path_factory.mktemp("other"))


@pytest.mark.slow
def test_real_subset_has_the_120_images_and_nucleus_shares_of_its_manifest(shared_data):
    manifest = json.loads((shared_data / "dsb2018" / "MANIFEST.json").read_text())["images"]
    task = load_dsb2018(shared_data / "dsb2018")
    cases = task.train + task.validation + task.test
    assert {case.case_id for case in cases} == set(manifest)
    assert len(cases) == 120
    for case in cases:
        facts, sample = manifest[case.case_id], task.read(case)
        assert sorted(sample.label.shape[1:]) == sorted(facts["size"])
        assert sample.label.mean() == pytest.approx(facts["fg_frac"], abs=1e-9)
        assert np.isfinite(sample.image).all()


@pytest.mark.slow
def test_real_subset_has_104_grey_and_16_colour_images(shared_data):
    task = load_dsb2018(shared_data / "dsb2018")
    images = [task.read(case).image[0] for case in task.train + task.validation + task.test]
    assert sum(bool((image[0] == image).all()) for image in images) == 104
