import pickle

import numpy as np
import pytest
import tifffile

from analogmed.data.datasets.lgg import load_lgg
from analogmed.foundation.errors import ConfigError, DataError

PATIENTS = ("TCGA_CS_0001_20000101", "TCGA_DU_0002_19990101", "TCGA_DU_0003_19990101")


@pytest.fixture
def folder(tmp_path):
    """Three scans of eleven slices; the red channel of slice n is n + noise."""
    random = np.random.default_rng(0)
    for patient in PATIENTS:
        (tmp_path / "kaggle_3m" / patient).mkdir(parents=True)
        for n in range(1, 12):
            pixels = random.integers(0, 100, size=(16, 24, 3), dtype=np.uint8)
            pixels[0, 0, 0] = 200 + n
            mask = np.zeros((16, 24), dtype=np.uint8)
            mask[:n, 0] = 255
            stem = tmp_path / "kaggle_3m" / patient / f"{patient}_{n}"
            tifffile.imwrite(f"{stem}.tif", pixels, photometric="rgb")
            tifffile.imwrite(f"{stem}_mask.tif", mask)
    return tmp_path


def all_cases(task):
    return sorted(task.train + task.validation + task.test, key=lambda case: case.case_id)


def first_slice(folder, end="_1.tif"):
    return folder / "kaggle_3m" / PATIENTS[0] / f"{PATIENTS[0]}{end}"


def assert_first_case_refused(folder, *words):
    task = load_lgg(folder)
    with pytest.raises(DataError) as caught:
        task.read(all_cases(task)[0])
    for word in (f"case {PATIENTS[0]}", *words):
        assert word in str(caught.value)


def test_slices_follow_their_numbers(folder):
    task = load_lgg(folder)
    sample = task.read(all_cases(task)[0])
    np.testing.assert_array_equal(sample.label.sum(axis=(1, 2)), np.arange(1, 12))
    assert (np.diff(sample.image[:, 0, 0, 0]) > 0).all()


def test_case_is_a_scan_and_patient_the_tcga_stem(folder):
    cases = all_cases(load_lgg(folder))
    assert tuple(case.case_id for case in cases) == PATIENTS
    assert [c.patient_id for c in cases] == ["TCGA_CS_0001", "TCGA_DU_0002", "TCGA_DU_0003"]


def test_each_channel_is_z_scored_over_the_stack(folder):
    task = load_lgg(folder)
    sample = task.read(all_cases(task)[0])
    assert sample.image.shape == (11, 3, 16, 24)
    assert sample.image.dtype == np.float32
    assert sample.label.dtype == np.uint8
    np.testing.assert_allclose(sample.image.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(sample.image.std(axis=(0, 2, 3)), 1, atol=1e-4)


def test_folder_itself_or_its_parent_may_be_given(folder):
    assert all_cases(load_lgg(folder)) == all_cases(load_lgg(folder / "kaggle_3m"))


def test_hidden_twins_of_macos_are_left_out(folder):
    first_slice(folder).with_name("._twin.tif").write_bytes(b"junk")
    assert len(all_cases(load_lgg(folder))[0].images) == 11


def test_size_resamples_and_adapts_the_spacing(folder):
    task = load_lgg(folder, size=(8, 8))
    sample = task.read(task.test[0])
    assert sample.image.shape == (11, 3, 8, 8)
    assert sample.label.shape == (11, 8, 8)
    assert sample.spacing == (2.0, 3.0)
    assert task.window == (8, 8)


def test_task_describes_itself_and_travels_to_a_worker(folder):
    task = pickle.loads(pickle.dumps(load_lgg(folder)))
    assert (task.spatial_dims, task.in_channels, task.out_channels) == (2, 3, 1)
    assert (task.spacing_unit, task.window) == ("px", (256, 256))
    assert task.read(task.test[0]).spacing == (1.0, 1.0)


def test_constant_channel_and_empty_mask_are_accepted(folder):
    for n in range(1, 12):
        flat = np.full((16, 24, 3), 50, dtype=np.uint8)
        tifffile.imwrite(first_slice(folder, f"_{n}.tif"), flat, photometric="rgb")
        tifffile.imwrite(first_slice(folder, f"_{n}_mask.tif"), np.zeros((16, 24), np.uint8))
    task = load_lgg(folder)
    sample = task.read(all_cases(task)[0])
    assert not sample.image.any()
    assert not sample.label.any()


def test_slice_without_its_mask_is_named(folder):
    first_slice(folder, "_3_mask.tif").unlink()
    with pytest.raises(DataError, match=f"no {PATIENTS[0]}_3_mask.tif in"):
        load_lgg(folder)


def test_file_that_vanishes_after_loading_is_named_with_its_case(folder):
    task = load_lgg(folder)
    first_slice(folder).unlink()
    with pytest.raises(DataError, match=rf"case {PATIENTS[0]}: .*_1\.tif: missing"):
        task.read(all_cases(task)[0])


def test_truncated_slice_is_refused(folder):
    content = first_slice(folder).read_bytes()
    first_slice(folder).write_bytes(content[:500])
    assert_first_case_refused(folder, "_1.tif")


def test_slice_or_mask_of_another_shape_is_refused_with_both_shapes(folder):
    other = np.zeros((16, 20), dtype=np.uint8)
    tifffile.imwrite(first_slice(folder, "_5_mask.tif"), other)
    assert_first_case_refused(folder, "(16, 24)", "(16, 20)", "_5_mask.tif")


def test_masks_that_all_differ_from_the_slices_are_refused(folder):
    for n in range(1, 12):
        tifffile.imwrite(first_slice(folder, f"_{n}_mask.tif"), np.zeros((16, 20), np.uint8))
    assert_first_case_refused(folder, "(16, 24)", "(16, 20)")


def test_grey_slices_are_refused(folder):
    for n in range(1, 12):
        tifffile.imwrite(first_slice(folder, f"_{n}.tif"), np.zeros((16, 24), np.uint8))
    assert_first_case_refused(folder, "expected (H, W, 3)")


def test_mask_that_is_not_binary_is_refused(folder):
    tifffile.imwrite(first_slice(folder, "_2_mask.tif"), np.full((16, 24), 100, np.uint8))
    assert_first_case_refused(folder, "_2_mask.tif", "100")


def test_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(DataError, match="kaggle_3m"):
        load_lgg(tmp_path)


@pytest.mark.parametrize("size", [(8,), (8, 8, 8), (0, 8), (8.5, 8)])
def test_size_that_is_no_height_and_width_is_refused(folder, size):
    with pytest.raises(ConfigError, match="size"):
        load_lgg(folder, size=size)


def test_real_subset_has_10_patients_214_slices_and_88_with_tumour(shared_data):
    task = load_lgg(shared_data / "lgg")
    samples = [task.read(case) for case in all_cases(task)]
    assert len({sample.case.patient_id for sample in samples}) == 10
    assert sum(len(sample.label) for sample in samples) == 214
    assert sum(int(one.any()) for sample in samples for one in sample.label) == 88
    assert {sample.image.shape[1:] for sample in samples} == {(3, 256, 256)}
    assert [len(part) for part in (task.train, task.validation, task.test)] == [6, 1, 3]


def test_real_slices_are_the_pixels_that_another_library_reads(shared_data):
    task = load_lgg(shared_data / "lgg")
    sample = task.read(task.test[0])
    stack = np.stack([tifffile.imread(path) for path in sample.case.images]).astype(np.float64)
    expected = (stack - stack.mean(axis=(0, 1, 2))) / stack.std(axis=(0, 1, 2))
    np.testing.assert_allclose(sample.image, np.moveaxis(expected, -1, 1), atol=1e-4)
    masks = np.stack([tifffile.imread(path) for path in sample.case.labels])
    np.testing.assert_array_equal(sample.label, masks > 0)
