import subprocess
import sys
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from analogmed.cli.main import run_command
from analogmed.cli.settings import VerifyConfig
from analogmed.config import Experiment, TaskConfig
from analogmed.data.datasets.nifti_folder import BRATS_IMAGES, BRATS_LABEL
from analogmed.foundation.errors import ConfigError
from analogmed.foundation.settings.paths import write_settings

main = partial(run_command, "data")


@pytest.fixture
def brain(tmp_path, capsys):
    assert main(["phantom", "brain", str(tmp_path), "--patients", "3", "--size", "48"]) == 0
    folder = tmp_path / "kaggle_3m"
    assert capsys.readouterr().out == f"{folder}\n"
    return folder


def test_a_sound_data_set_gives_exit_code_0(brain, capsys):
    assert main(["verify", str(brain)]) == 0
    assert "problems: 0" in capsys.readouterr().out


def test_problems_give_exit_code_1_and_a_table(brain, capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    mask = next(brain.glob("*/*_3_mask.tif"))
    mask.unlink()
    assert main(["verify", str(brain)]) == 1
    assert f"no {mask.name} in its folder" in capsys.readouterr().out


def test_the_settings_file_of_a_task_names_folder_and_patterns(tmp_path, capsys):
    case = tmp_path / "scans" / "p01"
    case.mkdir(parents=True)
    voxels = np.arange(512, dtype=np.int16).reshape(8, 8, 8)
    for part, values in (("mr", voxels), ("organ", (voxels > 300).astype(np.uint8))):
        nib.save(nib.Nifti1Image(values, np.eye(4)), case / f"p01_{part}.nii")
    settings = tmp_path / "mine.yaml"
    options = "{images: ['*_mr.nii'], label: '*_organ.nii', classes: {organ: [1]}}"
    settings.write_text(f"task: {{name: nifti, root: scans, options: {options}}}\n")
    assert main(["verify", "--config", str(settings)]) == 0
    assert "sound cases: 1, files: 2, problems: 0" in capsys.readouterr().out
    assert main(["verify", "--config", str(settings), "--images", "*_ct.nii"]) == 1
    assert "no file matches the patterns of images, *_ct.nii" in capsys.readouterr().err


def write_volumes(folder, values):
    """Write one case per patient, whose label has these values besides 0."""
    random = np.random.default_rng(0)
    for patient, present in values.items():
        (folder / patient).mkdir(parents=True)
        label = np.zeros((8, 8, 8), np.uint8)
        label[2 : 2 + len(present), 2:6, 2:6] = np.reshape(present, (-1, 1, 1))
        image = random.integers(1, 400, (8, 8, 8)).astype(np.int16)
        for part, data in (("mr", image), ("organ", label)):
            nib.save(nib.Nifti1Image(data, np.eye(4)), folder / patient / f"{patient}_{part}.nii")


SPLITS = {
    "patients that are in the data and in one part": (
        "train: [p1]\nvalidation: [p2]\ntest: [p3]\n", 0, "problems: 0, warnings: 0"
    ),
    "a patient in two parts": (
        "train: [p1, p2]\nvalidation: []\ntest: [p2, p3]\n", 1,
        "patients in more than one split: p2 (train, test)",
    ),
    "a patient that is not there": (
        "train: [p1, p9]\nvalidation: [p2]\ntest: [p3]\n", 1,
        "patients p9 are not in the data set; it has 3, for instance p1, p2, p3",
    ),
    "a patient in no split": ("train: [p1]\ntest: [p3]\n", 0, "1 of 3 patients is in no split: p2"),
    "a patient twice in a split": (
        "train: [p1, p2, p1]\ntest: [p3]\n", 0, "patients more than once in split train: p1"
    ),
    "a split that is none": ("train: [p1]\ntset: [p3]\n", 1, "'tset' is no split; did you mean"),
}  # fmt: skip


@pytest.mark.parametrize("name", SPLITS)
def test_the_split_file_of_a_task_is_checked(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    split, status, expected = SPLITS[name]
    write_volumes(tmp_path / "scans", {"p1_a": [1], "p1_b": [1], "p2_a": [1], "p3_a": [1]})
    (tmp_path / "split.yaml").write_text(split)
    options = "{images: ['*_mr.nii'], label: '*_organ.nii', classes: {organ: [1]}, "
    options += "patient_pattern: '^(p[0-9])'}"
    settings = tmp_path / "mine.yaml"
    settings.write_text(
        f"task: {{name: nifti, root: scans, split_file: split.yaml, options: {options}}}\n"
    )
    assert main(["verify", "--config", str(settings)]) == status
    assert expected in capsys.readouterr().out


def of_classes(folder, classes):
    options = f"{{images: ['*_mr.nii'], label: '*_organ.nii', classes: {classes}}}"
    return ["verify", str(folder), "--task", "nifti", "--task.options", options]


def test_classes_without_a_label_and_labels_without_a_class_are_listed(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "500")
    write_volumes(tmp_path, {"p1": [1], "p2": [1, 4], "p3": [4, 3]})
    assert main(of_classes(tmp_path, "{organ: [1], tumour: [2, 3], rim: [4]}")) == 0
    assert "problems: 0, warnings: 0" in capsys.readouterr().out
    assert main(of_classes(tmp_path, "{organ: [1], tumour: [2]}")) == 0
    found = " ".join(capsys.readouterr().out.split())
    assert (
        "no label file of 3 cases contains the values of tumour [2]; they contain 0, 1, 3, 4 "
        "correct task.options.classes" in found
    )
    for value, first, count in ((3, "p3", 1), (4, "p2", 2)):
        what = f"label value {value}, in {count} of 3 label files, is in no class"
        assert f"{first}/{first}_organ.nii {what} and becomes background" in found
    assert "warnings: 3" in found
    assert main(of_classes(tmp_path, "{organ: [7]}")) == 1
    assert "contains the values of organ [7]" in capsys.readouterr().out


def test_settings_that_do_not_suffice_are_a_warning(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    write_volumes(tmp_path, {"p1": [1]})
    options = "{images: ['*_mr.nii'], label: '*_organ.nii'}"
    words = ["verify", str(tmp_path), "--task", "nifti", "--task.options", options]
    assert main(words) == 0
    found = capsys.readouterr().out
    assert "split and classes are not checked: task 'nifti' needs the options classes" in found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ["--task", "nifti", "--task.options.clases", "{organ: [1]}"],
            "task 'nifti': unknown option 'clases'; did you mean 'classes'?",
        ),
        (["--task", "lgg"], "task 'lgg': unknown option 'images'; choose from:"),
        (
            ["--task.options.phantom_patient", "3"],
            "task 'phantom_brain': unknown option 'phantom_patient'; did you mean",
        ),
    ],
)
def test_an_unknown_option_of_a_task_is_an_error_before_any_file_is_read(
    given, message, tmp_path, capsys
):
    write_volumes(tmp_path, {"p1": [1]})
    words = ["verify", str(tmp_path), "--images", "*_mr.nii", "--label", "*_organ.nii"]
    assert main([*words, *given]) == 2
    written = capsys.readouterr()
    assert written.err.startswith(f"error: {message}")
    assert written.out == ""


def test_an_option_with_a_wrong_value_is_a_problem(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "500")
    write_volumes(tmp_path, {"p1": [1]})
    assert main(of_classes(tmp_path, "[organ]")) == 1
    assert "for instance {tumour: [1]}, got ['organ']" in capsys.readouterr().out


def test_a_split_file_of_a_phantom_is_checked_against_its_files(
    brain, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "500")
    split = tmp_path / "split.yaml"
    split.write_text("test: [p9]\n")
    assert main(["verify", str(brain), "--task.split_file", str(split)]) == 1
    assert "patients p9 are not in the data set" in " ".join(capsys.readouterr().out.split())
    assert list(brain.parent.iterdir()) == [brain, split]


def test_the_resolved_settings_of_a_run_name_the_folder(brain, tmp_path, capsys):
    settings = tmp_path / "run" / "experiment.yaml"
    settings.parent.mkdir()
    write_settings(settings, Experiment(task=TaskConfig("lgg", root=brain)))
    assert main(["verify", "--config", str(settings)]) == 0
    assert "sound cases: 3" in capsys.readouterr().out
    settings.write_text(f"task: {{name: lgg, root: {brain}}}\nchekpoints: []\n")
    assert main(["verify", "--config", str(settings)]) == 2
    assert "unknown key 'chekpoints'" in capsys.readouterr().err


def test_patterns_of_a_task_complete_each_other():
    def patterns(name, options, **given):
        return VerifyConfig(Path("x"), task=TaskConfig(name, options=options), **given).patterns

    assert patterns("nifti", {"images": "a", "label": "b"}, images=("c",)) == (("c",), "b")
    assert patterns("brats", {"label": "b"}) == (BRATS_IMAGES, "b")
    assert patterns("brats", {"images": ["a"]}) == (("a",), BRATS_LABEL)
    assert patterns("brats", {}) == ((), "")
    with pytest.raises(ConfigError, match=r"task.options.images: expected a list of texts, got No"):
        patterns("nifti", {"images": None, "label": "b"})


def test_errors_come_without_a_traceback(tmp_path, capsys):
    assert main(["verify", str(tmp_path / "none")]) == 1
    assert (
        capsys.readouterr().err == f"error: {tmp_path / 'none'}: no such folder; check the path\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "data: expected a sub-command; choose from: verify, phantom, download"),
        (["verfy"], "data: unknown sub-command 'verfy'; did you mean 'verify'?"),
        (["verify"], "missing FOLDER; expected analogmed data verify FOLDER, or --config"),
        (
            ["phantom", "knee", "x"],
            "kind: 'knee' is not known; choose from: brain, chest, ecg, nuclei",
        ),
        (["phantom", "brain", "x", "--seed", "one"], "seed"),
    ],
)
def test_wrong_usage_gives_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: {message}") or f'"{message}"' in captured.err
    assert captured.err.count("\n") == 1


def test_settings_out_of_range_give_exit_code_2(tmp_path, capsys):
    assert main(["phantom", "brain", str(tmp_path), "--size", "3"]) == 2
    assert "expected 32 to 512" in capsys.readouterr().err
    assert main(["download", "Task11", str(tmp_path)]) == 2
    assert "Task09_Spleen" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main(["phantom", "brain", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_help_without_a_sub_command_lists_them(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[:2] for line in text.splitlines() if line.startswith("  ")] == [
        ["data", "verify"],
        ["data", "phantom"],
        ["data", "download"],
    ]


def test_it_runs_as_a_module(brain):
    command = [sys.executable, "-m", "analogmed.data", "verify", str(brain)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert "cases: 3" in result.stdout
