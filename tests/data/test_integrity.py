import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from analogmed.data.datasets.dsb2018 import load_dsb2018
from analogmed.data.datasets.lgg import load_lgg
from analogmed.data.integrity import verify
from analogmed.data.phantoms.write import write_phantom
from analogmed.foundation.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    for kind in ("brain", "spleen", "nuclei"):
        write_phantom(kind, root, n_patients=4, size=48)
    return root


@pytest.fixture
def brain(whole, tmp_path):
    return shutil.copytree(whole / "kaggle_3m", tmp_path / "kaggle_3m")


@pytest.fixture
def spleen(whole, tmp_path):
    return shutil.copytree(whole / "Task09_Spleen", tmp_path / "Task09_Spleen")


@pytest.fixture
def nuclei(whole, tmp_path):
    return shutil.copytree(whole / "stage1_train", tmp_path / "stage1_train")


def found(findings):
    return {(finding.path.name, finding.what) for finding in findings}


def the_only(findings):
    assert len(findings) == 1, found(findings)
    return findings[0]


def save_nifti(path, data, affine):
    nib.save(nib.nifti1.Nifti1Image(data, affine), path)


def edit_json(folder, **changes):
    path = folder / "dataset.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


@pytest.mark.parametrize("folder", ["kaggle_3m", "Task09_Spleen", "stage1_train"])
def test_a_whole_data_set_has_no_problem(folder, whole):
    report = verify(whole / folder)
    assert report.ok, found(report.problems)
    assert report.counts["cases"] == report.counts["sound cases"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "layout", "n_cases", "n_files"),
    [
        ("lgg", "LGG", 10, 428),
        ("dsb2018", "DSB 2018", 120, 240),
        ("Task04_Hippocampus", "Decathlon", 60, 120),
    ],
)
def test_real_data_is_recognised_and_sound(folder, layout, n_cases, n_files, shared_data):
    report = verify(shared_data / folder)
    assert layout in report.layout
    assert report.ok, found(report.problems)
    assert (report.counts["cases"], report.counts["files"]) == (n_cases, n_files)


def test_slices_without_tumour_are_counted_as_the_source_says(shared_data):
    # 88 of the 214 slices show a tumour.
    assert verify(shared_data / "lgg").counts["empty masks"] == 214 - 88


def test_one_flipped_byte_inside_a_gzip_is_found(spleen):
    path = spleen / "imagesTr" / "spleen_2.nii.gz"
    header, content = nib.load(path).header, bytearray(gzip.decompress(path.read_bytes()))
    offset = int(header["vox_offset"]) + 10
    stored = bytearray(gzip.compress(content, compresslevel=0, mtime=0))
    # Uncompressed blocks: 10 bytes of gzip header and 5 of the block before the content.
    stored[15 + offset] ^= 1
    path.write_bytes(stored)
    assert np.asarray(nib.load(path).dataobj).shape == (48, 48, 12), "nibabel does not notice"
    problem = the_only(verify(spleen).problems)
    assert problem.path == path
    assert "CRC" in problem.what or "checksum" in problem.what


def test_every_problem_is_listed_not_only_the_first(spleen):
    (spleen / "imagesTr" / "spleen_1.nii.gz").write_bytes(b"")
    path = spleen / "labelsTr" / "spleen_2.nii.gz"
    path.write_bytes(path.read_bytes()[:-50])
    (spleen / "imagesTr" / "spleen_3.nii.gz").write_bytes(b"<!DOCTYPE html><html>quota</html>")
    (spleen / "labelsTr" / "spleen_4.nii.gz").unlink()
    report = verify(spleen)
    named = {(p.path.parent.name, p.path.name): p.what for p in report.problems}
    assert "empty file" in named["imagesTr", "spleen_1.nii.gz"]
    assert "truncated" in named["labelsTr", "spleen_2.nii.gz"]
    assert "web page" in named["imagesTr", "spleen_3.nii.gz"]
    assert "missing" in named["labelsTr", "spleen_4.nii.gz"]
    assert len(report.problems) == 4
    assert report.counts["sound cases"] == 0


def test_two_faults_in_one_case_are_both_listed(spleen):
    label = spleen / "labelsTr" / "spleen_1.nii.gz"
    volume = nib.load(label)
    data = np.asarray(volume.dataobj).copy()
    data[0, 0, 0] = 7
    save_nifti(label, data, volume.affine + np.eye(4) * 0.5)
    what = " ".join(problem.what for problem in verify(spleen).problems)
    assert "affine" in what
    assert "label values 7" in what


def test_a_label_of_another_shape_is_found_with_both_shapes(spleen):
    label = spleen / "labelsTr" / "spleen_1.nii.gz"
    volume = nib.load(label)
    save_nifti(label, np.asarray(volume.dataobj)[:, :, :-1].copy(), volume.affine)
    problem = the_only(verify(spleen).problems)
    assert "(48, 48, 12)" in problem.what
    assert "(48, 48, 11)" in problem.what


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": None, "modality": None}, "modality, labels"),
        ({"numTraining": 41}, "41"),
        ({"training": [{"image": "../../etc/passwd", "label": "./labelsTr/a.nii.gz"}]}, "leaves"),
    ],
)
def test_a_damaged_dataset_json_is_a_problem_and_the_files_are_checked_all_the_same(
    changes, words, spleen
):
    edit_json(spleen, **changes)
    (spleen / "imagesTr" / "spleen_3.nii.gz").write_bytes(b"")
    problems = {problem.path.name: problem.what for problem in verify(spleen).problems}
    assert words in problems["dataset.json"]
    assert "empty file" in problems["spleen_3.nii.gz"]


def test_a_dataset_json_that_is_not_json_is_a_problem(spleen):
    (spleen / "dataset.json").write_text("{")
    assert "not JSON" in the_only(verify(spleen).problems).what


def test_a_file_that_dataset_json_does_not_list_is_a_warning(spleen):
    shutil.copy(spleen / "imagesTr" / "spleen_1.nii.gz", spleen / "imagesTr" / "spleen_9.nii.gz")
    report = verify(spleen)
    assert report.ok
    assert the_only(report.warnings).path.name == "spleen_9.nii.gz"


def test_more_channels_than_dataset_json_names_are_a_problem(spleen):
    edit_json(spleen, modality={"0": "CT", "1": "PET"})
    assert "1 channels" in verify(spleen).problems[0].what


def test_the_same_scan_under_two_names_is_a_warning(spleen):
    for part in ("imagesTr", "labelsTr"):
        shutil.copy(spleen / part / "spleen_1.nii.gz", spleen / part / "spleen_3.nii.gz")
    report = verify(spleen)
    assert report.ok
    warning = the_only(report.warnings)
    assert "spleen_3: the same scan as case spleen_1" in warning.what


def test_an_empty_label_and_a_constant_image_are_flagged_and_accepted(spleen):
    for part, value in (("imagesTr", 40), ("labelsTr", 0)):
        path = spleen / part / "spleen_1.nii.gz"
        volume = nib.load(path)
        save_nifti(path, np.full(volume.shape, value, volume.get_data_dtype()), volume.affine)
    report = verify(spleen)
    assert report.ok
    assert {warning.what for warning in report.warnings} == {
        "case spleen_1: the label is all background",
        "constant image, every value is 40",
    }


def test_a_slice_without_mask_and_a_mask_without_slice_are_both_found(brain):
    patient = brain / "TCGA_PH_0001_20000101"
    (patient / f"{patient.name}_2_mask.tif").unlink()
    (patient / f"{patient.name}_5.tif").unlink()
    problems = verify(brain).problems
    assert {problem.path.name for problem in problems} == {
        f"{patient.name}_2.tif",
        f"{patient.name}_5_mask.tif",
    }


def test_a_damaged_slice_and_an_odd_mask_are_found_in_one_run(brain):
    first, second = (brain / f"TCGA_PH_000{n}_20000101" for n in (1, 2))
    damaged = first / f"{first.name}_1.tif"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    odd = second / f"{second.name}_3_mask.tif"
    tifffile.imwrite(odd, np.full((48, 48), 17, np.uint8), metadata=None)
    problems = {problem.path: problem.what for problem in verify(brain).problems}
    assert problems.keys() == {damaged, odd}
    assert "17" in problems[odd]


def test_a_patient_without_any_tumour_is_flagged(brain):
    for path in (brain / "TCGA_PH_0002_20000101").glob("*_mask.tif"):
        tifffile.imwrite(path, np.zeros((48, 48), np.uint8), metadata=None)
    report = verify(brain)
    assert report.ok
    assert "TCGA_PH_0002_20000101: the label is all background" in the_only(report.warnings).what


def test_a_field_without_nuclei_has_a_label_of_zeros(nuclei):
    field = min(path for path in nuclei.iterdir() if path.is_dir())
    shutil.rmtree(field / "masks")
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(field / "label.png")
    report = verify(nuclei)
    assert report.ok
    assert "the label is all background" in the_only(report.warnings).what
    task = load_dsb2018(nuclei)
    (case,) = (c for c in task.train + task.validation + task.test if c.case_id == field.name)
    assert not task.read(case).label.any()


def test_a_mask_of_another_size_and_fields_without_masks_or_image_are_found(nuclei):
    first, second = sorted(path for path in nuclei.iterdir() if path.is_dir())[:2]
    mask = next((first / "masks").iterdir())
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(mask)
    shutil.rmtree(second / "masks")
    third = sorted(path for path in nuclei.iterdir() if path.is_dir())[2]
    shutil.rmtree(third / "images")
    problems = {problem.path: problem.what for problem in verify(nuclei).problems}
    assert problems.keys() == {mask, second, third}
    assert "(10, 10)" in problems[mask]
    assert "no label" in problems[second]


def test_a_label_without_image_and_any_other_folder_are_found(nuclei):
    first, second = sorted(path for path in nuclei.iterdir() if path.is_dir())[:2]
    shutil.rmtree(first / "images")
    (first / "masks").rename(second / "other")
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(first / "label.png")
    (nuclei / "notes").mkdir()
    problems = {problem.path: problem.what for problem in verify(nuclei).problems}
    assert problems == dict.fromkeys((first, nuclei / "notes"), "0 PNG in images, expected 1")
    with pytest.raises(DataError, match="0 PNG"):
        load_dsb2018(nuclei)
    shutil.rmtree(first)
    assert load_dsb2018(nuclei).test


def test_a_brats_case_that_lacks_a_channel_is_found(tmp_path):
    affine = np.eye(4)
    for case in ("BraTS_001", "BraTS_002"):
        (tmp_path / case).mkdir()
        for part in ("flair", "t1", "t1ce", "t2", "seg"):
            data = np.zeros((8, 8, 8), np.uint8)
            data[2:5, 2:5, 2:5] = 4 if part == "seg" else 100 + len(part) + int(case[-1])
            save_nifti(tmp_path / case / f"{case}_{part}.nii.gz", data, affine)
    assert verify(tmp_path).ok
    (tmp_path / "BraTS_002" / "BraTS_002_t1ce.nii.gz").unlink()
    problem = the_only(verify(tmp_path).problems)
    assert problem.path == tmp_path / "BraTS_002"
    assert "t1ce" in problem.what
    for path in (tmp_path / "BraTS_002").glob("*_[ft]*"):
        path.unlink()
    assert "label without image" in the_only(verify(tmp_path).problems).what


def test_folders_with_an_image_and_a_label_are_no_broken_brats_set(tmp_path):
    for number in (1, 2):
        case = tmp_path / f"p0{number}"
        case.mkdir()
        data = np.arange(512, dtype=np.int16).reshape(8, 8, 8) * number
        save_nifti(case / f"p0{number}_img.nii.gz", data, np.eye(4))
        save_nifti(case / f"p0{number}_seg.nii.gz", (data > 300).astype(np.uint8) * 7, np.eye(4))
    report = verify(tmp_path)
    assert (report.layout, report.problems) == ("folders of NIfTI files", ())
    assert (report.counts["sound cases"], report.counts["files"]) == (2, 4)
    save_nifti(case / "p02_seg.nii.gz", np.full((8, 8, 8), 0.4, np.float32), np.eye(4))
    assert "not integers" in the_only(verify(tmp_path).problems).what


@pytest.fixture
def two_folders(tmp_path):
    """Two cases of different sizes, as images/NAME_0000.nii.gz and labels/NAME.nii.gz."""
    for number, depth in enumerate((8, 9), start=1):
        data = np.arange(64 * depth, dtype=np.int16).reshape(8, 8, depth)
        for part, name, values in (
            ("images", f"p{number}_0000.nii.gz", data),
            ("labels", f"p{number}.nii.gz", (data > 300).astype(np.uint8)),
        ):
            (tmp_path / part).mkdir(exist_ok=True)
            save_nifti(tmp_path / part / name, values, np.eye(4))
    return tmp_path


@pytest.mark.parametrize("renamed", [False, True])
def test_a_folder_of_images_and_one_of_labels_are_pairs_of_files(two_folders, renamed):
    if renamed:
        for path in (two_folders / "images").iterdir():
            path.rename(path.with_name(path.name.replace("_0000", "")))
    report = verify(two_folders)
    assert report.ok, found(report.problems)
    assert (report.counts["cases"], report.counts["sound cases"]) == (2, 2)
    save_nifti(two_folders / "labels/p2.nii.gz", np.full((8, 8, 9), 0.4, np.float32), np.eye(4))
    assert "not integers" in the_only(verify(two_folders).problems).what


def test_labels_below_another_folder_are_no_pairs(two_folders):
    (two_folders / "more").mkdir()
    (two_folders / "labels").rename(two_folders / "more" / "labels")
    problems = [problem.what for problem in verify(two_folders).problems]
    assert not [what for what in problems if "have no file" in what or "no name like" in what]


def test_files_of_two_folders_without_a_partner_are_problems(two_folders):
    (two_folders / "labels/p1.nii.gz").rename(two_folders / "labels/p3.nii.gz")
    shutil.copy(two_folders / "labels/p2.nii.gz", two_folders / "labels/p4.nii")
    report = verify(two_folders)
    assert {path: what.partition(" (")[0] for path, what in found(report.problems)} == {
        two_folders.name: "1 of 2 cases have no file 'labels/*.nii.gz': p1",
        "p3.nii.gz": "label without image",
        "p4.nii": "no name like images/*_0000.nii.gz or labels/*.nii.gz, as most files here have",
    }


def test_patterns_of_the_loader_choose_the_files(two_folders):
    (two_folders / "images").rename(two_folders / "scans")
    assert not verify(two_folders).ok, "volumes of a folder of another name are one case"
    patterns = {"images": ["scans/p*_0000.nii.gz"], "label": "labels/p*.nii.gz"}
    assert verify(two_folders, **patterns).counts["sound cases"] == 2
    (two_folders / "labels/p1.nii.gz").unlink()
    assert ": 1 (" in the_only(verify(two_folders, **patterns).problems).what
    with pytest.raises(ConfigError, match="expected both or none"):
        verify(two_folders, images=["scans/*.nii.gz"])


@pytest.mark.parametrize("parts", [("t2f", "t1n", "t1c", "t2w"), ("t2f",)])
def test_the_names_of_brats_2023_are_brats(tmp_path, parts):
    for part in (*parts, "seg"):
        data = np.arange(64, dtype=np.uint8).reshape(4, 4, 4) % 4 * (1 if part == "seg" else 50)
        save_nifti(tmp_path / f"BraTS-{part}.nii.gz", data, np.eye(4))
    assert verify(tmp_path).layout == "BraTS"


def test_the_real_ct_example_is_sound(shared_data):
    report = verify(shared_data / "totalsegmentator_example")
    assert (report.layout, report.problems) == ("folders of NIfTI files", ())


def test_volumes_of_one_folder_that_lie_elsewhere_are_found(tmp_path):
    (tmp_path / "case").mkdir()
    data = np.arange(64, dtype=np.int16).reshape(4, 4, 4)
    save_nifti(tmp_path / "case" / "a.nii", data, np.eye(4))
    save_nifti(tmp_path / "case" / "b.nii", data, np.diag([1, 1, 3, 1]))
    assert "affine" in the_only(verify(tmp_path).problems).what


def test_the_report_is_a_readable_table(spleen):
    (spleen / "imagesTr" / "spleen_1.nii.gz").write_bytes(b"")
    text = str(verify(spleen))
    assert "imagesTr/spleen_1.nii.gz" in text
    assert "empty file (0 bytes)" in text
    assert "download it again" in text
    assert "problems: 1" in text


def test_on_a_narrow_terminal_the_table_is_folded(spleen, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    (spleen / "dataset.json").write_text("{}")
    lines = str(verify(spleen)).splitlines()[1:]
    assert max(map(len, lines)) <= 70


def test_names_with_markup_are_shown_as_they_are(nuclei):
    odd = nuclei / "[red]id"
    (odd / "images").mkdir(parents=True)
    assert "[red]id" in str(verify(nuclei))


def test_folders_of_unknown_layout_are_refused(tmp_path):
    with pytest.raises(DataError, match="no known layout"):
        verify(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        verify(tmp_path / "missing")


def test_a_root_of_several_data_sets_is_refused_with_their_names(whole):
    with pytest.raises(DataError, match=r"several data sets .*kaggle_3m.*Task09_Spleen"):
        verify(whole)


@pytest.mark.parametrize("name", ["kaggle_3m", "stage1_train"])
def test_hidden_folders_are_neither_checked_nor_loaded(name, whole, tmp_path):
    folder = shutil.copytree(whole / name, tmp_path / name)
    first = min(path for path in folder.iterdir() if path.is_dir())
    shutil.copytree(first, folder / ".snapshot")
    load = {"kaggle_3m": load_lgg, "stage1_train": load_dsb2018}[name]
    assert not verify(folder).warnings
    task = load(folder)
    assert len(task.train + task.validation + task.test) == 4
