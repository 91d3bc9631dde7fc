"""MedMNIST files: kinds of labels, images, repeated images, and bad content."""

import warnings

import numpy as np
import pytest

from analogmed.data import load_task
from analogmed.data.datasets.medmnist import KEYS, MedMnistReader, load_medmnist
from analogmed.data.integrity import verify
from analogmed.data.splits import SeenData, find_duplicates
from analogmed.foundation.errors import ConfigError, DataError
from analogmed.kinds.classification import MULTICLASS, MULTILABEL

LENGTHS = {"train": 6, "val": 3, "test": 4}


def arrays(n_columns=1, highest=1, shape=(28, 28), seed=0):
    """Return the content of a file whose labels include 0 and the highest in each part."""
    generator = np.random.default_rng(seed)
    content = {}
    for part, n in LENGTHS.items():
        content[f"{part}_images"] = generator.integers(256, size=(n, *shape), dtype=np.uint8)
        labels = generator.integers(highest + 1, size=(n, n_columns), dtype=np.uint8)
        labels[0], labels[1] = 0, highest
        content[f"{part}_labels"] = labels
    return content


@pytest.fixture
def write(tmp_path):
    def written(content, name="mine.npz"):
        np.savez_compressed(tmp_path / name, **content)
        return tmp_path / name

    return written


@pytest.mark.parametrize(
    ("n_columns", "highest", "kind", "classes"),
    [
        (1, 1, MULTILABEL, ("class 1",)),
        (1, 3, MULTICLASS, ("class 1", "class 2", "class 3", "class 4")),
        (3, 1, MULTILABEL, ("class 1", "class 2", "class 3")),
    ],
)
def test_labels_define_the_kind_and_the_classes(write, n_columns, highest, kind, classes):
    content = arrays(n_columns, highest)
    task = load_task("medmnist", write(content))
    assert (task.kind, task.classes, task.out_channels) == (kind, classes, len(classes))
    assert (task.name, task.primary_metric) == ("mine", "auroc")
    parts = {"train": task.train, "val": task.validation, "test": task.test}
    for part, cases in parts.items():
        labels = np.concatenate([task.read(case).label for case in cases])
        np.testing.assert_array_equal(labels, content[f"{part}_labels"])


def test_an_integrity_check_takes_the_file_itself(write):
    content = arrays()
    content["val_images"][0] = 7
    path = write(content)
    report = verify(path)
    assert (report.layout, report.ok, report.counts["cases"]) == ("MedMNIST", True, 13)
    assert path.name in str(report)
    assert len(report.warnings) == 1
    path.write_bytes(b"")
    report = verify(path)
    assert (report.layout, report.ok) == ("MedMNIST", False)


def test_images_are_scaled_and_padded_with_black(write):
    content = arrays()
    content["train_images"][0, 0, :2] = (0, 255)
    task = load_medmnist(write(content))
    assert task.window == (32, 32)
    image = task.read(task.train[0]).image
    assert (image.shape, image.dtype) == ((1, 1, 32, 32), np.float32)
    assert image[0, 0, 2, 2:4].tolist() == [-1, 1]
    assert (image[..., :2, :] == -1).all()
    assert (image[..., -2:] == -1).all()
    restored = np.rint((image[0, 0, 2:-2, 2:-2] + 1) * 127.5)
    np.testing.assert_array_equal(restored, content["train_images"][0])


def test_colours_are_channels_and_sizes_can_change(write):
    task = load_medmnist(write(arrays(shape=(28, 28, 3))), size=(64, 40))
    assert (task.channels, task.window) == (("red", "green", "blue"), (64, 64))
    assert task.read(task.test[0]).image.shape == (1, 3, 64, 64)


def test_a_known_data_set_has_its_class_names_at_any_size(write):
    assert load_medmnist(write(arrays(), "pneumoniamnist_64.npz")).classes == ("pneumonia",)


def test_images_of_another_part_are_left_out_of_training(write):
    content = arrays()
    content["train_images"][[0, 3]] = content["test_images"][0]
    content["val_images"][1] = content["test_images"][2]
    with pytest.warns(UserWarning) as caught:
        task = load_medmnist(write(content))
    assert sorted(str(one.message).split(": ")[-1] for one in caught) == [
        "1 images of val are also in test, and are left out of val",
        "2 images of train are also in validation or test, and are left out of train",
    ]
    assert [case.case_id for case in task.train] == [f"train-0000{i}" for i in (1, 2, 4, 5)]
    assert (len(task.validation), len(task.test)) == (2, 4)


def test_equal_images_of_one_file_are_found_by_their_content(write):
    content = arrays()
    content["train_images"][4] = content["train_images"][2]
    task = load_medmnist(write(content))
    (pair,) = find_duplicates(task.train)
    assert [case.case_id for case in pair] == ["train-00002", "train-00004"]


def changed(key, change):
    content = arrays()
    content[key] = change(content[key])
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed("val_images", lambda a: a / 255), "val_images .* float64; expected uint8"),
        (changed("test_images", lambda a: a[:, :20]), "test_images has shape .4, 20, 28."),
        (changed("train_labels", lambda a: a[:-1]), "train_labels has shape .5, 1. .*6 images"),
        (changed("val_labels", lambda a: a.astype(float)), "val_labels .* float64; expected int"),
        (changed("test_labels", lambda a: a.astype(int) - 1), r"test_labels\[0\] is \[-1\]"),
        ({key: arrays()[key] for key in KEYS[:-1]}, "no array test_labels; expected those of Med"),
    ],
)
def test_other_content_is_named(write, content, message):
    with pytest.raises(DataError, match=message):
        load_medmnist(write(content))


def test_a_file_that_unpacks_to_much_more_is_refused_before_it_is_unpacked(write):
    content = arrays() | {"test_images": np.zeros((140_000, 28, 28), np.uint8)}
    path = write(content)
    with pytest.raises(DataError, match=r"arrays take 1\d\d,\d{3},\d{3} bytes; expected at"):
        load_medmnist(path)


def test_scans_of_one_file_differ(write):
    task = load_medmnist(write(arrays()))
    seen = SeenData.of("elsewhere", task.train)
    assert len(seen.scans) == len(task.train)
    assert seen.tested_in(task) == set()


def test_a_truncated_file_is_named(write):
    path = write(arrays())
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(DataError, match=r"mine\.npz: damaged"):
        load_medmnist(path)


def test_a_split_file_replaces_the_official_split(write, tmp_path):
    path = write(arrays())
    split = tmp_path / "split.yaml"
    split.write_text("train: [train-00001, val-00000]\nvalidation: [train-00002]\n")
    task = load_medmnist(path, split_file=split)
    assert [case.case_id for case in task.train] == ["train-00001", "val-00000"]
    assert (len(task.validation), len(task.test)) == (1, 0)


def test_a_file_that_is_no_archive_is_named(tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"table\.csv: no archive of NumPy; expected the"):
        load_medmnist(tmp_path / "table.csv")


def test_settings_that_do_not_fit_are_refused(write, tmp_path):
    path = write(arrays(1, 3))
    with pytest.raises(ConfigError, match=r"classes: expected 4 names .*, got 2 \(a, b\)"):
        load_medmnist(path, classes=["a", "b"])
    with pytest.raises(ConfigError, match="expected different names, got a, a, b, c"):
        load_medmnist(path, classes=["a", "a", "b", "c"])
    write(arrays(), "other.npz")
    with pytest.raises(ConfigError, match=r"one .npz file of MedMNIST, got mine.npz, other.npz"):
        load_medmnist(tmp_path)
    with pytest.raises(ConfigError, match=r"task.shares: not a setting of task 'medmnist'"):
        load_task("medmnist", path, shares=(0.5, 0.2, 0.3))


def test_an_integrity_check_lists_images_and_repetitions(write, tmp_path):
    content = arrays()
    content["train_images"][4] = content["test_images"][0]
    content["val_images"][0] = 7
    write(content)
    report = verify(tmp_path)
    assert (report.layout, report.ok) == ("MedMNIST", True)
    assert (report.counts["cases"], report.counts["files"]) == (13, 1)
    assert [finding.what for finding in report.warnings] == [
        "case val-00000: constant image",
        "case test-00000: the same scan as case train-00004, byte for byte",
    ]


def test_an_integrity_check_reports_a_damaged_file(write, tmp_path):
    write({"images": np.zeros(3)})
    report = verify(tmp_path)
    assert "no array train_images" in report.problems[0].what


@pytest.mark.parametrize(
    ("name", "counts", "repeated", "n_positive"),
    [("pneumoniamnist", (4708, 524, 624), 10, 390), ("medmnist", (546, 78, 156), 1, 114)],
)
def test_real_files_have_the_images_of_their_source(
    shared_data, name, counts, repeated, n_positive
):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        task = load_medmnist(shared_data / name)
    left_out = sum(int(str(one.message).rpartition(": ")[2].split()[0]) for one in caught)
    assert len(task.test) == counts[2]
    assert len(task.train) + len(task.validation) + left_out == counts[0] + counts[1]
    assert left_out == repeated
    labels = np.concatenate([task.read(case).label for case in task.test])
    assert labels.sum() == n_positive
    assert isinstance(task.read, MedMnistReader)
