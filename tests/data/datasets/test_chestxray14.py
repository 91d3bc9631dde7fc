"""ChestX-ray14: table, images, official lists, patients as cases, and bad content."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from analogmed.data import load_task
from analogmed.data.datasets.chestxray14 import FINDINGS, LISTS, load_chestxray14
from analogmed.data.integrity import verify
from analogmed.foundation.errors import ConfigError, DataError, LeakageError
from analogmed.kinds.classification import MULTILABEL
from analogmed.training.sampling.patches import PatchSampler
from analogmed.training.settings import LoadingConfig

HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
TABLE = "Data_Entry_2017_v2020.csv"
LABELS = ("No Finding", "Mass|Nodule", "Effusion", "Hernia|Pleural_Thickening")
N_PATIENTS = 8


def names():
    """Two images of even patients, and one of odd ones."""
    return [
        f"{patient:08}_{number:03}.png"
        for patient in range(1, N_PATIENTS + 1)
        for number in range(2 - patient % 2)
    ]


def line(name, labels, end=""):
    return f"{name},{labels},{name[9:12]},{int(name[:8])},58,M,PA,2500,2048,0.143,0.143{end}"


def table_of(labels=LABELS, head=HEAD, end=""):
    rows = [line(name, labels[n % len(labels)], end) for n, name in enumerate(names())]
    return "\n".join([head + end, *rows, ""])


@pytest.fixture
def root(tmp_path):
    """Folder in the original layout: a table, and images in two folders."""
    (tmp_path / TABLE).write_text(table_of())
    for number, name in enumerate(names()):
        folder = tmp_path / f"images_{1 + number % 2:03}" / "images"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(256, size=(40, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return tmp_path


def image(root, name):
    (path,) = root.glob(f"images*/**/{name}")
    return path


def write_lists(root, test_patients, moved=None):
    for name, is_test in zip(LISTS, (False, True), strict=True):
        listed = [
            each
            for each in names()
            if ((int(each[:8]) in test_patients) != (each == moved)) == is_test
        ]
        (root / name).write_text("\n".join(listed) + "\n")


def test_a_case_is_a_patient_with_all_images(root):
    task = load_task("chestxray14", root)
    assert (task.kind, task.primary_metric, task.classes) == (MULTILABEL, "auroc", FINDINGS)
    assert (task.channels, task.window, task.out_channels) == (("grey",), (64, 64), 14)
    cases = task.train + task.validation + task.test
    assert {case.case_id: len(case.images) for case in cases} == {
        f"{patient:08}": 2 - patient % 2 for patient in range(1, N_PATIENTS + 1)
    }
    found = {}
    for case in cases:
        sample = task.read(case)
        assert sample.image.shape == (len(case.images), 1, 64, 64)
        assert (sample.image.dtype, sample.label.dtype) == (np.float32, np.uint8)
        for path, row in zip(case.images, sample.label, strict=True):
            found[path.name] = {FINDINGS[place] for place in np.flatnonzero(row)}
    expected = [set(LABELS[n % 4].split("|")) - {"No Finding"} for n in range(len(names()))]
    assert found == dict(zip(names(), expected, strict=True))


def test_intensities_are_scaled_and_images_padded_with_black(root):
    name = names()[0]
    pixels = np.asarray(Image.open(image(root, name)))
    task = load_chestxray14(root)
    (case,) = (c for c in task.train + task.validation + task.test if c.case_id == name[:8])
    shown = task.read(case).image[0, 0]
    assert (shown[:12] == -1).all()
    assert (shown[-12:] == -1).all()
    np.testing.assert_array_equal(np.rint((shown[12:-12] + 1) * 127.5), pixels)


def test_large_images_are_reduced_with_anti_aliasing(root):
    stripes = np.tile(np.array([0, 255], np.uint8), (896, 448))
    first = image(root, names()[0])
    Image.fromarray(stripes).save(first)
    task = load_chestxray14(root)
    assert task.window == (224, 224)
    (case,) = (c for c in task.train + task.validation + task.test if first in c.images)
    assert np.abs(task.read(case).image[..., 8:-8]).max() < 0.1
    assert load_task("chestxray14", root, size=(64, 96)).window == (64, 96)


def test_findings_can_be_chosen(root):
    task = load_chestxray14(root, findings=["Hernia", "Mass"])
    assert task.classes == ("Hernia", "Mass")
    labels = np.concatenate([task.read(c).label for c in task.train + task.validation + task.test])
    assert Counter(map(tuple, labels.tolist())) == {(0, 0): 6, (0, 1): 3, (1, 0): 3}


def test_a_single_finding_may_be_a_text(root):
    assert load_chestxray14(root, findings="Mass").classes == ("Mass",)


@pytest.mark.parametrize("name", ["chestxray14", "chest"])
def test_images_of_one_folder_are_no_nuclei_in_the_folder_above(root, name):
    folder = root / name
    (folder / "images").mkdir(parents=True)
    for path in list(root.glob("images_*/images/*.png")):
        path.rename(folder / "images" / path.name)
    (root / TABLE).rename(folder / TABLE)
    if name == "chestxray14":
        assert verify(root).layout == "ChestX-ray14"
    else:
        with pytest.raises(DataError, match="no known layout"):
            verify(root)


def test_training_draws_single_images_of_patients(root):
    task = load_chestxray14(root, shares=(1.0, 0.0, 0.0))
    loading = LoadingConfig(augment=False)
    sampler = PatchSampler(task, task.train, batch_size=4, seed=0, loading=loading)
    batches = list(sampler.epoch(0))
    assert [images.shape for images, _ in batches] == [(4, 1, 64, 64)] * 3
    drawn = {
        image.numpy().tobytes(): label.tolist()
        for batch in batches
        for image, label in zip(*batch, strict=True)
    }
    samples = [task.read(case) for case in task.train]
    single = {
        image.tobytes(): label.tolist()
        for sample in samples
        for image, label in zip(sample.image, sample.label, strict=True)
    }
    assert drawn == single


@pytest.mark.parametrize(
    ("name", "end"), [("Data_Entry_2017.csv", ","), ("Data_Entry_2017_v2020_subset.csv", "")]
)
def test_other_names_of_the_table_are_read(root, name, end):
    (root / TABLE).unlink()
    (root / name).write_text(table_of(end=end))
    assert len(load_chestxray14(root).test) > 0


def test_official_lists_define_the_test_patients(root):
    write_lists(root, test_patients={2, 5})
    first, second = (load_chestxray14(root, split_seed=seed) for seed in (0, 3))
    for task in (first, second):
        assert {case.case_id for case in task.test} == {"00000002", "00000005"}
        assert (len(task.train), len(task.validation)) == (5, 1)
    assert first.validation != second.validation
    split = root / "split.yaml"
    split.write_text("train: ['00000002']\ntest: ['00000001']\n")
    assert load_chestxray14(root, split_file=split).test[0].case_id == "00000001"


def test_a_patient_on_both_sides_of_the_lists_is_refused(root):
    write_lists(root, test_patients={2, 5}, moved="00000002_001.png")
    with pytest.raises(LeakageError, match=r"test_list.txt: .* 00000002 \(train, test\)"):
        load_chestxray14(root)
    assert "00000002" in verify(root).problems[0].what


def test_lists_that_do_not_fit_the_images_are_named(root):
    write_lists(root, test_patients={2, 5})
    (root / LISTS[0]).write_text("00000001_000.png\n")
    with pytest.raises(DataError, match=r"got 8 \(00000003_000.png, .* in neither"):
        load_chestxray14(root)
    (root / LISTS[0]).unlink()
    with pytest.raises(DataError, match=r"train_val_list.txt: missing file, expected both"):
        load_chestxray14(root)
    (problem,) = verify(root).problems
    assert (problem.path, problem.hint) == (
        root / LISTS[0],
        "download it, or remove the other list",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (table_of(labels=["Masss"]), r"line 2: unknown finding 'Masss'; did you mean 'Mass'"),
        (table_of(labels=["No Finding|Mass"]), r"line 2: expected findings or 'No Finding', got"),
        (table_of(head="Image Index,Patient ID"), r"no column Finding Labels; expected the table"),
        (
            table_of() + line(names()[2], "Mass"),
            r"line 14: expected one row of each .*got 00000002",
        ),
        (table_of() + "a.png,Mass\n", r"line 14: 2 columns, expected those of the first line"),
        (table_of() + "a.png,Mass,0,,58\n", r"line 14: expected an image and a patient, got"),
        (table_of() + line("00000009_000.png", "Mass"), r"got 1 \(00000009_000.png\) without a fi"),
        ("\n".join(table_of().splitlines()[:-2]), r"got 2 \(.*00000008_001.png\) without a row"),
        (HEAD, r"no rows, expected one for each image"),
        ("", r"no column Image Index, Finding Labels, Patient ID; .* got an empty file"),
    ],
)
def test_a_table_that_does_not_fit_is_named(root, text, message):
    (root / TABLE).write_text(text)
    with pytest.raises(DataError, match=message):
        load_chestxray14(root)
    report = verify(root)
    assert (report.layout, report.ok) == ("ChestX-ray14", False)
    first = report.problems[0]
    assert first.path == root / TABLE
    assert str(root) not in first.what
    assert not first.hint.startswith("expected")


def test_grey_images_with_an_alpha_channel_are_read_and_others_named(root):
    path = image(root, names()[0])
    grey = Image.open(path)
    expected = verify(root).counts["sound cases"]
    grey.convert("RGBA").save(path)
    assert verify(root).counts["sound cases"] == expected == 12
    Image.merge("RGB", [grey, grey, grey.rotate(180)]).save(path)
    other = image(root, names()[1])
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 900).save(other)
    messages = {finding.path.name: finding.what for finding in verify(root).problems}
    assert "a colour image" in messages[path.name]
    assert "uint16 pixels" in messages[other.name]


def test_an_integrity_check_lists_repeated_and_constant_images(root):
    first, second, third = (image(root, name) for name in names()[:3])
    second.write_bytes(first.read_bytes())
    Image.fromarray(np.full((40, 64), 7, np.uint8)).save(third)
    report = verify(root)
    assert (report.ok, report.counts["cases"], report.counts["files"]) == (True, 12, 13)
    assert [finding.what.split(",")[0] for finding in report.warnings] == [
        "constant image",
        "case 00000002_000: the same scan as case 00000001_000",
    ]


def test_settings_and_folders_that_do_not_fit_are_refused(root):
    with pytest.raises(ConfigError, match=r"unknown finding 'masss'; did you mean 'Mass'"):
        load_chestxray14(root, findings=["masss"])
    with pytest.raises(ConfigError, match=r"one or more different findings, got Mass, Mass"):
        load_chestxray14(root, findings=["Mass", "Mass"])
    content = image(root, names()[0]).read_bytes()
    (root / "images").mkdir()
    (root / "images" / names()[0]).write_bytes(content)
    with pytest.raises(DataError, match=r"expected one file of each image, got also .*images"):
        load_chestxray14(root)
    (root / TABLE).rename(root / "Data_Entry_2017_mine.csv")
    (root / "Data_Entry_2017_other.csv").write_text(table_of())
    with pytest.raises(DataError, match=r"got Data_Entry_2017_mine.csv, Data_Entry_2017_other.csv"):
        load_chestxray14(root)


def test_the_real_subset_is_read(shared_data):
    folder = shared_data / "chestxray14"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    task = load_chestxray14(folder)
    cases = task.train + task.validation + task.test
    assert (len(cases), task.window) == (60, (224, 224))
    sample = task.read(next(case for case in cases if case.case_id == "00000282"))
    named = [FINDINGS[place] for place in np.flatnonzero(sample.label[0])]
    assert set(named) == {"Consolidation", "Effusion", "Infiltration", "Nodule"}
    assert -1 <= sample.image.min() < sample.image.max() <= 1
