import shutil

import nibabel as nib
import numpy as np
import pytest

from analogmed.data.datasets.nifti_folder import load_brats, load_nifti
from analogmed.foundation.errors import ConfigError, DataError

SHAPE = (8, 9, 5)
NAMES = ("BraTS20_Training_002", "BraTS20_Training_010", "BraTS20_Training_100")


def save(path, data):
    nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1.0, 1.0, 1.0])), path)


def in_ras(path):
    """Voxels with axes closest to RAS, as nibabel turns them."""
    return np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)


def read_first(task):
    return task.read(min(cases_of(task), key=lambda case: case.case_id))


def cases_of(task):
    return task.train + task.validation + task.test


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    values = np.array([0, 1, 2, 4], dtype=np.uint8)
    for name in NAMES:
        case = tmp_path / "TrainingData" / name
        case.mkdir(parents=True)
        for channel in ("flair", "t1", "t1ce", "t2"):
            data = random.normal(500, 50, SHAPE).astype(np.int16)
            data[:3] = 0
            save(case / f"{name}_{channel}.nii.gz", data)
        save(case / f"{name}_seg.nii.gz", values[random.integers(0, 4, SHAPE)])
    return tmp_path / "TrainingData"


def test_brats_folder_gives_four_channels_and_three_classes(folder):
    task = load_brats(folder)
    assert {case.case_id for case in cases_of(task)} == set(NAMES)
    assert task.channels == ("FLAIR", "T1", "T1ce", "T2")
    assert task.classes == ("necrotic core", "edema", "enhancing tumour")
    sample = read_first(task)
    assert sample.image.shape == (1, 4, 5, 9, 8)
    seg = in_ras(folder / NAMES[0] / f"{NAMES[0]}_seg.nii.gz")
    expected = np.select([seg == 1, seg == 2, seg == 4], [1, 2, 3], 0)
    np.testing.assert_array_equal(sample.label[0], expected.transpose(2, 1, 0))


def test_each_channel_is_the_file_of_its_pattern(folder):
    sample = read_first(load_brats(folder, intensity="none"))
    for index, channel in enumerate(("flair", "t1", "t1ce", "t2")):
        stored = in_ras(folder / NAMES[0] / f"{NAMES[0]}_{channel}.nii.gz")
        np.testing.assert_array_equal(sample.image[0, index], stored.T)


def test_voxels_outside_the_brain_stay_zero(folder):
    sample = read_first(load_brats(folder))
    assert not sample.image[..., -3:].any()  # X = 0 of an LPS file lies on the right
    np.testing.assert_allclose(sample.image[0, :, ..., :-3].mean(axis=(1, 2, 3)), 0, atol=1e-4)


@pytest.mark.parametrize("has_air", [True, False])
def test_a_dark_voxel_inside_tissue_stays_dark(tmp_path, has_air):
    image = np.random.default_rng(0).normal(100, 10, (12, 10, 8)).astype(np.float32)
    image[8, 5, 4] = 0
    if has_air:
        image[:4] = 0
    save(tmp_path / "img.nii", image)
    save(tmp_path / "seg.nii", np.zeros(image.shape, np.uint8))
    options = {"images": ["img.nii"], "label": "seg.nii", "classes": {"a": 1}}
    options["orientation"] = "file"
    scored = read_first(load_nifti(tmp_path, **options)).image[0, 0].T
    counted = image[4:] if has_air else image
    dark = -counted.mean() / counted.std()
    assert dark < -5
    np.testing.assert_allclose(scored[8, 5, 4], dark, rtol=1e-5)
    if has_air:
        assert not scored[:4].any()
    else:
        np.testing.assert_allclose(scored, (image - image.mean()) / image.std(), atol=1e-4)
    by_voxel = read_first(load_nifti(tmp_path, intensity="z_score_nonzero", **options))
    assert by_voxel.image[0, 0].T[8, 5, 4] == 0


def test_labels_merge_into_a_region(folder):
    task = load_brats(folder, classes={"whole tumour": (1, 2, 4)})
    assert task.out_channels == 1
    separate = read_first(load_brats(folder)).label
    np.testing.assert_array_equal(read_first(task).label, separate > 0)


def test_value_outside_the_challenges_labels_is_refused(folder):
    path = folder / NAMES[0] / f"{NAMES[0]}_seg.nii.gz"
    save(path, np.full(SHAPE, 3, np.uint8))
    with pytest.raises(DataError, match=r"case BraTS20_Training_002: .*values 3 .*\[0, 1, 2, 4\]"):
        read_first(load_brats(folder))


def test_missing_channel_is_named_with_case_and_pattern(folder):
    (folder / NAMES[1] / f"{NAMES[1]}_t1ce.nii.gz").unlink()
    with pytest.raises(DataError, match=rf"{NAMES[1]}: pattern '\*_t1ce.nii\*' matches 0"):
        load_brats(folder)


def test_label_under_another_name_is_named_with_case_and_pattern(folder):
    path = folder / NAMES[1] / f"{NAMES[1]}_seg.nii.gz"
    path.rename(path.with_name("W39_1998.09.19_Segm.nii.gz"))
    with pytest.raises(DataError, match=rf"{NAMES[1]}: pattern '\*_seg.nii\*' matches 0"):
        load_brats(folder)


def test_second_match_of_a_pattern_is_named(folder):
    save(folder / NAMES[1] / "other_t2.nii", np.zeros(SHAPE, np.int16))
    with pytest.raises(DataError, match=rf"{NAMES[1]}: .*matches 2 files.*other_t2\.nii"):
        load_brats(folder)


def test_channel_on_another_grid_is_refused(folder):
    save(folder / NAMES[0] / f"{NAMES[0]}_t1.nii.gz", np.zeros((8, 9, 6), np.int16))
    with pytest.raises(DataError, match=r"\(8, 9, 5\), but .*_t1\.nii\.gz .*\(8, 9, 6\)"):
        read_first(load_brats(folder))


def test_equal_folder_names_are_told_apart_by_their_paths(folder):
    (folder / "a").mkdir()
    (folder / "b").mkdir()
    (folder / NAMES[0]).rename(folder / "a" / "scan")
    (folder / NAMES[1]).rename(folder / "b" / "scan")
    assert {case.case_id for case in cases_of(load_brats(folder))} == {
        "a/scan",
        "b/scan",
        NAMES[2],
    }


def test_cases_of_one_patient_stay_together(folder):
    task = load_brats(folder, patient_pattern=r"Training_(\d)")
    assert {case.patient_id for case in cases_of(task)} == {"0", "1"}


def test_single_file_may_hold_all_channels(tmp_path):
    save(tmp_path / "scan.nii.gz", np.ones((*SHAPE, 2), np.float32))
    save(tmp_path / "label.nii.gz", np.zeros(SHAPE, np.uint8))
    options = {"images": ["scan.nii.gz"], "label": "label.nii.gz", "classes": {"lesion": 1}}
    task = load_nifti(tmp_path, channels=("T2", "ADC"), intensity="none", **options)
    assert task.read(task.test[0]).image.shape == (1, 2, 5, 9, 8)
    with pytest.raises(ConfigError, match=r"2 channels.* 1 "):
        read_first(load_nifti(tmp_path, **options))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": {}}, "classes is empty"),
        ({"classes": {"a": 1, "b": (1, 2)}}, "more than one class"),
        ({"classes": {"a": 0}}, "0 is background"),
        ({"classes": {"a": ()}}, "needs label values"),
        ({"classes": {"a": 3}}, "outside label_values"),
        ({"images": ()}, "images is empty"),
        ({"images": ("/abs/*.nii",)}, "expected file patterns"),
        ({"channels": ("one",)}, "channels: expected one name for each pattern"),
        ({"intensity": "z"}, "intensity"),
    ],
)
def test_setting_that_does_not_fit_is_refused(folder, options, words):
    with pytest.raises(ConfigError, match=words):
        load_brats(folder, **options)


def test_folder_without_cases_is_refused_with_the_patterns(tmp_path):
    with pytest.raises(DataError, match=r"_flair\.nii"):
        load_brats(tmp_path)


def test_real_brats_cases_keep_their_normalised_voxels(shared_data):
    task = load_nifti(
        shared_data / "brats2015_deepmedic",
        name="brats2015",
        images=("Flair_subtrMeanDivStd.nii.gz", "T1c_subtrMeanDivStd.nii.gz"),
        label="OTMultiClass.nii.gz",
        classes={"whole tumour": (1, 2, 3, 4)},
        label_values=range(5),
        intensity="none",
        patient_pattern=r"(pat\d+)",
    )
    assert {case.patient_id for case in cases_of(task)} == {f"pat000{n}" for n in range(1, 7)}
    assert task.channels == ("Flair_subtrMeanDivStd", "T1c_subtrMeanDivStd")
    case = task.test[0]
    sample = task.read(case)
    assert sample.image.shape == (1, 2, 155, 240, 240)
    assert sample.spacing == (1.0, 1.0, 1.0)
    t1c = in_ras(case.images[1])
    np.testing.assert_array_equal(sample.image[0, 1], t1c.T)
    multi_class = in_ras(case.labels[0])
    np.testing.assert_array_equal(sample.label[0], multi_class.T > 0)


def test_real_ct_folder_is_one_case_with_a_spleen(shared_data):
    task = load_nifti(
        shared_data / "totalsegmentator_example",
        images=("example_ct_sm.nii.gz",),
        label="example_seg.nii.gz",
        classes={"spleen": (1,)},
        modality="CT",
    )
    assert [case.case_id for case in task.test] == ["totalsegmentator_example"]
    sample = task.read(task.test[0])
    hu = np.asarray(nib.load(task.test[0].images[0]).dataobj).T.astype(np.float64)
    np.testing.assert_allclose(sample.image[0, 0], np.clip((hu + 150) / 400, 0, 1), atol=1e-6)
    seg = np.asarray(nib.load(task.test[0].labels[0]).dataobj)
    np.testing.assert_array_equal(sample.label[0], seg.T == 1)
    assert sample.spacing == (3.0, 3.0, 3.0)


def test_cases_in_hidden_folders_are_left_out(folder):
    shutil.copytree(folder / NAMES[0], folder / ".snapshot" / NAMES[0])
    assert {case.case_id for case in cases_of(load_brats(folder))} == set(NAMES)


def test_a_hidden_folder_above_the_root_does_not_matter(folder):
    moved = folder.parent / ".data"
    folder.rename(moved)
    assert len(cases_of(load_brats(moved))) == len(NAMES)


def test_scans_of_unequal_numbers_of_visits_all_carry_their_patient(tmp_path):
    for visit in ("s1/first", "s1/second", "s2/first"):
        (tmp_path / visit).mkdir(parents=True)
        save(tmp_path / visit / "t1.nii", np.ones(SHAPE, dtype=np.int16))
        save(tmp_path / visit / "seg.nii", np.ones(SHAPE, dtype=np.uint8))
    task = load_nifti(
        tmp_path, images=["t1.nii"], label="seg.nii", classes={"a": 1}, patient_pattern="^(s.)/"
    )
    found = {case.case_id: case.patient_id for case in cases_of(task)}
    assert found == {"s1/first": "s1", "s1/second": "s1", "s2/first": "s2"}


@pytest.fixture
def two_folders(tmp_path):
    for name in ("knee_10", "knee_9"):
        for folder, ending in (("images", "_0000"), ("images", "_0001"), ("labels", "")):
            (tmp_path / folder).mkdir(exist_ok=True)
            data = np.full(SHAPE, len(ending), np.uint8)
            save(tmp_path / folder / f"{name}{ending}.nii", data)
    return tmp_path


FLAT = {
    "images": ["images/*_0000.nii", "images/*_0001.nii"],
    "label": "labels/*.nii",
    "classes": {"a": 1},
}


def test_images_and_labels_may_be_in_two_folders(two_folders):
    task = load_nifti(two_folders, **FLAT, patient_pattern=r"_(\d+)")
    assert {case.case_id: case.patient_id for case in cases_of(task)} == {
        "knee_9": "9",
        "knee_10": "10",
    }
    assert task.channels == ("0000", "0001")
    assert load_nifti(two_folders, **FLAT | {"images": "images/*_0000.nii"}).in_channels == 1
    case = cases_of(task)[0]
    assert [path.name for path in case.images] == [
        f"{case.case_id}_0000.nii",
        f"{case.case_id}_0001.nii",
    ]
    assert case.labels == (two_folders / "labels" / f"{case.case_id}.nii",)


def test_a_pattern_may_start_with_the_folder_itself(two_folders):
    dotted = {"images": "./images/*_0000.nii", "label": "labels//*.nii", "classes": {"a": 1}}
    assert {case.case_id for case in cases_of(load_nifti(two_folders, **dotted))} == {
        "knee_9",
        "knee_10",
    }


def test_one_allowed_label_value_needs_no_list(two_folders):
    options = {"images": "images/*_0000.nii", "label": "labels/*.nii", "classes": {"a": 1}}
    assert load_nifti(two_folders, **options, label_values=1).read.allowed_values == (1,)
    with pytest.raises(ConfigError, match=r"label_values: expected whole numbers.*got 'all'"):
        load_nifti(two_folders, **options, label_values="all")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"label": "*.nii"}, DataError, r"2 of 2 cases have no file '\*\.nii'"),
        ({"label": "masks/*.nii"}, DataError, r"knee_9, knee_10 \(there are no files"),
        ({"images": ["images/*_t1.nii"]}, DataError, r"images/\*_t1\.nii; files .*knee_9_0000"),
        ({"label": "../labels/*.nii"}, ConfigError, r"one \* for the name of the case"),
        ({"label": "labels/*.nii*"}, ConfigError, r"one \* for the name of the case.*nii\*'"),
    ],
)
def test_a_case_without_a_file_in_its_folder_is_named(two_folders, options, error, message):
    with pytest.raises(error, match=message):
        load_nifti(two_folders, **FLAT | options)
