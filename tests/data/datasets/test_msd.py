import json
import pickle
import shutil

import nibabel as nib
import numpy as np
import pytest

from analogmed.data.datasets.msd import load_msd
from analogmed.data.datasets.msd_tasks import MSD_TASKS
from analogmed.foundation.errors import ConfigError, DataError, SecurityError

SHAPE = (12, 10, 6)
AFFINE = np.diag([0.8, 0.9, 5.0, 1.0])


def save(path, data, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)


def write_task(root, modality, labels, n_cases=4, image_shape=SHAPE):
    random = np.random.default_rng(0)
    entries = []
    for n in range(1, n_cases + 1):
        name = f"case_{n:03}.nii.gz"
        save(root / "imagesTr" / name, random.normal(40, 200, image_shape).astype(np.float32))
        label = random.integers(0, len(labels), SHAPE).astype(np.uint8)
        save(root / "labelsTr" / name, label)
        entries.append({"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"})
    content = {
        "name": root.name,
        "description": "written by a test",
        "tensorImageSize": "3D" if len(image_shape) == 3 else "4D",
        "modality": {str(n): name for n, name in enumerate(modality)},
        "labels": {str(n): name for n, name in enumerate(labels)},
        "numTraining": n_cases,
        "numTest": 0,
        "training": entries,
        "test": [],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def edit(root, **changes):
    path = root / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.fixture
def spleen(tmp_path):
    return write_task(tmp_path / "Task09_Spleen", ["CT"], ["background", "spleen"])


@pytest.fixture
def tumour(tmp_path):
    channels = ["FLAIR", "T1w", "t1gd", "T2w"]
    labels = ["background", "edema", "non-enhancing tumor", "enhancing tumour"]
    return write_task(tmp_path / "Task01_BrainTumour", channels, labels, 3, (*SHAPE, 4))


def cases_of(task):
    return sorted(task.train + task.validation + task.test, key=lambda case: case.case_id)


def read_first(root, **options):
    task = load_msd(root, **options)
    return task.read(cases_of(task)[0])


def raw(path):
    return np.asarray(nib.load(path).dataobj)


def test_volume_comes_slice_first_with_its_spacing(spleen):
    sample = read_first(spleen)
    hu = raw(spleen / "imagesTr" / "case_001.nii.gz")
    expected = np.clip((hu + 150) / 400, 0, 1).transpose(2, 1, 0)
    np.testing.assert_allclose(sample.image, expected[None, None], atol=1e-6)
    label = raw(spleen / "labelsTr" / "case_001.nii.gz")
    np.testing.assert_array_equal(sample.label, label.transpose(2, 1, 0)[None])
    assert sample.spacing == pytest.approx((5.0, 0.9, 0.8))
    assert (sample.image.dtype, sample.label.dtype) == (np.float32, np.uint8)


def test_slices_are_the_volume_cut_along_its_last_axis(spleen):
    volume, slices = read_first(spleen), read_first(spleen, spatial_dims=2)
    np.testing.assert_array_equal(slices.image, volume.image[0].swapaxes(0, 1))
    np.testing.assert_array_equal(slices.label, volume.label[0])
    assert slices.image.shape == (6, 1, 10, 12)
    assert slices.spacing == volume.spacing


@pytest.mark.parametrize(("axis", "order"), [(0, (0, 2, 1)), (1, (1, 2, 0)), (2, (2, 1, 0))])
def test_slices_can_be_cut_along_any_axis(spleen, axis, order):
    sample = read_first(spleen, spatial_dims=2, slice_axis=axis)
    label = raw(spleen / "labelsTr" / "case_001.nii.gz")
    np.testing.assert_array_equal(sample.label, label.transpose(order))
    assert sample.spacing == pytest.approx([(0.8, 0.9, 5.0)[a] for a in order])


def test_channels_last_become_named_channels_with_their_own_z_score(tumour):
    task = load_msd(tumour)
    sample = task.read(cases_of(task)[0])
    assert task.channels == ("FLAIR", "T1w", "t1gd", "T2w")
    assert (task.in_channels, task.out_channels) == (4, 4)
    assert sample.image.shape == (1, 4, 6, 10, 12)
    np.testing.assert_allclose(sample.image.mean(axis=(0, 2, 3, 4)), 0, atol=1e-5)
    data = raw(tumour / "imagesTr" / "case_001.nii.gz")[..., 2]
    expected = ((data - data.mean()) / data.std()).transpose(2, 1, 0)
    np.testing.assert_allclose(sample.image[0, 2], expected, atol=1e-4)


def test_kept_labels_are_numbered_in_the_order_asked_for(tumour):
    task = load_msd(tumour, labels=("enhancing tumour", "edema"))
    assert task.classes == ("enhancing tumour", "edema")
    label = raw(tumour / "labelsTr" / "case_001.nii.gz").transpose(2, 1, 0)
    expected = np.select([label == 3, label == 1], [1, 2], 0)
    np.testing.assert_array_equal(task.read(cases_of(task)[0]).label[0], expected)


def test_one_kept_label_makes_a_binary_task(tumour):
    assert load_msd(tumour, labels=("edema",)).out_channels == 1


def test_misspelt_label_gets_the_nearest_name(tumour):
    with pytest.raises(ConfigError, match="did you mean 'edema'"):
        load_msd(tumour, labels=("oedema",))
    with pytest.raises(ConfigError, match="list of class names"):
        load_msd(tumour, labels="edema")


def test_size_resamples_the_volume_or_each_slice(spleen):
    volume = read_first(spleen, size=(3, 5, 6))
    assert volume.image.shape == (1, 1, 3, 5, 6)
    assert volume.spacing == pytest.approx((10.0, 1.8, 1.6))
    slices = read_first(spleen, spatial_dims=2, size=(5, 6))
    assert slices.image.shape == (6, 1, 5, 6)
    assert slices.label.shape == (6, 5, 6)
    assert slices.spacing == pytest.approx((5.0, 1.8, 1.6))


def test_task_describes_itself_and_travels_to_a_worker(spleen):
    task = pickle.loads(pickle.dumps(load_msd(spleen)))
    assert (task.name, task.spatial_dims, task.spacing_unit) == ("spleen", 3, "mm")
    assert task.classes == ("spleen",)
    assert task.read(task.test[0]).image.shape[1] == task.in_channels


def test_every_case_is_its_own_patient_unless_a_pattern_says_so(spleen):
    assert len({case.patient_id for case in cases_of(load_msd(spleen))}) == 4
    task = load_msd(spleen, patient_pattern=r"case_(\d\d)\d")
    assert {case.patient_id for case in cases_of(task)} == {"00"}
    for pattern in (r"case_\d+", r"scan_(\d+)", "("):
        with pytest.raises(ConfigError, match="patient_pattern"):
            load_msd(spleen, patient_pattern=pattern)


def test_hidden_twins_of_macos_are_left_out(spleen):
    (spleen / "imagesTr" / "._case_001.nii.gz").write_bytes(b"junk")
    twin = {"image": "./imagesTr/._case_001.nii.gz", "label": "./labelsTr/._case_001.nii.gz"}
    training = json.loads((spleen / "dataset.json").read_text())["training"]
    edit(spleen, training=[*training, twin], numTraining=5)
    assert len(cases_of(load_msd(spleen))) == 4
    (spleen / "dataset.json").unlink()
    with pytest.warns(UserWarning, match=r"dataset\.json: missing"):
        assert len(cases_of(load_msd(spleen))) == 4


@pytest.mark.parametrize("known", MSD_TASKS, ids=lambda task: task.short_name)
def test_official_task_without_its_description_is_known_by_its_folder(tmp_path, known):
    channels = len(known.modalities)
    shape = SHAPE if channels == 1 else (*SHAPE, channels)
    root = write_task(tmp_path / known.folder, known.modalities, ["bg", *known.classes], 3, shape)
    described = load_msd(root)
    sample = described.read(cases_of(described)[0])
    (root / "dataset.json").unlink()
    with pytest.warns(UserWarning, match=known.folder):
        task = load_msd(root)
    assert (task.name, task.channels) == (known.short_name, known.modalities)
    assert (task.classes, task.window) == (described.classes, described.window)
    np.testing.assert_array_equal(task.read(cases_of(task)[0]).image, sample.image)


def test_unknown_folder_without_a_description_is_refused(spleen):
    (spleen / "dataset.json").unlink()
    other = spleen.rename(spleen.with_name("Task11_Other"))
    with pytest.raises(DataError, match=r"dataset\.json: missing"):
        load_msd(other)


@pytest.mark.filterwarnings("ignore:.*dataset.json")
def test_image_without_a_label_on_disk_is_named(spleen):
    (spleen / "dataset.json").unlink()
    (spleen / "labelsTr" / "case_003.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case_003\.nii\.gz: image without label"):
        load_msd(spleen)
    shutil.rmtree(spleen / "imagesTr")
    shutil.rmtree(spleen / "labelsTr")
    with pytest.raises(DataError, match="0 images"):
        load_msd(spleen)


@pytest.mark.parametrize("key", ["name", "modality", "labels", "numTraining", "training"])
def test_missing_key_of_the_description_is_named(spleen, key):
    edit(spleen, **{key: None})
    with pytest.raises(DataError, match=rf"dataset\.json: lacks {key}"):
        load_msd(spleen)


@pytest.mark.parametrize("text", ["", "{", "<html></html>", "[1, 2]", "\x00\xff"])
def test_description_that_is_no_json_object_is_refused(spleen, text):
    (spleen / "dataset.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"dataset\.json"):
        load_msd(spleen)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"numTraining": 5}, "numTraining is 5, but training lists 4"),
        ({"training": [], "numTraining": 0}, "lists no case"),
        ({"training": {}}, "expected a list"),
        ({"training": ["a.nii.gz"], "numTraining": 1}, "training entry 0"),
        ({"training": [{"image": "a"}], "numTraining": 1}, "entry 0 lacks label"),
        ({"modality": {"1": "CT"}}, "modality keys"),
        ({"modality": {}}, "modality is empty"),
        ({"modality": ["CT"]}, "modality is"),
        ({"labels": {"background": 0, "spleen": 1}}, "labels is"),
        ({"labels": {"0": "background"}}, "at least one class"),
        ({"labels": {"1": "spleen", "2": "liver"}}, "expected '0'"),
        ({"labels": {"0": "background", "1": "a", "2": "a"}}, "twice"),
    ],
)
def test_description_that_contradicts_itself_is_refused(spleen, changes, words):
    edit(spleen, **changes)
    with pytest.raises(DataError, match=words):
        load_msd(spleen)


def test_case_listed_twice_is_named(spleen):
    training = json.loads((spleen / "dataset.json").read_text())["training"]
    edit(spleen, training=[*training, training[0]], numTraining=5)
    with pytest.raises(DataError, match="case_001 more than once"):
        load_msd(spleen)


@pytest.mark.parametrize(
    "name",
    ["../secret.nii.gz", "./imagesTr/../../a.nii.gz", "/etc/passwd", "C:\\a.nii", "..\\a.nii"],
)
@pytest.mark.parametrize("key", ["image", "label"])
def test_path_out_of_the_folder_is_refused(spleen, name, key):
    training = json.loads((spleen / "dataset.json").read_text())["training"]
    training[1][key] = name
    edit(spleen, training=training)
    with pytest.raises(SecurityError, match=r"leaves the folder"):
        load_msd(spleen)


def test_listed_file_that_is_missing_is_named_with_its_case(spleen):
    (spleen / "labelsTr" / "case_001.nii.gz").unlink()
    with pytest.raises(DataError, match=r"case case_001: .*labelsTr.case_001\.nii\.gz: missing"):
        read_first(spleen)


def test_other_channel_count_than_the_task_is_refused_with_both(tumour):
    edit(tumour, modality={"0": "T2", "1": "ADC"})
    with pytest.raises(ConfigError, match=r"case case_001: the image has 4 channels.* 2 "):
        read_first(tumour)


def test_image_and_label_of_other_shapes_are_refused_with_both(spleen):
    save(spleen / "labelsTr" / "case_001.nii.gz", np.zeros((12, 10, 7), np.uint8))
    with pytest.raises(DataError, match=r"case_001: .*\(12, 10, 6\).*\(12, 10, 7\)"):
        read_first(spleen)


def test_image_and_label_of_other_affines_are_refused_with_both(spleen):
    label = raw(spleen / "labelsTr" / "case_001.nii.gz")
    moved = AFFINE.copy()
    moved[0, 3] = 0.2
    save(spleen / "labelsTr" / "case_001.nii.gz", label, moved)
    with pytest.raises(DataError, match=r"affine.*0\.2 mm apart"):
        read_first(spleen)


def test_rounding_of_the_affine_is_no_fault(spleen):
    label = raw(spleen / "labelsTr" / "case_001.nii.gz")
    save(spleen / "labelsTr" / "case_001.nii.gz", label, AFFINE + 1e-4)
    assert read_first(spleen).label.any()


def test_label_of_several_channels_is_refused(spleen):
    save(spleen / "labelsTr" / "case_001.nii.gz", np.zeros((*SHAPE, 2), np.uint8))
    with pytest.raises(DataError, match="expected 3 axes"):
        read_first(spleen)


def test_label_outside_the_tasks_set_is_listed(spleen):
    label = raw(spleen / "labelsTr" / "case_001.nii.gz") * 2
    save(spleen / "labelsTr" / "case_001.nii.gz", label)
    with pytest.raises(DataError, match=r"label values 2 are outside the task's set \[0, 1\]"):
        read_first(spleen)


def test_fractional_label_is_refused(spleen):
    label = raw(spleen / "labelsTr" / "case_001.nii.gz") * np.float32(0.99)
    save(spleen / "labelsTr" / "case_001.nii.gz", label)
    with pytest.raises(DataError, match=r"0\.99 are not integers"):
        read_first(spleen)


def test_empty_label_and_constant_image_are_accepted(tumour):
    save(tumour / "imagesTr" / "case_001.nii.gz", np.full((*SHAPE, 4), 3, np.int16))
    save(tumour / "labelsTr" / "case_001.nii.gz", np.zeros(SHAPE, np.uint8))
    sample = read_first(tumour)
    assert not sample.image.any()
    assert not sample.label.any()


def test_nan_voxels_are_refused_or_zeroed_on_request(tumour):
    data = raw(tumour / "imagesTr" / "case_001.nii.gz").copy()
    data[0, 0, 0, 1] = np.nan
    save(tumour / "imagesTr" / "case_001.nii.gz", data)
    with pytest.raises(DataError, match="nan_policy"):
        read_first(tumour)
    sample = read_first(tumour, nan_policy="zero", intensity="none")
    assert np.isfinite(sample.image).all()
    assert sample.image[0, 1, 0, 0, 0] == 0


def test_ct_window_and_intensity_are_options(spleen):
    hu = raw(spleen / "imagesTr" / "case_001.nii.gz").transpose(2, 1, 0)
    wide = read_first(spleen, ct_window_hu=(-1000, 1000)).image[0, 0]
    np.testing.assert_allclose(wide, (np.clip(hu, -1000, 1000) + 1000) / 2000, atol=1e-6)
    np.testing.assert_array_equal(read_first(spleen, intensity="none").image[0, 0], hu)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spatial_dims": 4}, "spatial_dims"),
        ({"slice_axis": 3}, "slice_axis"),
        ({"size": (4, 4)}, "size"),
        ({"window": (4, 4)}, "window"),
        ({"ct_window_hu": (100, -100)}, "low < high"),
        ({"ct_window_hu": (1,)}, "two numbers"),
        ({"intensity": "zscores"}, "intensity"),
    ],
)
def test_setting_that_does_not_fit_is_refused(spleen, options, words):
    with pytest.raises(ConfigError, match=words):
        load_msd(spleen, **options)


@pytest.mark.filterwarnings("ignore:.*dataset.json")
def test_real_hippocampus_subset_is_60_volumes_with_two_classes(shared_data):
    task = load_msd(shared_data / "Task04_Hippocampus")
    cases = cases_of(task)
    assert len(cases) == 60
    assert (task.classes, task.out_channels) == (("Anterior", "Posterior"), 3)
    for case in cases:
        sample = task.read(case)
        stored = raw(case.labels[0])
        np.testing.assert_array_equal(sample.label[0], stored.transpose(2, 1, 0))
        assert set(np.unique(sample.label).tolist()) == {0, 1, 2}
        assert sample.spacing == (1.0, 1.0, 1.0)
        assert sample.image.mean() == pytest.approx(0, abs=1e-4)
        assert sample.image.std() == pytest.approx(1, abs=1e-3)
