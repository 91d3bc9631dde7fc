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
