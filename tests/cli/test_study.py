"""The command that a program prints to continue with."""

import shlex
from pathlib import Path

import pytest

from analogmed.cli.evaluation import EvalConfig
from analogmed.cli.parse import parse
from analogmed.cli.study import next_command
from analogmed.config import Experiment
from analogmed.training import TrainConfig

OPTIONS = (
    "{images: ['*_img.nii'], label: '*_seg.nii', classes: {tumour: [1]}, window: [16, 16, 16]}"
)
FILES = {
    "mine.yaml": f"task: {{name: nifti, root: scans, options: {OPTIONS}}}\n",
    "train.yaml": f"task: {{name: nifti, root: scans, options: {OPTIONS}}}\nepochs: 3\n",
    "reram.yaml": "hardware: {preset: reram, tile_size: 128}\n",
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)


def printed(*words):
    """Return the command to evaluate a training, and the settings that it has to have."""
    config = parse(TrainConfig, [*words, "--out", "runs/a"], prog="train")
    wanted = Experiment(task=config.task, checkpoints=(config.folder,), hardware=config.hardware)
    command = next_command("eval", wanted)
    assert parse(EvalConfig, shlex.split(command)[2:], prog="eval").experiment() == wanted
    return command


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["--config", "mine.yaml"], "--config mine.yaml"),
        (
            ["--config", "mine.yaml", "--task.split_seed", "3", "--hardware", "hermes"],
            "--config mine.yaml --task.split_seed 3 --hardware hermes",
        ),
        (
            ["--config", "reram.yaml", "--hardware", "hermes"],
            "--hardware hermes --hardware.tile_size 128",
        ),
        ([], ""),
    ],
)
def test_it_has_the_settings_file_and_what_differs_from_it(given, expected):
    assert printed(*given) == f"analogmed eval runs/a {expected}".strip()


def test_a_file_that_the_command_does_not_accept_is_written_out():
    assert "--config" not in printed("--config", "train.yaml")
    assert "--config" not in printed("--config", "mine.yaml", "--config", "reram.yaml")


def test_options_of_the_file_that_are_replaced_are_written_out():
    other = OPTIONS.replace("tumour", "lesion")
    command = printed("--config", "mine.yaml", "--task.options", other)
    assert "lesion" in command


def test_paths_are_plain_arguments():
    wanted = Experiment(checkpoints=(Path("a b.safetensors"), Path("c")))
    assert next_command("eval", wanted) == "analogmed eval 'a b.safetensors' c"
